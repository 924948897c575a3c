"""The tables of the speed benchmark say what the cells say."""

from __future__ import annotations

from typing import Any

import pytest

from speed_table import markdown, measured, scores_apart
from speed_works import Row, Work, works

SPEED = Row("full", "full/peer", "full/whet", 1.5, 2.5)
MEMORY = Row("memory", "full/peer", "full/whet", 0.8, 0.6, figure="memory_mb")


def cells(side: str, seconds: list[float], accuracy: list[float] | None = None) -> dict[str, dict[str, Any]]:
    scores = accuracy or [0.8] * len(seconds)
    return {
        f"full/{side}/{number}": {
            "seconds": took,
            "memory_mb": 100 * took,
            "accuracy": score,
            "start": None,
            "told": {"peer": "one", "settings": {}} if side == "peer" else {"phases": [{"validating": 1, "saving": 1}]},
        }
        for number, (took, score) in enumerate(zip(seconds, scores, strict=True))
    }


def test_a_ratio_is_the_median_of_those_of_runs_made_next_to_each_other() -> None:
    # The second pair ran while the machine was slow: both sides took ten times as long.
    found = measured(SPEED, cells("peer", [10, 120, 12]) | cells("whet", [5, 50, 4]))
    assert found is not None
    assert sorted(found.ratios) == pytest.approx([2, 2.4, 3])
    assert found.ratio == pytest.approx(2.4)
    assert found.met == "yes"


def test_a_repetition_that_one_side_lacks_does_not_count() -> None:
    found = measured(SPEED, cells("peer", [10, 100]) | cells("whet", [5]))
    assert found is not None
    assert found.ratios == [2]
    assert found.theirs == 10
    assert measured(SPEED, cells("peer", [10])) is None


@pytest.mark.parametrize(("ours", "met"), [(5, "aim"), (7, "yes"), (9, "**no**")])
def test_less_memory_is_better(ours: float, met: str) -> None:
    found = measured(MEMORY, cells("peer", [10] * 3) | cells("whet", [ours] * 3))
    assert found is not None
    assert found.ratio == pytest.approx(ours / 10)
    assert found.met == met


def test_speed_with_a_lower_score_does_not_meet_its_target() -> None:
    slow, good = cells("peer", [10] * 3, [0.90, 0.91, 0.92]), [0.91, 0.90, 0.92]
    assert measured(SPEED, slow | cells("whet", [1] * 3, good)).met == "aim"  # type: ignore[union-attr]
    assert measured(SPEED, slow | cells("whet", [1] * 3, [0.7, 0.71, 0.72])).met == "no: score lower"  # type: ignore[union-attr]


def test_scores_that_no_seed_changes_are_apart_by_their_difference() -> None:
    kept = cells("peer", [10] * 3, [0.9] * 3) | cells("whet", [1] * 3, [0.8] * 3)
    assert scores_apart(SPEED, kept) == pytest.approx((-10, -10))


def test_many_probes_are_held_against_as_many_single_ones() -> None:
    row = Row("100 probes", "full/peer", "full/whet", 50, 100, times=100)
    found = measured(row, cells("peer", [9]) | cells("whet", [10]))
    assert found is not None
    assert found.ratio == pytest.approx(90)
    assert found.theirs == pytest.approx(900)


def test_every_row_of_the_table_names_sides_that_its_work_runs() -> None:
    for name, work in works("python", "python", None).items():
        for row in work.rows:
            assert {row.peer, row.ours} <= work.sides.keys(), name


def test_what_was_not_measured_is_shown_as_missing() -> None:
    rows = markdown({"full": Work(dict, {}, (SPEED, MEMORY))}, {}).splitlines()
    assert rows[2] == "| full | peer | missing |  |  | 1.5 | 2.5 |  | - |"


def test_bare_ratios_leave_out_what_the_peer_does_not_do() -> None:
    made = cells("peer", [12, 12, 12]) | cells("whet", [8, 8, 8])
    assert "| 2.00 |" in markdown({"full": Work(dict, {}, (SPEED,))}, made)
    for number in range(3):
        made[f"full/peer/{number}"]["told"]["settings"]["dev_inside_training"] = True
    assert "| 2.00 |" not in markdown({"full": Work(dict, {}, (SPEED,))}, made)
