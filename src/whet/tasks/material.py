"""What a task's baselines are made of, and what it is shown of the test rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from whet.config import Settings
from whet.data.check import Rows
from whet.data.store import Part, Targets
from whet.evaluate.baselines import Absent, Baseline, Parts
from whet.evaluate.budget import Budget, Problem

Found = list[Baseline | Absent]


class Frozen(Protocol):
    """What arrives at the head of the pretrained model for some rows. `flat` holds one state per row, or, where
    `sequence`, one per token: those of row r are `flat[starts[r]:starts[r + 1]]`."""

    @property
    def flat(self) -> Tensor: ...

    @property
    def starts(self) -> np.ndarray: ...

    @property
    def sequence(self) -> bool: ...

    def vectors(self) -> np.ndarray:
        """One vector per row, fp32, rows x hidden."""


@dataclass(frozen=True)
class Features:
    """Frozen states of the rows of each of the task's views, or None with the reason `why` where there are none.

    `rows` are the training rows that they are of, where a pass over all was too dear (`cuts` then says so); `budget` is
    what they left, `seconds` what they took.
    """

    states: Parts[tuple[Frozen, ...]] | None
    budget: Budget
    rows: np.ndarray | None = None
    cuts: tuple[str, ...] = ()
    seconds: float = 0.0
    why: str = ""

    def problem(self, problem: Problem) -> Problem:
        """The problem, of the training rows that the states are of."""
        if self.rows is None:
            return problem
        strata = None if problem.strata is None else problem.strata[self.rows]
        return replace(problem, train=problem.train[self.rows], strata=strata)

    def accounted(self, found: Baseline | Absent) -> Baseline | Absent:
        """A baseline on these states, with what the pass that made them was cut by, and its seconds."""
        if isinstance(found, Absent):
            return found
        return replace(found, cuts=(*self.cuts, *found.cuts), seconds=found.seconds + self.seconds)

    def vectors(self, view: int = 0) -> Parts[np.ndarray]:
        """One vector per row of training, validation and test rows."""
        assert self.states is not None
        states = self.states
        return Parts(*(part[view].vectors() for part in (states.train, states.valid, states.test)))


@dataclass(frozen=True)
class Material:
    """The rows, their truth, what scores a prediction (higher is better), and the frozen features."""

    rows: Parts[Rows]
    truth: Parts[np.ndarray]
    score: Callable[[np.ndarray, np.ndarray], float]
    features: Features
    settings: Settings


@dataclass(frozen=True)
class Tested:
    """The test rows: as they came, as the model read them, its outputs, and truth and prediction, rows first. `learnt`
    is what was found after training."""

    rows: Rows
    part: Part
    outputs: Targets
    truth: np.ndarray
    predicted: np.ndarray
    learnt: dict[str, Any]
