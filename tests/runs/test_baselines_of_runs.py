"""What a run is held against is made from the pretrained model and the run's own rows, and changes no bit of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

import whet
from whet.config import resolve
from whet.errors import Interrupted
from whet.runs.execute import begin, go_on

FIXED: dict[str, Any] = {"steps": 5, "learning_rate": 0.01, "threads": 1, "precision": "fp32"}


def tuned(out: Path, model: Path, rows: Path, **options: Any) -> whet.Run:
    return whet.fine_tune(rows, model=str(model), out=out, quiet=True, **{**FIXED, **options})


@pytest.mark.parametrize("strategy", ["full", "probe", "lift"])
@pytest.mark.parametrize("cache", ["off", "on"])
def test_they_change_no_bit_of_the_run(
    strategy: str, cache: str, tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    where = "off" if cache == "off" else str(tmp_path / "cache")
    runs = [
        tuned(tmp_path / str(held), tiny_bert, rows_csv, strategy=strategy, baselines=held, cache=where)
        for held in (True, False)
    ]
    weights = [(run.path / "model" / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    assert runs[0].metrics["test"] == runs[1].metrics["test"]
    assert [one["name"] for one in runs[0].metrics["baselines"]] == ["majority", "tfidf", "frozen"]
    assert runs[1].metrics["baselines"] == []
    assert runs[1].metrics["verdict"]["outcome"] == "not_compared"


def test_their_scores_are_those_of_the_columns_of_predictions(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    run = tuned(tmp_path / "run", tiny_bert, rows_csv)
    with (run.path / "predictions.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    for one in run.metrics["baselines"]:
        right = np.mean([row[one["name"]] == row["truth"] for row in rows])
        assert one["test"]["accuracy"] == pytest.approx(right)
        ours = np.mean([row["prediction"] == row["truth"] for row in rows])
        assert one["comparison"]["difference"] == pytest.approx(ours - right)
    table = whet.explain(rows_csv, model=str(tiny_bert))
    assert table.rows["test"] == len(rows)
    constant = DummyClassifier(strategy="most_frequent").fit([[0]] * len(rows), [row["truth"] for row in rows])
    assert {row["majority"] for row in rows} <= set(constant.classes_)
    assert len({row["majority"] for row in rows}) == 1


def test_a_resumed_run_is_held_against_the_same(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    """They are made once, before training; what the folder holds is not made again."""
    whole = tuned(tmp_path / "whole", tiny_bert, rows_csv)

    def stop(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] == 3:
            raise Interrupted("as if by hand")

    resolved = resolve(
        "fine_tune", {**FIXED, "model": str(tiny_bert), "out": tmp_path / "cut", "checkpoint_seconds": 0.01}
    )
    with pytest.raises(Interrupted):
        begin(resolved, rows_csv, stop)
    assert (tmp_path / "cut" / "baselines.safetensors").exists()
    folder = go_on(tmp_path / "cut", lambda line: None)
    assert not (folder.path / "baselines.safetensors").exists()
    ends = [json.loads((path / "metrics.json").read_text())["baselines"] for path in (whole.path, folder.path)]
    for left, right in zip(*ends, strict=True):
        assert {**left, "seconds": None} == {**right, "seconds": None}


def test_without_test_rows_nothing_is_claimed(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    run = tuned(tmp_path / "run", tiny_bert, rows_csv, test=0)
    assert run.metrics["verdict"]["outcome"] == "no_test"
    assert run.metrics["baselines"] == []
    assert "calibration" not in run.metrics
    assert (run.path / "report.html").exists()


@pytest.mark.parametrize("head", ["linear", "native"])
def test_a_temperature_is_saved_in_the_model(head: str, tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    plain = tuned(tmp_path / "plain", tiny_bert, rows_csv, head=head, steps=12)
    scaled = tuned(tmp_path / "scaled", tiny_bert, rows_csv, head=head, steps=12, calibrate=True)
    found = scaled.metrics["calibration"]
    texts = ["my card was swallowed", "where is my parcel"]
    before, after = np.log(plain.probabilities(texts)), np.log(scaled.probabilities(texts))
    temperature = found["temperature"]
    assert temperature != 1
    differences = [(logs[:, 0] - logs[:, 1]) for logs in (before, after)]
    np.testing.assert_allclose(differences[1], differences[0] / temperature, rtol=1e-3, atol=1e-4)
    assert found["ece_before"] == pytest.approx(plain.metrics["calibration"]["ece"], abs=1e-6)
    assert scaled.metrics["test"]["accuracy"] == plain.metrics["test"]["accuracy"]
