"""--seeds repeats a run on the same split and shows what chance in training does to the scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

import whet


@pytest.fixture(scope="module")
def three(tiny_bert: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> whet.Run:
    out = tmp_path_factory.mktemp("seeds") / "run"
    fixed: dict[str, Any] = {"steps": 6, "learning_rate": 0.01, "threads": 1, "precision": "fp32", "quiet": True}
    return whet.fine_tune(rows_csv, model=str(tiny_bert), out=out, seeds=3, seed=4, **fixed)


def test_each_repetition_is_a_run_of_its_own_on_the_same_rows(three: whet.Run) -> None:
    others = [whet.load(three.path / "seeds" / str(seed)) for seed in (5, 6)]
    for run in others:
        assert run.asked["data"]["fingerprints"] == three.asked["data"]["fingerprints"]
        assert run.metrics["plan"] == three.metrics["plan"]
        assert run.metrics["baselines"] == []
    losses = {run.metrics["test"]["log_loss"] for run in (three, *others)}
    assert len(losses) == 3, "other seeds gave the same weights"


def test_the_spread_is_that_of_the_runs(three: whet.Run) -> None:
    found = three.metrics["seeds"]
    assert [run["seed"] for run in found["runs"]] == [4, 5, 6]
    for name, own in found["spread"].items():
        values = [run["test"][name] for run in found["runs"]]
        assert own == pytest.approx(
            {"mean": fmean(values), "deviation": stdev(values), "low": min(values), "high": max(values)}
        )
    assert "3 seeds" in str(three)
    assert f"{found['spread']['accuracy']['mean']:.3f}" in (three.path / "report.html").read_text()


def test_a_repetition_equals_a_run_with_its_seed(
    three: whet.Run, tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    fixed: dict[str, Any] = {"steps": 6, "learning_rate": 0.01, "threads": 1, "precision": "fp32", "quiet": True}
    alone = whet.fine_tune(rows_csv, model=str(tiny_bert), out=tmp_path / "alone", seed=5, split_seed=4, **fixed)
    weights = [(path / "model" / "model.safetensors").read_bytes() for path in (alone.path, three.path / "seeds" / "5")]
    assert weights[0] == weights[1]


def test_repetitions_that_were_cut_short_are_taken_up(three: whet.Run, tmp_path: Path) -> None:
    """Killed after the run itself and one repetition: resume makes what is missing, and nothing twice."""
    folder = shutil.copytree(three.path, tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**metrics, "seeds": None}))
    shutil.rmtree(folder / "seeds" / "6")
    before = (folder / "seeds" / "5" / "metrics.json").stat().st_mtime_ns
    again = whet.resume(folder, quiet=True)
    assert (folder / "seeds" / "5" / "metrics.json").stat().st_mtime_ns == before
    spread = again.metrics["seeds"]["spread"]
    assert spread == three.metrics["seeds"]["spread"]
