"""The table of the benchmark of estimates says what its cells say."""

from __future__ import annotations

from typing import Any

import pytest

from estimates import apart, compared, error, table


def cell(seconds: float, memory: float, *rounds: list[float]) -> dict[str, Any]:
    """An estimate, and rounds of runs with their seconds, each of which held 1,000 MB."""
    runs = [[{"seconds": took, "peak_memory_mb": 1000.0} for took in times] for times in rounds]
    return {"estimate": {"seconds": seconds, "peak_mb": memory}, "rounds": runs}


def test_the_actual_value_is_the_median_of_the_last_round() -> None:
    found = compared(cell(12.0, 900.0, [10, 20, 30], [9, 10, 11]))
    assert found == {"time": (12.0, 10), "memory": (900.0, 1000.0)}
    assert error(found["time"]) == pytest.approx(0.2)
    assert error(found["memory"]) == pytest.approx(0.1)
    assert error((5.0, 10.0)) == error((15.0, 10.0)) == 0.5


def test_runs_are_apart_by_their_quickest_and_slowest() -> None:
    assert apart(cell(1, 1, [10, 14, 12])["rounds"][0]) == pytest.approx(1.4)


def test_the_summary_holds_the_errors_against_the_goals(capsys: pytest.CaptureFixture[str]) -> None:
    kept = {
        "300 sentences/full": cell(11.0, 1020.0, [10, 10, 10]),
        "300 sentences/lift": cell(19.0, 950.0, [10, 14, 10], [10, 10, 10]),
    }
    table(kept)
    shown = capsys.readouterr().out
    assert "| 300 sentences | full | 11.0 | 10.0 | 10 % | 1,020 | 1,000 | 2 % |" in shown
    assert "| 1,200 sentences | lora | missing |" in shown
    assert "time, 2 cases: median 50.0 % (goal 15), worst 90.0 % (goal 50): NOT met" in shown
    assert "memory, 2 cases: median 3.5 % (goal 10), worst 5.0 % (goal 30): met" in shown
    assert "differed by more than 1.3 times: 300 sentences/lift" in shown
