"""Numbers are learnt standardised and given in their own unit, whatever the head and wherever it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import whet
from contracts.tasks import ROWS, write
from whet.config import Settings
from whet.data.check import Rows
from whet.engine.loop import Loop
from whet.tasks.regression import Regression


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 rows whose numbers lie far from 0, in thousands."""
    rows = [{"text": row["text"], "price": 1000 * row["score"] + 50_000} for row in ROWS["regression"](48, 0)]
    return write(tmp_path_factory.mktemp("prices") / "prices.csv", rows)


def rows_of(*numbers: float) -> Rows:
    return Rows("rows", ("a text",) * len(numbers), numbers, tuple(range(len(numbers))))


def test_targets_are_standardised_by_the_training_rows_and_scores_are_not() -> None:
    task = Regression.of(rows_of(100.0, 200.0, 300.0), ("price",), Settings())
    assert task.targets(rows_of(100.0, 200.0, 300.0)) == pytest.approx([-(1.5**0.5), 0, 1.5**0.5], rel=1e-6)
    outputs = np.array([[-1.0], [0.0], [1.0]], np.float32)
    deviation = (20_000 / 3) ** 0.5
    assert task.decode(outputs, None) == pytest.approx([200 - deviation, 200, 200 + deviation])  # type: ignore[arg-type]
    found = task.measure(np.array([100.0, 300.0]), np.array([110.0, 310.0]))
    assert found["rmse"] == pytest.approx(10)
    assert found["scaled_mse"] == pytest.approx(100 / deviation**2)


@pytest.mark.parametrize("bias", [True, False])
def test_what_goes_into_the_last_layer_changes_no_prediction(bias: bool) -> None:
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1, bias=bias)), torch.randn(5, 6)
    made = Regression.of(rows_of(5000.0, 5100.0, 5300.0), ("price",), Settings())
    task = made.fitted_to(model, kept=False)
    assert (task.mean == 0) == (not bias), "without a bias nothing can be shifted"
    with torch.no_grad():
        before = task.decode(model(inputs).numpy(), None)  # type: ignore[arg-type]
        finished, _ = task.finish(model, lambda: np.zeros(0), None, Settings())  # type: ignore[arg-type]
        after = finished.decode(model(inputs).numpy(), None)  # type: ignore[arg-type]
    assert (finished.mean, finished.scale, finished.unit) == (0, 1, made.unit)
    assert after == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("head", ["linear", "native"])
def test_a_kept_head_goes_on_from_what_it_said(
    head: str, prices: Path, tiny_bert: Path, tmp_path: Path, job_of: Any
) -> None:
    options: dict[str, Any] = {"steps": 12, "threads": 1, "quiet": True, "forgetting": False, "learning_rate": 3e-3}
    run = whet.fine_tune(prices, model=str(tiny_bert), head=head, out=tmp_path / "run", **options)
    job = job_of(model=str(run.path / "model"), head="kept", data=prices)
    with torch.no_grad():
        outputs = Loop(job).forward.all(job.valid.store)
    texts = run.rows_to_predict(prices)
    by_line = dict(zip(texts.lines, texts.texts, strict=True))
    expected = run.predict([by_line[line] for line in job.valid.lines])
    assert job.task.decode(outputs, job.valid) == pytest.approx(expected, rel=1e-4)
    assert abs(float(np.asarray(outputs).mean())) < 10, "what is learnt is standardised again"


def test_numbers_far_from_0_are_learnt_like_those_near_it(prices: Path, tiny_bert: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 12, "threads": 1, "quiet": True, "forgetting": False, "learning_rate": 3e-3}
    near = write(tmp_path / "near.csv", [{"text": r["text"], "price": r["score"]} for r in ROWS["regression"](48, 0)])
    runs = [
        whet.fine_tune(data, model=str(tiny_bert), out=tmp_path / f"run{number}", **options)
        for number, data in enumerate((prices, near))
    ]
    far, close = (run.metrics["test"] for run in runs)
    assert far["rmse"] == pytest.approx(1000 * close["rmse"], rel=1e-2)
    assert far["r2"] == pytest.approx(close["r2"], abs=1e-2)
    assert runs[0].asked["task"]["state"]["unit"] == pytest.approx(1000 * runs[1].asked["task"]["state"]["unit"])


def test_the_report_draws_truth_and_prediction(prices: Path, tiny_bert: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 2, "threads": 1, "quiet": True, "forgetting": False}
    run = whet.fine_tune(prices, model=str(tiny_bert), out=tmp_path / "run", **options)
    page = run.report.read_text(encoding="utf-8")
    assert "Prediction against truth" in page
    assert "The rows furthest off" in page
    assert "Confusions" not in page
    assert "nan" not in page.casefold().replace("finance", "")


@pytest.mark.parametrize("options", [{"class_weight": "balanced"}, {"metric": "accuracy"}, {"calibrate": True}])
def test_what_is_of_classes_is_refused(options: dict[str, Any], prices: Path, tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(whet.errors.SettingsError, match="regression"):
        whet.fine_tune(prices, model=str(tiny_bert), out=tmp_path / "run", quiet=True, **options)
    assert not (tmp_path / "run").exists()


def test_probes_of_numbers_are_refused_and_a_head_is_named_instead(prices: Path, tiny_bert: Path) -> None:
    with pytest.raises(whet.errors.SettingsError, match="whet train"):
        whet.probes(prices, model=str(tiny_bert), quiet=True, threads=1)
