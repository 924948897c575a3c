"""The verbs from end to end, as a person calls them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import whet
from whet.config import resolve
from whet.data.read import read
from whet.errors import DataError, Interrupted, ModelError, PathError, RunError, StrategyError
from whet.runs.execute import begin
from whet.runs.result import Run

FIXED: dict[str, Any] = {"threads": 1, "precision": "fp32", "quiet": True}
TEXTS = [
    "my card was swallowed by the machine",
    "where is the parcel that I ordered last week?",
    "I need to borrow some money for a car",
    "card",
]


@pytest.fixture(scope="module")
def tuned(tiny_bert: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of `fine_tune` over six epochs."""
    out = tmp_path_factory.mktemp("runs") / "tuned"
    return whet.fine_tune(rows_csv, model=tiny_bert, epochs=6, learning_rate=5e-3, out=out, **FIXED)


@pytest.fixture(scope="module")
def trained(tiny_bert: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of `train` over ten epochs."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    return whet.train(rows_csv, model=tiny_bert, epochs=10, out=out, **FIXED)


@pytest.fixture(params=["tuned", "trained"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.getfixturevalue(request.param)


def lines(run: Run, split: str | None = None) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run.path / "progress.jsonl").read_text().splitlines()]
    return [line for line in found if split in (None, line["split"])]


def pretrained(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_run_leaves_what_the_design_says(run: Run) -> None:
    left = {path.name for path in run.path.iterdir()}
    assert left == {
        "run.json",
        "plan.yaml",
        "progress.jsonl",
        "events.jsonl",
        "model",
        "predictions.csv",
        "metrics.json",
        "report.html",
    }
    events = [json.loads(line)["event"] for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert events == ["started", "finished"]


def test_metrics_hold_what_a_reader_asks(run: Run) -> None:
    metrics = run.metrics
    scores = {"accuracy", "macro_f1", "mcc", "log_loss"}
    assert metrics.keys() >= {"kept", "phases", "rows", "dropped", "truncated", "seconds", "peak_memory_mb", "plan"}
    assert metrics["valid"].keys() >= scores
    assert metrics["test"].keys() >= scores
    assert sum(metrics["rows"].values()) == 120
    assert [row["label"] for row in metrics["per_label"]] == list(run.labels)
    assert sum(map(sum, metrics["confusion"])) == metrics["rows"]["test"]
    assert metrics["kept"]["of"] == max(line["step"] for line in lines(run))
    best = max(lines(run, "valid"), key=lambda line: (line["accuracy"], -line["log_loss"]))
    assert metrics["kept"]["step"] == best["step"]
    assert metrics["valid"]["accuracy"] == best["accuracy"]


def test_training_learns_something(tuned: Run) -> None:
    losses = [line["loss"] for line in lines(tuned, "train")]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1


def test_the_test_rows_are_scored_with_the_saved_model(run: Run) -> None:
    with (run.path / "predictions.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == run.metrics["rows"]["test"]
    right = np.mean([row["truth"] == row["prediction"] for row in rows])
    assert right == pytest.approx(run.metrics["test"]["accuracy"])
    made = run.probabilities([row["text"] for row in rows])
    assert [run.labels[best] for best in made.argmax(1)] == [row["prediction"] for row in rows]
    np.testing.assert_allclose(made.max(1), [float(row["probability"]) for row in rows], atol=1e-5)


def test_other_rows_are_scored_as_the_test_rows_are(tuned: Run) -> None:
    table = read(tuned.path / "predictions.csv")
    found = tuned.evaluate({"text": table.columns["text"], "label": table.columns["truth"]})
    assert found["scores"] == pytest.approx(tuned.metrics["test"])
    for own, row in zip(found["per_label"], tuned.metrics["per_label"], strict=True):
        assert own == {name: row[name] for name in own}
    assert found["confusion"] == tuned.metrics["confusion"]


def test_predictions(run: Run) -> None:
    again = whet.load(run.path)
    made = run.probabilities(TEXTS)
    assert made.shape == (4, 3)
    np.testing.assert_allclose(made.sum(1), 1, atol=1e-6)
    assert np.array_equal(again.probabilities(TEXTS), made)
    assert again.predict(TEXTS) == [run.labels[best] for best in made.argmax(1)]
    for place, text in enumerate(TEXTS):
        np.testing.assert_allclose(run.probabilities([text])[0], made[place], atol=1e-5)
    assert run.predict([]) == []


@pytest.mark.parametrize("wrong", ["a text alone", ["one", ""], ["one", None], [3]])
def test_what_cannot_be_predicted_is_an_error(wrong: Any, tuned: Run) -> None:
    with pytest.raises(DataError):
        tuned.predict(wrong)


def test_a_run_prints_as_its_table(run: Run) -> None:
    text = str(run)
    assert f"{run.metrics['test']['accuracy']:.4f}" in text
    assert str(run.path) in text
    assert str(run.path) in repr(run)


def test_train_leaves_the_body_as_it_was(trained: Run, tiny_bert: Path) -> None:
    before = pretrained(tiny_bert)
    after = pretrained(trained.path / "model")
    assert after.keys() == {name for name in before if not name.startswith("pooler.")}
    assert all(torch.equal(value, before[name]) for name, value in after.items())


@pytest.mark.parametrize("strategy", ["full", "top(1)", "freeze", "bitfit", "lift(blocks=2)"])
def test_what_explain_says_will_move_is_what_moves(
    strategy: str, tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    # A small step per phase at a high rate, and log-loss, which a worse last step does not hide.
    options = {"model": tiny_bert, "strategy": strategy, "steps": 2, "learning_rate": 1e-3, "threads": 1}
    said = whet.explain(rows_csv, **options)
    run = whet.fine_tune(rows_csv, out=tmp_path / "run", quiet=True, **options)
    assert not (tmp_path / "runs").exists()
    assert run.metrics["plan"] == said.plan.model_dump(mode="json")
    steps = [line["phase"] for line in lines(run, "train")]
    assert [(fact.name, fact.steps) for fact in said.phases] == [
        (name, steps.count(name)) for name in dict.fromkeys(steps)
    ]
    done = [fact for fact in said.phases if steps.index(fact.name) < run.metrics["kept"]["step"]]
    before, after = pretrained(tiny_bert), pretrained(run.path / "model")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    groups = {group for fact in done for group in fact.groups} - {"head"}
    place = {"embeddings": "embeddings."} | {f"block {number}": f"encoder.layer.{number}." for number in range(4)}
    for group, prefix in place.items():
        assert (group in groups) == any(name.startswith(prefix) for name in moved), group
    if strategy == "bitfit":
        assert all(name.endswith("bias") or "LayerNorm" in name for name in moved)
    assert load_file(run.path / "model" / "head.safetensors")["layers.1.bias"].abs().sum() > 0


def test_explaining_writes_nothing(tiny_bert: Path, rows_csv: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    whet.explain(rows_csv, verb="train", model=tiny_bert)
    assert list(tmp_path.iterdir()) == []


def as_frame(rows: dict[str, list[str]]) -> Any:
    return pd.DataFrame({"number": range(len(rows["text"])), **rows})


SHAPES: dict[str, Callable[[dict[str, list[str]]], Any]] = {
    "a frame": as_frame,
    "pairs": lambda rows: list(zip(rows["text"], rows["label"], strict=True)),
    "mappings": lambda rows: pd.DataFrame(rows).to_dict("records"),
    "columns": lambda rows: dict(rows),
}


@pytest.fixture(scope="module")
def from_file(tiny_bert: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "file"
    return whet.fine_tune(rows_csv, model=tiny_bert, steps=6, text="text", label="label", out=out, **FIXED)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_from_memory_train_and_resume_like_those_of_a_file(
    shape: str, from_file: Run, tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    """Interrupted after a step, and taken up from the folder alone."""
    data = SHAPES[shape](read(rows_csv).columns)
    given = {"model": tiny_bert, "steps": 6, "text": "text", "label": "label", "out": tmp_path / "run", **FIXED}
    given.pop("quiet")

    def watch(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match=f"whet resume {tmp_path / 'run'}"):
        begin(resolve("fine_tune", given), data, watch)
    del data
    run = whet.resume(tmp_path / "run", quiet=True)
    assert run.asked["data"]["fingerprints"] == from_file.asked["data"]["fingerprints"]
    for name in ("model.safetensors", "head.safetensors"):
        assert (run.path / "model" / name).read_bytes() == (from_file.path / "model" / name).read_bytes()
    assert run.metrics["test"] == from_file.metrics["test"]


def interrupted(folder: Path, data: Any, **options: Any) -> None:
    def watch(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        begin(resolve("fine_tune", {"steps": 6, "threads": 1, "out": folder, **options}), data, watch)


def test_a_run_can_be_resumed_from_another_folder(
    tiny_bert: Path, rows_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model and rows were named by paths from where it was started."""
    home = tmp_path / "home"
    shutil.copytree(tiny_bert, home / "model")
    for name in ("rows.csv", "valid.csv"):
        shutil.copy(rows_csv, home / name)
    monkeypatch.chdir(home)
    interrupted(Path("run"), "rows.csv", model="model", valid="valid.csv")
    monkeypatch.chdir(tmp_path)
    assert whet.resume(home / "run", quiet=True).metrics["kept"]["of"] == 6


def test_a_run_is_not_resumed_on_other_rows_or_weights(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    rows, model = Path(shutil.copy(rows_csv, tmp_path / "rows.csv")), shutil.copytree(tiny_bert, tmp_path / "model")
    interrupted(tmp_path / "run", rows, model=model)
    content = rows.read_text()
    rows.write_text(content.replace("card", "cart"))
    with pytest.raises(RunError, match="rows have changed since this run was started"):
        whet.resume(tmp_path / "run", quiet=True)
    rows.write_text(content)
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(RunError, match=r"weights of .* have changed since this run was started"):
        whet.resume(tmp_path / "run", quiet=True)
    (model / "model.safetensors").write_bytes(weights)
    assert whet.resume(tmp_path / "run", quiet=True).metrics["kept"]["of"] == 6


def test_what_cannot_be_resumed_or_loaded(tuned: Run, tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is finished"):
        whet.resume(tuned.path)
    with pytest.raises(PathError, match="there is no folder"):
        whet.resume(tmp_path / "nowhere")
    with pytest.raises(PathError, match="there is no run"):
        whet.load(tiny_bert)
    interrupted(tmp_path / "run", rows_csv, model=tiny_bert)
    with pytest.raises(RunError, match=r"is not finished; .* whet resume"):
        whet.load(tmp_path / "run")


def test_a_folder_that_exists_is_left_alone(tuned: Run, tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for out in (tuned.path, tmp_path / "mine"):
        before = sorted(os.listdir(out))
        with pytest.raises(PathError, match="exists already"):
            whet.fine_tune(rows_csv, model=tiny_bert, out=out, **FIXED)
        assert sorted(os.listdir(out)) == before


def test_a_run_that_fails_before_training_leaves_no_folder(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    wrong: list[tuple[type[Exception], dict[str, Any]]] = [
        (PathError, {"model": "no-such-model"}),
        (PathError, {"text": "no such column"}),
        (StrategyError, {"strategy": "top(9)"}),
        (ModelError, {"head": "native", "model": shutil.copytree(tiny_bert, tmp_path / "broken")}),
    ]
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not safetensors")
    for error, options in wrong:
        with pytest.raises(error if error is not StrategyError else whet.errors.WhetError):
            whet.fine_tune(rows_csv, out=tmp_path / "run", **{"model": tiny_bert, **FIXED, **options})
        assert not (tmp_path / "run").exists()


def test_without_test_rows_nothing_is_scored(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    run = whet.train(rows_csv, model=tiny_bert, steps=2, test=0, out=tmp_path / "run", **FIXED)
    assert run.metrics["test"] == {}
    assert run.metrics["rows"]["test"] == 0
    assert str(run)
    assert len(run.predict(TEXTS)) == 4


def test_recomputing_activations_changes_no_loss(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    for strategy in ("full", "top(2)"):
        made = []
        for again in (False, True):
            out = tmp_path / f"{strategy} {again}"
            options = {"steps": 6, "strategy": strategy, "learning_rate": 1e-3, "gradient_checkpointing": again}
            made.append(lines(whet.fine_tune(rows_csv, model=tiny_bert, out=out, **options, **FIXED), "train"))
        assert [line["loss"] for line in made[0]] == [line["loss"] for line in made[1]]


def test_products_in_bf16(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    made = {}
    for precision in ("fp32", "bf16"):
        options = {**FIXED, "precision": precision}
        made[precision] = whet.fine_tune(rows_csv, model=tiny_bert, steps=6, out=tmp_path / precision, **options)
    losses = {name: [line["loss"] for line in lines(run, "train")] for name, run in made.items()}
    assert losses["bf16"] != losses["fp32"]
    np.testing.assert_allclose(losses["bf16"], losses["fp32"], rtol=0.05)
    assert made["bf16"].asked["machine"]["precision"] == "bf16"
    compared = made["bf16"].metrics["precision"]
    assert compared["compared"] == "bf16"
    assert 0 < compared["largest_difference"] < 0.1
    assert made["fp32"].metrics["precision"] is None
    weights = pretrained(made["bf16"].path / "model")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_a_report_that_the_disk_refuses_leaves_the_run_finished(
    tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    """A folder stands where the report should be."""
    from whet.runs.execute import report
    from whet.runs.folder import Folder

    options: dict[str, Any] = {"steps": 1, "threads": 1, "quiet": True, "baselines": False}
    run = whet.fine_tune(rows_csv, model=str(tiny_bert), out=tmp_path / "run", **options)
    (run.path / "report.html").unlink()
    (run.path / "report.html").mkdir()
    with pytest.raises(RunError, match=r"the run is finished, but not its report: .* whet report"):
        report(Folder.open(run.path))
    assert whet.load(run.path).metrics["test"] == run.metrics["test"]
