"""Choosing settings on validation rows within a budget of seconds. What does not fit is cut in a stated order:

fewer settings tried; cheaper features only; a seeded, stratified sample of the training rows, with the first setting
alone. Each cut is put in words. Without a cut the result is a pure function of the inputs and the seed.

N training rows, M validation rows, T test rows, C classes.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

PROBE_GROWTH, PROBE_SHARE = 4, 1 / 4
"""Where no fit on all rows seems possible, the measuring sample grows by this factor, as long as the next one takes at
most this share of what is left: few rows overstate what many cost."""

CAUTION = 1.5
"""What is predicted counts as this many times as long."""


@dataclass
class Budget:
    """Seconds that may be taken, counted from when this is made; endless unless told. `now` is a clock in seconds."""

    seconds: float = math.inf
    now: Callable[[], float] = time.monotonic
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.now()

    def left(self) -> float:
        return self.seconds - (self.now() - self.begun)

    def share(self, part: float) -> Budget:
        """A budget of its own: this part (0 to 1) of what is left."""
        return Budget(part * self.left(), self.now)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is to be learnt, and what counts as better.

    `train` (N) and `valid` (M) hold class numbers from 0 to `classes` - 1, one or more each. `score` takes the
    validation rows' probabilities (M x C) and class numbers (M), and gives more for better. With `balanced` all
    classes weigh the same. `seed` draws samples, and is handed to learners. Where rows have numbers for targets, these
    stand in `train` and `valid`, predictions are M numbers, and `strata` (N) says what samples are drawn by.
    """

    train: np.ndarray
    valid: np.ndarray
    classes: int
    score: Callable[[np.ndarray, np.ndarray], float]
    class_weight: Literal["none", "balanced"] = "none"
    seed: int = 0
    strata: np.ndarray | None = None

    @property
    def kinds(self) -> np.ndarray:
        """What a sample of the training rows has to hold in proportion (N): classes, or the strata of numbers."""
        return self.train if self.strata is None else self.strata


class Unavailable(Exception):
    """No setting could be tried; says why, for a reader."""


@dataclass(frozen=True)
class Kind:
    """One kind of features.

    `prepare` turns training rows (their numbers) into features, and gives what does the same with `valid` and `test`;
    it may raise `Unavailable`. `work` (N) is what each training row costs in some unit, `held_work` what validation
    and test rows cost together, and `probe` how many rows a first measurement takes. `alone` says that kinds which
    cost more were left out.
    """

    settings: dict[str, float]
    valid: Any
    test: Any
    prepare: Callable[[np.ndarray], tuple[Any, Callable[[Any], Any]]]
    work: np.ndarray
    held_work: float
    probe: int
    alone: str = ""


Learner = Callable[[float, np.ndarray, Problem], Any]
"""From a strength, the class numbers of the rows and the problem to a classifier as scikit-learn has them, not yet
fitted: with `max_iter`, and once fitted `n_iter_` and `classes_`."""


@dataclass(frozen=True)
class Chosen:
    """The setting that scored best on validation, the first of equals: probabilities M x C and T x C, a column for
    every class; the settings, and `tried`, the number compared; and in words what was cut."""

    score: float
    settings: dict[str, float]
    cuts: tuple[str, ...]
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class _Cost:
    """Seconds that a setting takes: to prepare features and to fit, for a unit of work each, and to fit at all."""

    prepare: float
    fit: float
    fixed: float = 0.0

    def seconds(self, work: float, held_work: float) -> float:
        return CAUTION * (self.prepare * (work + held_work) + self.fit * work + self.fixed)

    def work_within(self, seconds: float, held_work: float) -> float:
        """The work whose `seconds` are these; negative where not even the held rows fit."""
        return (seconds / CAUTION - self.fixed - self.prepare * held_work) / max(self.prepare + self.fit, 1e-12)


