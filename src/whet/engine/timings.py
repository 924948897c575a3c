"""What was timed on this machine with one model, kept in a file, and the rates that follow for the work at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ValidationError

from whet.plan.price import Batch, Footprint, Line, Rates, Work

NEAR = 1.25
"""A timed shape stands for another where neither tokens nor widths differ by more than this factor."""
QUANTILES = (0.1, 0.5, 0.95)
"""Of all tokens that go through the model: the batches in which these lie are timed."""


class Shape(NamedTuple):
    rows: int
    width: int

    def near(self, other: Shape) -> bool:
        tokens, others = self.rows * self.width, other.rows * other.width
        return max(tokens, others) <= NEAR * min(tokens, others) and max(self.width, other.width) <= NEAR * min(
            self.width, other.width
        )


class Point(BaseModel):
    """A timed pass: its shape, its seconds, and how many more it took the first time."""

    rows: int
    width: int
    seconds: float
    first: float

    @property
    def shape(self) -> Shape:
        return Shape(self.rows, self.width)


class Timings(BaseModel):
    """Timed passes by kind (moving, passing, still, exact) of at most about `most` tokens, and what else `Rates` is
    made of; 0 or nothing until it is timed. `stopped`: there was no time for more shapes. `footprint` is kept beside,
    which takes as long to find."""

    footprint: Footprint | None = None
    most: int = 0
    stopped: bool = False
    passes: dict[str, list[Point]] = {}
    shares: dict[str, float] = {}
    number: dict[str, float] = {}
    table: float = 0.0
    pull: float = 0.0
    vectors: float = 0.0
    step: float = 0.0
    save: float = 0.0
    byte: float = 0.0

    def near(self, kind: str, shape: Shape) -> Point | None:
        """The timed pass of a kind that stands for a shape, the latest first."""
        return next((point for point in reversed(self.passes.get(kind, [])) if point.shape.near(shape)), None)

    def wanted(self, work: Work) -> dict[str, list[Shape]]:
        """The shapes that stand for this work, by the kind of pass."""
        trained, alone = shapes_of(work.trained, self.most), shapes_of((*work.once, *work.test), self.most)
        # In fp32 only the test rows are passed, once: the smallest shape and one of the usual have to do.
        return {"moving": trained, "passing": trained, "still": alone, "exact": [alone[0], alone[len(alone) // 2]]}

    def lacks(self, work: Work, optimizers: Iterable[str]) -> bool:
        """Is anything untimed that the rates for this work need?"""
        if not self.most or not self.number.keys() >= set(optimizers):
            return True
        return not self.stopped and any(
            self.near(kind, shape) is None for kind, shapes in self.wanted(work).items() for shape in shapes
        )

    def rates(self, work: Work) -> Rates:
        """The rates for this work, for which nothing may be lacking."""
        lines: dict[str, Line] = {}
        firsts: dict[str, float] = {}
        for kind, shapes in self.wanted(work).items():
            found = [point for shape in shapes if (point := self.near(kind, shape))] or self.passes[kind]
            lines[kind] = line_through([(Batch(*point.shape), point.seconds) for point in found])
            firsts[kind] = sum(point.first for point in found) / len(found)
        return Rates(
            **lines,
            shares=self.shares,
            number=self.number,
            table=self.table,
            pull=self.pull,
            vectors=self.vectors,
            step=self.step,
            first=(firsts["moving"], firsts["still"]),
            save=self.save,
            byte=self.byte,
        )


def shapes_of(batches: Sequence[Batch], most: int) -> list[Shape]:
    """A few shapes that stand for all: those at quantiles of the tokens, the widest, and two rows of the least width
    for what a batch costs whatever is in it. Rows are left out of those with more than `most` tokens."""
    ordered = sorted(batches, key=lambda batch: batch.tokens)
    passed = np.cumsum([batch.tokens * batch.times for batch in ordered])
    places = [int(np.searchsorted(passed, share * passed[-1])) for share in QUANTILES]
    widest = max(batches, key=lambda batch: (batch.width, batch.rows))
    found = [Shape(2, min(batch.width for batch in batches))]
    for batch in (*(ordered[place] for place in places), widest):
        shape = Shape(min(batch.rows, max(1, most // batch.width)), batch.width)
        if not any(shape.near(other) for other in found):
            found.append(shape)
    return found


def line_through(points: Sequence[tuple[Batch, float]]) -> Line:
    """The line with no negative part that is nearest to the points, by relative error."""
    points = [(batch, value) for batch, value in points if value > 0]
    if not points:
        return Line()
    terms = np.array([[1.0, b.rows, b.tokens, b.tokens * b.width] for b, _ in points])
    shares = terms / np.array([[value] for _, value in points])
    sizes, used = shares.max(0), list(range(terms.shape[1]))
    found = np.zeros(terms.shape[1])
    while used:  # scipy's nnls would cost a short run more memory than all that is found here
        solved = np.linalg.lstsq(shares[:, used] / sizes[used], np.ones(len(points)), rcond=None)[0]
        if (solved >= -1e-9).all():
            found[used] = solved.clip(0) / sizes[used]
            break
        used.pop(int(solved.argmin()))
    fixed, row, token, square = (float(value) for value in found)
    return Line(fixed=fixed, row=row, token=token, square=square)


class Kept:
    """Where timings are kept for the next time, by all that they depend on; `folder` None keeps nothing."""

    def __init__(self, folder: Path | None, identity: str) -> None:
        digest = hashlib.sha256(identity.encode()).hexdigest()
        self.path = None if folder is None else folder / f"{digest}.timings.json"

    def read(self) -> Timings:
        try:
            return Timings() if self.path is None else Timings.model_validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return Timings()  # there are none, or they are torn: timed again

    def write(self, timings: Timings) -> None:
        if self.path is None:
            return
        temporary = self.path.with_suffix(".tmp")
        try:
            temporary.write_text(timings.model_dump_json(), encoding="utf-8")
            temporary.replace(self.path)
        except OSError:
            with suppress(OSError):  # a folder that nothing can be written to
                temporary.unlink(missing_ok=True)
