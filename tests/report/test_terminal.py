"""What a run prints at its end fits a small terminal, whatever the run was, and says what matters most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from report.run_folders import make_run
from whet.report.terminal import summary

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "77 labels": {"labels": tuple(f"label {number}" for number in range(77)), "rows": 400},
    "three phases and seeds": {"phases": 3, "seeds": 3},
    "no test rows": {"rows": 0},
    "no baselines": {"baselines": False},
    "two labels": {"labels": ("one", "other"), "rows": 12},
}
LONG = [{"kind": "overfitted", "text": "A finding of many words, which say at some length what was found. " * 3}] * 9


def printed(folder: Path, **changes: Any) -> list[str]:
    metrics = json.loads((folder / "metrics.json").read_text()) | changes
    return summary(metrics, json.loads((folder / "run.json").read_text())).splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_it_fits_25_lines_of_80_columns(kind: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", **KINDS[kind])
    dropped = {f"reason {number}": number for number in range(1, 9)}
    verdict = json.loads((folder / "metrics.json").read_text())["verdict"] | {"findings": LONG}
    for lines in (printed(folder, out="run"), printed(folder, out="run", dropped=dropped, verdict=verdict)):
        assert len(lines) <= 25
        assert [line for line in lines if len(line) > 80] == []
        assert lines[-1] == "use it   whet predict run FILE"


def test_the_verdict_comes_first_and_every_dropped_row_is_counted(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    verdict = json.loads((folder / "metrics.json").read_text())["verdict"]
    lines = printed(folder, dropped={"empty text": 2, "no label": 1, "twice": 3, "other": 4})
    assert " ".join(lines[:2]).startswith(verdict["headline"][:60])
    left = [line for line in lines if line.startswith("left out")]
    assert left == [
        "left out 2 rows: empty text",
        "left out 1 row: no label",
        "left out 7 rows more for 2 other reasons",
    ]


def test_each_baseline_has_its_score_difference_interval_and_p(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    lines = printed(folder)
    compared = [one for one in json.loads((folder / "metrics.json").read_text())["baselines"] if "comparison" in one]
    assert compared
    for one in compared:
        (line,) = [line for line in lines if line.startswith(one["title"].partition(" + ")[0])]
        assert f"{one['test']['accuracy']:.4f}" in line
        assert f"{one['comparison']['difference']:+.4f}" in line
