"""Other libraries kept from the person's screen: whet says what matters itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import transformers


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Within, no loading bars, notices, warnings and log lines of libraries."""
    level, bar = transformers.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()
    disabled = logging.root.manager.disable
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(disabled)
            transformers.logging.set_verbosity(level)
            if bar:
                transformers.logging.enable_progress_bar()
