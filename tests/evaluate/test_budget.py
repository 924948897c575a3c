"""What a budget of seconds cuts, in which order, and that it is kept: on a made clock that goes on by known costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.evaluate.budget import Budget, Chosen, Kind, Problem, Search, Unavailable, stratified_order

ROWS, HELD = 4000, 300
STRENGTHS = (1.0, 2.0, 3.0)


@dataclass
class Clock:
    time: float = 0.0

    def __call__(self) -> float:
        return self.time


@dataclass
class Costs:
    """Seconds for a row of a kind of features: to prepare it, and to fit on it, `by_class` for each class that is
    there; and for any fit."""

    prepare: float
    fit: float
    fixed: float = 0.0
    by_class: bool = False


@dataclass
class Shares:
    """A classifier that gives all rows the shares of the classes, and takes on the clock what it is told."""

    clock: Clock
    passes: int = 3
    max_iter: int = 10
    n_iter_: np.ndarray = field(default_factory=lambda: np.array([0]))

    def fit(self, features: tuple[Costs, np.ndarray], targets: np.ndarray) -> Shares:
        costs, rows = features
        self.classes_, counts = np.unique(targets, return_counts=True)
        self.clock.time += costs.fixed + costs.fit * len(rows) * (len(counts) if costs.by_class else 1)
        self.shares, self.n_iter_ = counts / len(targets), np.array([self.passes])
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        return np.tile(self.shares, (len(features), 1))


@dataclass
class Timed:
    """A search whose costs are known, from the dearest kind to the cheapest, and the rows that its fits were given."""

    kinds: tuple[Costs, ...]
    targets: np.ndarray = field(default_factory=lambda: np.arange(ROWS) % 5)
    scores: tuple[float, ...] = (0.0,)
    passes: int = 3
    held: int = HELD
    clock: Clock = field(default_factory=Clock)
    fitted_on: list[np.ndarray] = field(default_factory=list)

    def kind(self, number: int, costs: Costs) -> Kind:
        def prepare(rows: np.ndarray) -> tuple[Any, Any]:
            self.clock.time += costs.prepare * len(rows)
            self.fitted_on.append(rows)

            def transform(part: np.ndarray) -> np.ndarray:
                self.clock.time += costs.prepare * len(part)
                return part

            return (costs, rows), transform

        return Kind(
            settings={"kind": number},
            valid=np.arange(self.held // 2),
            test=np.arange(self.held // 2),
            prepare=prepare,
            work=np.ones(len(self.targets)),
            held_work=self.held,
            probe=200,
            alone="cheap features only" if number else "",
        )

    def choose(self, seconds: float, seed: int = 0) -> Chosen:
        scores = iter(self.scores * 100)
        problem = Problem(
            train=self.targets,
            valid=np.zeros(self.held // 2, int),
            classes=int(self.targets.max()) + 1,
            score=lambda probabilities, targets: next(scores),
            seed=seed,
        )
        kinds = tuple(self.kind(number, costs) for number, costs in enumerate(self.kinds))
        learner = lambda strength, targets, problem: Shares(self.clock, self.passes)  # noqa: E731
        return Search(problem, kinds, STRENGTHS, learner, Budget(seconds, self.clock)).choose()


def whole_cost(costs: Costs) -> float:
    return costs.prepare * (ROWS + HELD) + costs.fit * ROWS + costs.fixed


DEAR, CHEAP = Costs(0.001, 0.002), Costs(0.0005, 0.001)
# One setting on all rows takes 12.3 seconds, or 6.15; another of the same kind 8, or 4.


@pytest.mark.parametrize(
    ("seconds", "cuts", "tried"),
    [
        (math.inf, [], 6),
        (1000, [], 6),
        (40, ["4 of 6 settings tried"], 4),
        (20, ["1 of 6 settings tried"], 1),
        (18, ["2 of 6 settings tried", "cheap features only"], 2),
        (12, ["1 of 6 settings tried", "cheap features only"], 1),
        (5, ["1 of 6 settings tried", "cheap features only", "trained on 1,700 of 4,000 rows (seed 0)"], 1),
    ],
)
def test_cuts_come_in_the_stated_order(seconds: float, cuts: list[str], tried: int) -> None:
    timed = Timed((DEAR, CHEAP))
    found = timed.choose(seconds)
    assert (list(found.cuts), found.settings["tried"]) == (cuts, tried)
    assert timed.clock.time <= seconds


def chosen_or_why_not(timed: Timed, seconds: float) -> Chosen | str:
    try:
        return timed.choose(seconds)
    except Unavailable as why:
        return str(why)


RATES = st.floats(1e-5, 1e-2)
COSTS = st.builds(lambda prepare, fit, part: Costs(prepare, fit, part * 200 * fit), RATES, RATES, st.floats(0, 0.5))


@settings(deadline=None)
@given(COSTS, st.floats(0.1, 1), st.booleans(), st.floats(1e-3, 300))
def test_a_budget_is_kept_and_used(dear: Costs, ratio: float, two: bool, seconds: float) -> None:
    cheap = Costs(dear.prepare * ratio, dear.fit * ratio, dear.fixed * ratio)
    kinds = (dear, cheap) if two else (dear,)
    timed = Timed(kinds)
    # What is taken before anything is known: a fit on 200 rows of each kind.
    blind = sum(200 * (costs.prepare + costs.fit) + costs.fixed for costs in kinds)
    found = chosen_or_why_not(timed, seconds)
    assert timed.clock.time <= max(seconds, 2 * blind)
    if isinstance(found, str):
        assert "too few" in found
        return
    every = len(STRENGTHS) * len(kinds)
    texts = [f"{found.settings['tried']} of {every} settings", "cheap features", "trained on"]
    order = [next(number for number, text in enumerate(texts) if text in cut) for cut in found.cuts]
    assert order == ([0, 1, 2] if two else [0, 2])[: len(order)]
    needed = sum(whole_cost(costs) for costs in kinds) * len(STRENGTHS)
    if seconds > 2 * needed + 2 * blind:
        assert found.cuts == ()
    if 2 in order:
        assert seconds < 3 * whole_cost(kinds[-1]) + 2 * blind


def test_larger_measurements_correct_smaller_ones() -> None:
    """A fit on 200 rows takes 1.02 s, which would be 204 s on all 40,000; in truth it is 5."""
    timed = Timed((Costs(0, 0.0001, fixed=1.0),), targets=np.arange(40_000) % 5)
    assert "trained on" not in " ".join(timed.choose(27).cuts)
    assert timed.clock.time <= 27


def test_classes_that_a_measurement_lacks_are_reckoned_with() -> None:
    """A fit takes 4 s; the 200 rows of a measurement hold 200 of 1,000 classes."""
    timed = Timed((Costs(0, 1e-6, by_class=True),), targets=np.arange(ROWS) % 1000)
    assert "trained on" in timed.choose(3).cuts[-1]
    assert timed.clock.time <= 3


def test_many_rows_to_score_are_reckoned_with() -> None:
    """The training rows take 4.4 s, the others 20."""
    timed = Timed((Costs(0.001, 0.0001),), held=20_000)
    with pytest.raises(Unavailable, match="too few"):
        timed.choose(15)
    assert timed.clock.time < 2


def test_the_best_score_wins_and_the_first_of_equals() -> None:
    found = Timed((DEAR, CHEAP), scores=(1.0, 3.0, 2.0, 3.0, 0.0, 1.0)).choose(math.inf)
    assert found.settings == {"C": 1.0, "kind": 1, "tried": 6}
    assert found.score == 3.0


def test_a_fit_that_did_not_settle_is_named() -> None:
    assert Timed((DEAR,), passes=10).choose(math.inf).cuts == ("stopped after 10 passes, before it had settled",)
    assert Timed((DEAR,), passes=9).choose(math.inf).cuts == ()


def test_a_sample_holds_every_class_and_depends_on_the_seed_alone() -> None:
    targets = np.array([0] * 3000 + [1] * 950 + [2] * 47 + [3] * 2 + [4])

    def sample(seed: int) -> np.ndarray:
        timed = Timed((CHEAP,), targets=targets)
        assert f"rows (seed {seed})" in timed.choose(2.5, seed).cuts[-1]
        return timed.fitted_on[-1]

    rows = sample(0)
    assert len(rows) < 2000
    assert set(targets[rows]) == {0, 1, 2, 3, 4}
    assert abs((targets[rows] == 0).mean() - 0.75) < 0.01
    assert np.array_equal(rows, sample(0))
    assert not np.array_equal(rows, sample(1))


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_time_is_said(seconds: float) -> None:
    timed = Timed((DEAR,))
    with pytest.raises(Unavailable, match="no time was left"):
        timed.choose(seconds)
    assert timed.clock.time == 0


def test_too_little_time_for_a_row_of_each_class_is_said() -> None:
    with pytest.raises(Unavailable, match=r"0\.5 s are too few for it: not even 5 rows fit"):
        Timed((DEAR,)).choose(0.5)
    with pytest.raises(Unavailable, match="not even 1000 rows fit"):
        Timed((DEAR,), targets=np.arange(ROWS) % 1000).choose(4)


def test_a_share_is_of_what_is_left() -> None:
    clock = Clock()
    whole = Budget(10, clock)
    clock.time = 4
    part = whole.share(0.5)
    assert part.left() == 3
    clock.time = 5
    assert (part.left(), whole.left()) == (2, 5)
    assert Budget().share(0.1).left() == math.inf


@given(st.lists(st.integers(0, 6), min_size=1, max_size=120), st.integers(0, 2**32 - 1), st.data())
def test_every_beginning_of_the_order_is_a_stratified_sample(labels: list[int], seed: int, data: st.DataObject) -> None:
    targets = np.array(labels)
    order = stratified_order(targets, seed)
    assert sorted(order) == list(range(len(targets)))
    assert np.array_equal(order, stratified_order(targets, seed))
    present = set(labels)
    size = data.draw(st.integers(1, len(labels)))
    sample = targets[order[:size]]
    if size <= len(present):
        assert len(set(sample)) == size
    else:
        assert set(sample) == present
    for label in present:
        assert (sample == label).sum() <= size * labels.count(label) / len(labels) + 1
