"""Schedules: where they begin and end, that they rise only while warming up, and that warm-up is as long as asked."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from whet.plan.schedules import SCHEDULES, Constant, Cosine, Linear, Schedule, SlantedTriangular, Warmup
from whet.plan.values import Rate

totals = st.integers(1, 400)
warmups = st.builds(Warmup, share=st.floats(0, 0.99)) | st.builds(Warmup, steps=st.integers(0, 500))
fewer = settings(deadline=None, max_examples=60)


def factors(schedule: Schedule, total: int) -> list[float]:
    return [schedule.factor(step, total) for step in range(total)]


@pytest.mark.parametrize(
    ("schedule", "first", "last"),
    [
        (Linear(), 1.0, 0.1),
        (Cosine(), 1.0, (1 + math.cos(0.9 * math.pi)) / 2),
        (Constant(), 1.0, 1.0),
        (SlantedTriangular(), 1 / 32, (1 + 31 / 9) / 32),
        (Linear(warmup=Warmup(share=0.5)), 1 / 6, 0.2),
        (Linear(warmup=Warmup(steps=4)), 1 / 5, 1 / 6),
        (Constant(warmup=Warmup(steps=10)), 1 / 11, 10 / 11),
        (Constant(warmup=Warmup(steps=99)), 1 / 11, 10 / 11),
    ],
    ids=str,
)
def test_first_and_last_of_ten_steps(schedule: Schedule, first: float, last: float) -> None:
    made = factors(schedule, 10)
    assert made[0] == pytest.approx(first)
    assert made[-1] == pytest.approx(last)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@fewer
@given(total=totals, warmup=warmups)
def test_every_step_of_every_schedule_moves_and_none_exceeds_the_base_rate(
    name: str, total: int, warmup: Warmup
) -> None:
    assert all(0 < factor <= 1 for factor in factors(SCHEDULES[name](warmup=warmup), total))


@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
@fewer
@given(total=totals, warmup=warmups)
def test_rises_while_warming_up_and_never_after(name: str, total: int, warmup: Warmup) -> None:
    made = factors(SCHEDULES[name](warmup=warmup), total)
    warm = min(total, math.ceil(warmup.share_of(total) * total))
    rising, falling = made[:warm], made[warm:]
    assert rising == sorted(set(rising))
    assert falling == sorted(falling, reverse=True)


@fewer
@given(total=totals, cut=st.floats(0.01, 0.99))
def test_slanted_rises_to_its_cut_and_then_falls(total: int, cut: float) -> None:
    made = factors(SlantedTriangular(cut=cut), total)
    peak = made.index(max(made))
    assert made[: peak + 1] == sorted(made[: peak + 1])
    assert made[peak:] == sorted(made[peak:], reverse=True)
    assert abs(peak - cut * total) <= 1


@pytest.mark.parametrize(
    ("warmup", "total", "warm_steps"),
    [
        (Warmup(), 100, 0),
        (Warmup(share=0.06), 100, 6),
        (Warmup(share=0.1), 15, 2),
        (Warmup(steps=30), 100, 30),
        (Warmup(steps=30), 10, 10),
    ],
    ids=str,
)
def test_how_long_warm_up_takes(warmup: Warmup, total: int, warm_steps: int) -> None:
    made = factors(Constant(warmup=warmup), total)
    assert sum(factor < 1 for factor in made) == warm_steps
    assert made[:warm_steps] == [pytest.approx((step + 1) / (warm_steps + 1)) for step in range(warm_steps)]


def test_a_rate_is_base_times_factor_times_schedule() -> None:
    rate = Rate(base=0.1, factors={"layer.0": 0.5}, schedule=Linear())
    assert rate.at(0, 10, "layer.0") == pytest.approx(0.05)
    assert rate.at(5, 10, "layer.0") == pytest.approx(0.025)
    assert rate.at(5, 10, "head") == pytest.approx(0.05)


@pytest.mark.parametrize("wrong", [{"share": 1}, {"share": -0.1}, {"steps": -1}, {"share": float("nan")}], ids=str)
def test_wrong_warm_ups(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Warmup.model_validate(wrong)
