"""What can go wrong.

    WhetError
      UsageError          the call was wrong; exit code 2
        SettingsError       an option's name or value (all wrong ones in one message)
        StrategyError       a strategy's name or arguments, or one that the model does not allow
        SelectionError      a selection of layers that finds nothing
        LengthError         a length without a unit
        PathError           a file, folder, model or column that is not there, or not ours to write
      DataError           the rows cannot be learnt from; exit code 1
      ModelError          the model cannot be loaded, divided or saved
      TrainingError       the run had to stop
        NonFiniteError      a loss or gradient that is not a number
      RunError            the run folder does not allow what was asked
      Interrupted         stopped by the person; the run can be resumed

Whoever catches one of these prints its text and nothing else: each text says what was wrong, where,
and what to do about it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class WhetError(Exception):
    """Base of all errors that whet raises on purpose."""

    exit_code = 1


class UsageError(WhetError):
    exit_code = 2


class SettingsError(UsageError):
    pass


class StrategyError(UsageError):
    pass


class SelectionError(UsageError):
    pass


class LengthError(UsageError):
    pass


class PathError(UsageError):
    pass


class DataError(WhetError):
    pass


class ModelError(WhetError):
    pass


class TrainingError(WhetError):
    pass


class NonFiniteError(TrainingError):
    pass


class RunError(WhetError):
    pass


class Interrupted(WhetError):
    exit_code = 130


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that a wrong one most likely means: like it in letters, its initials (`lr`), or a part of it."""
    folded = {name.casefold(): name for name in sorted(set(known), reverse=True)}
    begun = [name for name in folded if name.startswith(word.casefold()) and len(word) > 2]
    near = begun if len(begun) == 1 else difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    parts = re.split(r"[_-]", word.casefold())
    near += [name for name in folded if parts == ["".join(part[:1] for part in re.split(r"[_-]", name))]]
    near += [part for part in parts if part in folded]
    return folded[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str], most: int = 12) -> str:
    """The nearest known name as a question, or the first names when none is near."""
    names = sorted(set(known))
    near = nearest(word, names)
    if near is not None:
        return f"did you mean {near}?"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"known are: {', '.join(names[:most])}{more}" if names else "there are none"
