"""progress.jsonl: one line per step or validation, readable while the run goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whet.engine import checkpoint

FLUSH_SECONDS = 1.0


class Journal:
    """Writes lines and tells `watch` of each. In processes other than the main one it does neither."""

    def __init__(self, path: Path, length: int, watch: Callable[[dict[str, Any]], None], *, writes: bool) -> None:
        self.path, self.watch, self.flushed = path, watch, time.monotonic()
        self.file = None
        if writes:
            path.touch()
            self.file = path.open("r+b")
            self.file.seek(self.whole_lines(length))
            self.file.truncate()

    def whole_lines(self, length: int) -> int:
        """Where writing goes on: after `length` bytes, or, where the file has been cut short, after its last whole
        line."""
        assert self.file is not None
        found = self.file.read(length)
        if len(found) == length:
            return length
        self.watch({"note": f"{self.path.name} has lost its end; what is left of it is kept"})
        return found.rfind(b"\n") + 1

    def write(self, line: dict[str, Any], **shown: Any) -> None:
        """Write a line; `shown` goes to the watcher with it, not into the file."""
        if self.file is None:
            return
        self.file.write(json.dumps(line).encode() + b"\n")
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.file.flush()
            self.flushed = time.monotonic()
        self.watch({**line, **shown})

    def secure(self) -> int:
        """Put everything written on the disk; returns the length in bytes."""
        if self.file is None:
            return 0
        self.file.flush()
        checkpoint.flush(self.path)
        return self.file.tell()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
