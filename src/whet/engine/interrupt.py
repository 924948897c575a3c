"""Ctrl-C and polite kills: the first lets the step end and the run be saved, the second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Asked:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.to_stop = False


@contextmanager
def interruptions() -> Iterator[Asked]:
    """Catch SIGINT and SIGTERM while training; what handled them before does so again after the first."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # Python delivers signals to the main thread only; elsewhere the caller has to handle them
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_: Any) -> None:
        asked.to_stop = True
        put_back()

    for number in before:
        signal.signal(number, stop)
    try:
        yield asked
    finally:
        put_back()
