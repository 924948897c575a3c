"""Training, validation and test rows: given files as they are, else a stratified seeded split of the rows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from whet.data.check import Columns, Findings, Rows, check, find_columns
from whet.data.earlier import Earlier, read_earlier
from whet.data.read import read
from whet.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Dataset:
    """The three parts, the labels in their order, and what was found on the way. `test` may be empty; `earlier` are
    the rows of an earlier task, where there are any."""

    train: Rows
    valid: Rows
    test: Rows
    labels: tuple[str, ...]
    columns: Columns
    findings: Findings
    earlier: Earlier | None = None

    @property
    def fingerprints(self) -> dict[str, str]:
        earlier = {"remember": self.earlier.rows.fingerprint} if self.earlier else {}
        return {part: getattr(self, part).fingerprint for part in ("train", "valid", "test")} | earlier


def prepare(
    source: Any,
    *,
    text: str | None = None,
    label: str | None = None,
    valid: float | str = 0.15,
    test: float | str = 0.15,
    remember: str | None = None,
    clean_labels: bool = False,
    seed: int = 0,
) -> Dataset:
    """Read, check and split. Shares are of the rows of `source`; files are used as given. `remember` is a file of rows
    of an earlier task.

    Raises `DataError` or `PathError` where the rows cannot be learnt from.
    """
    findings = Findings()
    table = read(source)
    columns, notes = find_columns(table, text, label)
    findings.notes += notes
    train = check(table, columns, findings, clean_labels=clean_labels)
    parts: dict[str, Rows] = {}
    for name, given in (("test", test), ("valid", valid)):
        if isinstance(given, str):
            own = read(given)
            known, _ = find_columns(own, columns.text, columns.label)
            parts[name] = check(own, known, findings, clean_labels=clean_labels, known=set(train.labels))
    shares = {name: share for name, share in (("test", test), ("valid", valid)) if isinstance(share, float | int)}
    _refuse_too_little(train, shares, findings)
    train, made = split(train, shares, seed)
    parts.update(made)
    labels = in_order(set(train.labels))
    for name in ("valid", "test"):
        _refuse_unknown(parts[name], labels)
    if not len(parts["valid"]):
        raise DataError(
            f"{train.name}: no row can be spared for validation, which chooses the best weights: "
            "every label needs a row to train on. Add rows, or give --valid a file"
        )
    if shares.get("test") and not len(parts["test"]):
        findings.notes.append("no row could be spared for the test: every label needs a row to train on")
    _report_overlap(findings, {"train": train, **parts})
    _report_small(findings, train)
    earlier = None
    if remember is not None:
        earlier = read_earlier(remember, columns, findings, clean_labels=clean_labels, seed=seed)
    return Dataset(train, parts["valid"], parts["test"], labels, columns, findings, earlier)


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels as they number a head's outputs."""
    return tuple(sorted(labels, key=_by_number))


def same_text(text: str) -> str:
    """What two texts have in common that count as the same: not case, nor how words are spaced."""
    return " ".join(text.casefold().split())


def _by_number(label: str) -> tuple[int, float, str]:
    """Labels that are numbers in the order of the numbers, others by letter."""
    return (0, float(label), label) if label.lstrip("-").isdigit() else (1, 0.0, label)


def _refuse_too_little(rows: Rows, shares: dict[str, float], findings: Findings) -> None:
    counts = Counter(rows.labels)
    if len(counts) < 2:
        only = next(iter(counts))
        gone = ", ".join(f"{count} with {reason}" for reason, count in findings.dropped.items())
        raise DataError(
            f"{rows.name}: every row {f'that can be used ({gone} left out) ' if gone else ''}has the label {only!r}; "
            "two or more different labels are needed. "
            "Is --label the right column?"
        )
    if len(counts) > len(rows) / 2 and len(rows) >= 10:
        raise DataError(
            f"{rows.name}: {len(counts)} different labels in {len(rows)} rows, fewer than two rows each. "
            "Is --label the right column?"
        )
    if sum(shares.values()) >= 1:
        raise DataError(f"the shares for {' and '.join(shares)} leave no rows to train on")
    if shares and len(rows) < 4:
        raise DataError(f"{rows.name}: {len(rows)} rows are too few to divide; give --valid and --test as files")


def split(rows: Rows, shares: dict[str, float], seed: int) -> tuple[Rows, dict[str, Rows]]:
    """Take the given shares out of the rows: stratified by label, seeded, equal texts kept on one side.

    Every label keeps at least one row for training; a label with too few rows may miss a part. Each share above 0
    gives at least one row where one can be spared, the last named first. Returns what is left and the parts, rows
    in their given order.
    """
    chance = random.Random(f"whet split {seed}")
    same: dict[str, list[int]] = defaultdict(list)
    for position, text in enumerate(rows.texts):
        same[same_text(text)].append(position)
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for positions in same.values():
        by_label[rows.labels[positions[0]]].append(positions)
    left = Counter(rows.labels)

    def spare(bunches: list[list[int]]) -> list[int]:
        """Take away the last bunch that no label needs as its last training rows; empty when there is none."""
        for place in reversed(range(len(bunches))):
            counts = Counter(rows.labels[position] for position in bunches[place])
            if all(left[label] > count for label, count in counts.items()):
                left.subtract(counts)
                return bunches.pop(place)
        return []

    taken: dict[str, list[int]] = {name: [] for name in shares}
    owed = dict.fromkeys(shares, 0.0)
    for label in sorted(by_label):
        bunches = by_label[label]
        chance.shuffle(bunches)
        size = sum(len(bunch) for bunch in bunches)
        for name, share in shares.items():
            # What rounding kept back from one label is owed by the next, so that the part reaches its size.
            owed[name] += share * size
            while owed[name] >= 0.5 and (bunch := spare(bunches)):
                taken[name] += bunch
                owed[name] -= len(bunch)
    rest = sorted((bunch for label in sorted(by_label) for bunch in by_label[label]), key=len, reverse=True)
    for name in reversed(shares):
        if shares[name] and not taken[name]:
            taken[name] = spare(rest)
    out = {position for positions in taken.values() for position in positions}
    kept = rows.take([position for position in range(len(rows)) if position not in out])
    return kept, {name: rows.take(sorted(positions)) for name, positions in taken.items()}


def _refuse_unknown(part: Rows, labels: tuple[str, ...]) -> None:
    for line, label in zip(part.lines, part.labels, strict=True):
        if label not in labels:
            raise DataError(
                f"unknown label {label!r} ({part.name}, row {line}): it does not occur in the training rows; "
                f"{did_you_mean(label, labels)}"
            )


def _report_overlap(findings: Findings, parts: dict[str, Rows]) -> None:
    keys = {name: {same_text(text) for text in rows.texts} for name, rows in parts.items()}
    for left, right in (("train", "test"), ("train", "valid"), ("valid", "test")):
        both = keys[left] & keys[right]
        if both:
            example = min(both, key=lambda text: (len(text), text))[:60]
            findings.notes.append(
                f"{len(both)} texts stand in both {left} and {right} (for example {example!r}): "
                "scores on them say little about new texts"
            )


def _report_small(findings: Findings, train: Rows) -> None:
    few = {label: count for label, count in Counter(train.labels).items() if count < 5}
    if few:
        shown = ", ".join(f"{label} ({count})" for label, count in sorted(few.items(), key=lambda item: item[1])[:5])
        findings.notes.append(f"{len(few)} labels have fewer than 5 training rows: {shown}")