@dataclass(frozen=True)
class _Measured:
    """Seconds that one sample took."""

    work: float
    prepare: float
    fit: float

    def cost(self, smaller: _Measured | None) -> _Cost:
        """In proportion to the work; with a smaller sample, what the additional work cost, and the rest is fixed.

        No less than half of the proportion: the difference of two short times is little to go by.
        """
        share = self.fit / self.work
        if smaller:
            share = min(share, max(share / 2, (self.fit - smaller.fit) / (self.work - smaller.work)))
        return _Cost(self.prepare / self.work, share, self.fit - share * self.work)


@dataclass(frozen=True)
class _Reach:
    """What one setting, at least, can be tried on: kinds of features, and training rows in ascending order."""

    kinds: tuple[Kind, ...]
    rows: np.ndarray


def _given_up(model: Any) -> int | None:
    """The passes after which a fit, or one of those that it is made of, was given up; None where all settled, or were
    solved at once."""
    for one in getattr(model, "estimators_", [model]):
        passes = getattr(one, "n_iter_", None)
        if passes is not None and int(np.max(passes)) >= one.max_iter:
            return int(one.max_iter)
    return None


def numbers(model: Any, features: Any, classes: int) -> np.ndarray:
    """Predictions of a regression, one per row. No rows, which scikit-learn refuses, are None."""
    return np.zeros(0) if features is None else np.asarray(model.predict(features), dtype=float)


def probabilities(model: Any, features: Any, classes: int) -> np.ndarray:
    """Rows x C; 0 for a class that the model has not seen. No rows, which scikit-learn refuses, are None."""
    if features is None:
        return np.zeros((0, classes))
    found = np.zeros((features.shape[0], classes))
    found[:, model.classes_] = model.predict_proba(features)
    return found


