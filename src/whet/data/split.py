"""Training, validation and test rows: given files as they are, else a stratified seeded split of the rows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from whet.data.check import Columns, Findings, Rows, Wishes, same_text
from whet.data.earlier import Earlier, read_earlier
from whet.data.read import read
from whet.data.reading import Labelled, Reading, in_order
from whet.data.stratify import divide
from whet.errors import DataError

__all__ = ["Dataset", "in_order", "prepare", "same_text", "split"]


@dataclass(frozen=True)
class Dataset:
    """The three parts, the names of a head's outputs in their order, and what was found on the way. `test` may be
    empty; `earlier` are the rows of an earlier task, where there are any; `reading` is how the rows were read."""

    train: Rows
    valid: Rows
    test: Rows
    labels: tuple[str, ...]
    columns: Columns
    findings: Findings
    earlier: Earlier | None = None
    reading: Reading = Labelled

    @property
    def fingerprints(self) -> dict[str, str]:
        earlier = {"remember": self.earlier.rows.fingerprint} if self.earlier else {}
        return {part: getattr(self, part).fingerprint for part in ("train", "valid", "test")} | earlier


def prepare(
    source: Any,
    *,
    text: str | None = None,
    label: str | None = None,
    text_b: str | None = None,
    valid: float | str = 0.15,
    test: float | str = 0.15,
    remember: str | None = None,
    clean_labels: bool = False,
    seed: int = 0,
    reading: Reading = Labelled,
) -> Dataset:
    """Read, check and split. Shares are of the rows of `source`; files are used as given. `remember` is a file of rows
    of an earlier task; `reading` is how the task reads rows.

    Raises `DataError` or `PathError` where the rows cannot be learnt from.
    """
    findings = Findings()
    table = read(source)
    columns, notes = reading.columns(table, Wishes(text, label, text_b))
    findings.notes += notes
    train = reading.check(table, columns, findings, clean_labels=clean_labels)
    parts: dict[str, Rows] = {}
    for name, given in (("test", test), ("valid", valid)):
        if isinstance(given, str):
            own = read(given)
            there, _ = reading.columns(own, Wishes(**columns.given()))
            known = reading.names(train, columns)
            parts[name] = reading.check(own, there, findings, clean_labels=clean_labels, known=known)
    shares = {name: share for name, share in (("test", test), ("valid", valid)) if isinstance(share, float | int)}
    reading.refuse_too_little(train, findings)
    _refuse_no_rows_left(train, shares)
    train, made = split(train, shares, seed, reading.strata(train))
    parts.update(made)
    labels = reading.names(train, columns)
    for name in ("valid", "test"):
        reading.refuse_unknown(parts[name], labels)
    if not len(parts["valid"]):
        raise DataError(
            f"{train.name}: no row can be spared for validation, which chooses the best weights: "
            "every label needs a row to train on. Add rows, or give --valid a file"
        )
    if shares.get("test") and not len(parts["test"]):
        findings.notes.append("no row could be spared for the test: every label needs a row to train on")
    _report_overlap(findings, {"train": train, **parts})
    reading.notice(train, findings)
    reading.notice_parts({"train": train, **parts}, findings)
    earlier = None
    if remember is not None:
        earlier = read_earlier(remember, columns, findings, clean_labels=clean_labels, seed=seed)
    return Dataset(train, parts["valid"], parts["test"], labels, columns, findings, earlier, reading)


def _refuse_no_rows_left(rows: Rows, shares: dict[str, float]) -> None:
    if sum(shares.values()) >= 1:
        raise DataError(f"the shares for {' and '.join(shares)} leave no rows to train on")
    if shares and len(rows) < 4:
        raise DataError(f"{rows.name}: {len(rows)} rows are too few to divide; give --valid and --test as files")


def split(
    rows: Rows, shares: dict[str, float], seed: int, strata: Sequence[str] | Sequence[tuple[str, ...]] | None = None
) -> tuple[Rows, dict[str, Rows]]:
    """Take the given shares out of the rows: stratified by `strata` (the rows' labels where they are not given; one or
    any number for each row), seeded, equal texts kept on one side.

    Every label keeps at least one row for training; a label with too few rows may miss a part. Each share above 0
    gives at least one row where one can be spared, the last named first. Returns what is left and the parts, rows
    in their given order.
    """
    labels: Sequence[Any] = rows.labels if strata is None else strata
    same: dict[str, list[int]] = defaultdict(list)
    for position, key in enumerate(rows.keys):
        same[key].append(position)
    bunches = list(same.values())
    several = any(isinstance(label, tuple) for label in labels)
    taken = (divide if several else _by_one_label)(labels, bunches, shares, seed)
    out = {position for positions in taken.values() for position in positions}
    kept = rows.take([position for position in range(len(rows)) if position not in out])
    return kept, {name: rows.take(sorted(positions)) for name, positions in taken.items()}


def _by_one_label(
    labels: Sequence[Any], all_bunches: Sequence[list[int]], shares: dict[str, float], seed: int
) -> dict[str, list[int]]:
    """Which rows each part takes. `all_bunches` are positions of rows that must stay together, under the label of the
    first."""
    chance = random.Random(f"whet split {seed}")
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for positions in all_bunches:
        by_label[labels[positions[0]]].append(positions)
    left = Counter(labels)

    def spare(bunches: list[list[int]]) -> list[int]:
        """Take away the last bunch that no label needs as its last training rows; empty when there is none."""
        for place in reversed(range(len(bunches))):
            counts = Counter(labels[position] for position in bunches[place])
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
    return taken


def _report_overlap(findings: Findings, parts: dict[str, Rows]) -> None:
    keys = {name: set(rows.keys) for name, rows in parts.items()}
    what = "pairs of texts" if parts["train"].seconds else "texts"
    for left, right in (("train", "test"), ("train", "valid"), ("valid", "test")):
        both = keys[left] & keys[right]
        if both:
            example = min(both, key=lambda text: (len(text), text))[:60]
            findings.notes.append(
                f"{len(both)} {what} stand in both {left} and {right} (for example {example!r})"
                f"{_swapped(parts, left, right)}: scores on them say little about new texts"
            )


def _swapped(parts: dict[str, Rows], left: str, right: str) -> str:
    """How many of the pairs in both parts stand there in the other order only, in words."""
    if not parts[left].seconds:
        return ""
    here, there = (
        {(same_text(a), same_text(b)) for a, b in zip(parts[name].texts, parts[name].seconds, strict=True)}
        for name in (left, right)
    )
    turned = sum((b, a) in there and (a, b) not in there for a, b in here)
    return f", {turned} of them swapped" if turned else ""
