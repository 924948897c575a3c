"""The token budget: found by timing where it matters, kept for the machine, and part of a run from then on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whet.engine import checkpoint
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.engine.position import Position
from whet.engine.timing import Remembered, fastest

JobOf = Callable[..., Job]
TRIED = (1024, 2048, 4096)


@pytest.mark.parametrize(
    ("tokens", "seconds", "best", "timed"),
    [
        (1500, {1024: 1.0, 2048: 0.8}, 2048, [1024, 2048]),
        (9000, {1024: 1.0, 2048: 0.8, 4096: 0.7}, 4096, [1024, 2048, 4096]),
        (9000, {1024: 1.0, 2048: 0.99}, 1024, [1024, 2048]),
        (9000, {1024: 1.0, 2048: 0.8, 4096: 1.6}, 2048, [1024, 2048, 4096]),
    ],
)
def test_one_goes_up_for_as_long_as_that_is_clearly_quicker(
    tokens: int, seconds: dict[int, float], best: int, timed: list[int]
) -> None:
    asked: list[int] = []

    def clock(budget: int) -> float:
        asked.append(budget)
        return seconds[budget]

    assert fastest(TRIED, tokens, clock) == best
    assert asked == timed


def test_what_was_found_is_kept_by_what_it_depends_on(tmp_path: Path) -> None:
    Remembered(tmp_path, "a machine").write(2048)
    assert Remembered(tmp_path, "a machine").read() == 2048
    assert Remembered(tmp_path, "another").read() is None
    next(tmp_path.iterdir()).write_text("{torn")
    assert Remembered(tmp_path, "a machine").read() is None
    Remembered(None, "a machine").write(2048)
    assert Remembered(None, "a machine").read() is None


@pytest.fixture
def long_rows(tmp_path: Path) -> Path:
    path = tmp_path / "long.csv"
    words = "the parcel has not come and nobody answers the telephone " * 12
    path.write_text("text,label\n" + "".join(f"{words} {n},{'ab'[n % 2]}\n" for n in range(60)))
    return path


def budget_in(job: Job) -> int | None:
    newest = checkpoint.listed(job.folder / "checkpoints")[0]
    return Position.model_validate(checkpoint.facts(newest)).tokens_at_once


def test_a_run_on_long_rows_times_its_budget_once_and_keeps_it(job_of: JobOf, long_rows: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": long_rows, "steps": 2, "batch_size": 32, "cache": str(tmp_path / "cache")}
    first = job_of(**options)
    Loop(first).run()
    found = budget_in(first)
    assert found in TRIED
    (kept,) = (tmp_path / "cache" / "states").glob("*.tokens.json")
    kept.write_text('{"tokens": 1000}')  # so that it shows where the next run has it from
    second = job_of(**options)
    Loop(second).run()
    assert budget_in(second) == 1000
    kept.unlink()
    again = job_of(**options, folder=first.folder)
    outcome = Loop(again).run()
    assert outcome.position.tokens_at_once == found
    assert not kept.exists(), "a run that goes on timed it again"


@pytest.mark.parametrize(
    "options",
    [{"token_budget": 500}, {"cache": "off"}, {"verb": "train"}],
    ids=["asked for", "nowhere to keep it", "rows are vectors"],
)
def test_nothing_is_timed_where_it_would_not_matter(
    options: dict[str, Any], job_of: JobOf, long_rows: Path, tmp_path: Path
) -> None:
    job = job_of(**{"data": long_rows, "steps": 2, "batch_size": 32, "cache": str(tmp_path / "cache"), **options})
    Loop(job).run()
    assert budget_in(job) is None
    assert not list(tmp_path.rglob("*.tokens.json"))
