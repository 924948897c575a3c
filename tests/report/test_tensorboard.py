"""TensorBoard is an extra: with it every number of the progress is there; without it, or broken, nothing changes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

import whet

HERE = importlib.util.find_spec("tensorboard") is not None


def tuned(out: Path, model: Path, rows: Path, **options: Any) -> whet.Run:
    fixed = {"model": str(model), "steps": 3, "threads": 1, "precision": "fp32", "quiet": True}
    return whet.fine_tune(rows, out=out, **{**fixed, **options})


@pytest.mark.skipif(not HERE, reason="the package tensorboard is not installed")
def test_every_number_of_the_progress_is_there(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tuned(tmp_path / "run", tiny_bert, rows_csv, tensorboard=True)
    found = EventAccumulator(str(run.path / "tensorboard"))
    found.Reload()
    lines = [json.loads(line) for line in (run.path / "progress.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["split"] == "train"]
    events = found.Scalars("train/loss")
    assert [(event.step, event.value) for event in events] == [(s["step"], pytest.approx(s["loss"])) for s in steps]
    assert "valid/accuracy" in found.Tags()["scalars"]


def test_a_run_goes_on_where_it_cannot_be_written(
    tiny_bert: Path, rows_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file stands where its folder should be; without the package, that is missing too."""
    plain = tuned(tmp_path / "plain", tiny_bert, rows_csv)
    from whet.report.tensorboard import Board

    said: list[dict[str, Any]] = []
    (tmp_path / "file").write_text("in the way")
    board = Board(tmp_path / "file", said.append)
    for step in (1, 2):
        board({"step": step, "phase": "all", "split": "train", "loss": 0.5})
    board.close()
    notes = [line for line in said if "note" in line]
    assert len(notes) == 1
    assert "TensorBoard" in notes[0]["note"]
    assert [line["step"] for line in said if "step" in line] == [1, 2]
    capfd.readouterr()
    asked = tuned(tmp_path / "asked", tiny_bert, rows_csv, tensorboard=True, quiet=False)
    assert HERE or "pip install 'whet[tensorboard]'" in capfd.readouterr().err
    weights = [(run.path / "model" / "model.safetensors").read_bytes() for run in (plain, asked)]
    assert weights[0] == weights[1]