@dataclass(frozen=True)
class Search:
    """The settings of one method: `strengths`, those most often best first, times `kinds`, from the dearest to the
    cheapest. `predict` makes what is scored of a fitted model, features and the number of classes; `strength` is what
    the strengths are called."""

    problem: Problem
    kinds: tuple[Kind, ...]
    strengths: tuple[float, ...]
    learner: Learner
    budget: Budget
    predict: Callable[[Any, Any, int], np.ndarray] = probabilities
    strength: str = "C"

    def choose(self) -> Chosen:
        """Raises `Unavailable` where there is nothing to learn, or time for too few rows."""
        reach = self._reach()
        best, tried = self._best(reach)
        every = len(self.strengths) * len(self.kinds)
        rows, total = len(reach.rows), len(self.problem.train)
        cuts = {
            f"{tried} of {every} settings tried": tried < every,
            reach.kinds[0].alone: len(reach.kinds) < len(self.kinds),
            f"trained on {rows:,} of {total:,} rows (seed {self.problem.seed})": rows < total,
        }
        said = tuple(text for text, holds in cuts.items() if holds)
        return replace(best, settings={**best.settings, "tried": tried}, cuts=(*said, *best.cuts))

    def _reach(self) -> _Reach:
        """The kinds and rows that what is left allows. Raises `Unavailable` where it allows too few rows."""
        left, all_rows = self.budget.left(), np.arange(len(self.problem.train))
        present = len(np.unique(self.problem.kinds))
        if present < 2:
            raise Unavailable("all training rows have the same label")
        if left <= 0:
            raise Unavailable("no time was left for it")
        if left == math.inf or len(self.problem.train) <= self.kinds[0].probe:
            return _Reach(self.kinds, all_rows)
        order = stratified_order(self.problem.kinds, self.problem.seed)
        for number, kind in enumerate(self.kinds):
            cost = self._cost(kind, order)
            left = self.budget.left()
            if cost.seconds(kind.work.sum(), kind.held_work) <= left:
                return _Reach(self.kinds[number:], all_rows)
        within = cost.work_within(left, kind.held_work)
        count = _round_down(int(np.searchsorted(kind.work[order].cumsum(), within, side="right")))
        if count < present:
            raise Unavailable(f"{self.budget.seconds:.1f} s are too few for it: not even {present} rows fit")
        return _Reach((kind,), np.sort(order[:count]))

    def _cost(self, kind: Kind, order: np.ndarray) -> _Cost:
        """By a sample, which grows while all rows do not seem to fit and the budget allows it."""
        count, smaller = min(kind.probe, len(order)), None
        while True:
            measured = self._measure(kind, np.sort(order[:count]))
            cost = measured.cost(smaller)
            left, count, smaller = self.budget.left(), PROBE_GROWTH * count, measured
            fits = cost.seconds(kind.work.sum(), kind.held_work) <= left
            if fits or count >= len(order) or cost.seconds(kind.work[order[:count]].sum(), 0) > PROBE_SHARE * left:
                return cost

    def _measure(self, kind: Kind, rows: np.ndarray) -> _Measured:
        targets = self.problem.train[rows]
        begun = self.budget.now()
        features, _ = kind.prepare(rows)
        prepared = self.budget.now()
        _fit(self.learner(self.strengths[0], targets, self.problem), features, targets)
        fitted = self.budget.now()
        # Each class has weights of its own, and a small sample may lack some.
        lacking = len(np.unique(self.problem.kinds)) / len(np.unique(self.problem.kinds[rows]))
        return _Measured(kind.work[rows].sum(), prepared - begun, lacking * (fitted - prepared))

    def _best(self, reach: _Reach) -> tuple[Chosen, int]:
        """The best setting, and how many were tried: all that the budget allows, but one alone on a sample, since more
        time would rather go into more rows."""
        settings = [(strength, kind) for strength in self.strengths for kind in reach.kinds]
        if len(reach.rows) < len(self.problem.train):
            settings = settings[:1]
        ready: dict[int, tuple[Any, ...]] = {}
        prepare = fit = 0.0
        best: Chosen | None = None
        for tried, (strength, kind) in enumerate(settings):
            new = id(kind) not in ready
            # A new kind costs less than the one before it.
            if best and (prepare + fit if new else CAUTION * fit) > self.budget.left():
                return best, tried
            begun = self.budget.now()
            if new:
                features, transform = kind.prepare(reach.rows)
                held = (transform(part) if len(part) else None for part in (kind.valid, kind.test))
                ready[id(kind)] = (features, *held)
            prepared = self.budget.now()
            found = self._try(strength, kind, reach.rows, *ready[id(kind)])
            if best is None or found.score > best.score:
                best = found
            prepare, fit = max(prepare, prepared - begun), max(fit, self.budget.now() - prepared)
        assert best is not None
        return best, len(settings)

    def _try(self, strength: float, kind: Kind, rows: np.ndarray, features: Any, valid: Any, test: Any) -> Chosen:
        problem, targets = self.problem, self.problem.train[rows]
        model = _fit(self.learner(strength, targets, problem), features, targets)
        # Apart, so that not even the rounding of the first hangs on the number of the second.
        of_valid, of_test = (self.predict(model, part, problem.classes) for part in (valid, test))
        passes = _given_up(model)
        said = () if passes is None else (f"stopped after {passes} passes, before it had settled",)
        score = problem.score(of_valid, problem.valid)
        return Chosen(score, {self.strength: strength, **kind.settings}, said, of_valid, of_test)


def _fit(model: Any, features: Any, targets: np.ndarray) -> Any:
    """The model, fitted. Its warnings are not shown: whether it settled is asked of it later, and many classes in few
    rows are no mistake here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return model.fit(features, targets)


def stratified_order(targets: np.ndarray, seed: int) -> np.ndarray:
    """The rows (N) in a seeded order of which every beginning is a stratified sample: one row of each class, then all
    classes in proportion. Of the first n rows at most one more is of a class than n times its share."""
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(targets))
    place = np.empty(len(targets))
    for label in np.unique(targets):
        own = shuffled[targets[shuffled] == label]
        place[own] = np.arange(len(own)) / len(own)
    order: np.ndarray = shuffled[np.argsort(place[shuffled], kind="stable")]
    return order


def _round_down(count: int) -> int:
    """To two leading digits: a sample that is easy to name, and the same in runs that differ by a breath."""
    return count - count % 10 ** max(len(str(count)) - 2, 0)
