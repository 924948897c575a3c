"""Rows with any number of labels, divided: labels in their shares, equal texts together, a row of each to train on."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.stratify import divide

fewer = settings(deadline=None, max_examples=100)
label_sets = st.sets(st.sampled_from("abcdef"), max_size=4).map(lambda found: tuple(sorted(found)))
shares = st.floats(0.02, 0.45)


def alone(rows: list[tuple[str, ...]]) -> list[list[int]]:
    return [[number] for number in range(len(rows))]


@fewer
@given(
    bunches=st.lists(st.lists(label_sets, min_size=1, max_size=3), min_size=1, max_size=40),
    test=shares,
    valid=shares,
    seed=st.integers(0, 9),
)
def test_whatever_the_rows(bunches: list[list[tuple[str, ...]]], test: float, valid: float, seed: int) -> None:
    rows = [one for bunch in bunches for one in bunch]
    places = iter(range(len(rows)))
    numbered = [[next(places) for _ in bunch] for bunch in bunches]
    taken = divide(rows, numbered, {"test": test, "valid": valid}, seed)
    out = [row for part in taken.values() for row in part]
    assert len(out) == len(set(out))
    # Rows that belong together stay together.
    for bunch in numbered:
        assert len({next((p for p, part in taken.items() if row in part), "train") for row in bunch}) == 1
    # Every label can be learnt.
    left = [rows[row] for row in range(len(rows)) if row not in set(out)]
    assert {label for one in left for label in one} == {label for one in rows for label in one}


@fewer
@given(
    counts=st.lists(st.integers(20, 60), min_size=2, max_size=5),
    test=st.floats(0.05, 0.35),
    valid=st.floats(0.05, 0.35),
    seed=st.integers(0, 9),
)
def test_without_overlap_every_part_has_its_share_of_every_label(
    counts: list[int], test: float, valid: float, seed: int
) -> None:
    rows = [(f"label{number}",) for number, count in enumerate(counts) for _ in range(count)] + [()] * 30
    taken = divide(rows, alone(rows), {"test": test, "valid": valid}, seed)
    for part, share in (("test", test), ("valid", valid)):
        assert len(taken[part]) == pytest.approx(share * len(rows), abs=len(counts) + 1)
        found = Counter(rows[row] for row in taken[part])
        for one, count in Counter(rows).items():
            assert found[one] == pytest.approx(share * count, abs=1.01)


def test_labels_that_overlap_stay_near_their_share() -> None:
    # Made as rows are: two common labels, one that goes with the first, a rare one, and rows with none.
    rows = [
        tuple(sorted({"ab"[n % 2], *("c" if n % 4 == 0 else ""), *("r" if n % 25 == 7 else "")})) if n % 9 else ()
        for n in range(1000)
    ]
    taken = divide(rows, alone(rows), {"test": 0.2, "valid": 0.1}, 0)
    for part, share in (("test", 0.2), ("valid", 0.1)):
        found = Counter(label for row in taken[part] for label in rows[row])
        for label, count in Counter(label for one in rows for label in one).items():
            assert found[label] == pytest.approx(share * count, abs=2)
        assert len(taken[part]) == pytest.approx(share * 1000, abs=3)


def test_a_label_of_one_row_is_trained_on_even_where_little_is() -> None:
    rows = [("rare", "a")] + [("a",)] * 9
    for seed in range(10):
        taken = divide(rows, alone(rows), {"test": 0.45, "valid": 0.45}, seed)
        assert 0 not in taken["test"] + taken["valid"]


def test_the_seed_decides() -> None:
    rows = [("a",), ("b",), ("a", "b"), ()] * 20
    found = [divide(rows, alone(rows), {"test": 0.2}, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0] != found[2]
