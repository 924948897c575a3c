"""What every task promises, from its rows to the saved model. A new task joins by being registered, with rows in
tasks.py. How tasks go with strategies is in test_every_strategy.py."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import pipeline

import whet
from contracts.tasks import ROWS, write
from whet import Run
from whet.config import resolve
from whet.data.read import read
from whet.errors import RunError
from whet.models.quiet import quiet_libraries
from whet.report.run_files import read_run
from whet.report.side_by_side import write_comparison
from whet.runs.rows import read_rows
from whet.tasks.registry import TASKS

MODELS = (("bert", "linear"), ("bert", "native"), ("gpt2", "native"))
CASES = [(task, *model) for task in TASKS for model in MODELS]
COVER = {(task, *MODELS[number % 2 * 2]) for number, task in enumerate(TASKS)}
"""Each task once, the two heads taking turns; the rest is slow."""
MARKED = [case if case in COVER else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
Runs = Callable[[tuple[str, str, str]], Run]


def test_every_task_has_rows_here() -> None:
    assert set(ROWS) == set(TASKS)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    return {name: write(folder / f"{name}.csv", make(60, 0)) for name, make in ROWS.items()}


@pytest.fixture(scope="module")
def runs(tiny_bert: Path, tiny_gpt2: Path, tables: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A finished run of each case, made when it is first asked for."""
    made: dict[tuple[str, str, str], Run] = {}

    def run(case: tuple[str, str, str]) -> Run:
        if case not in made:
            task, family, head = case
            model = {"bert": tiny_bert, "gpt2": tiny_gpt2}[family]
            options: dict[str, Any] = {"head": head, "steps": 6, "batch_size": 8, "threads": 1, "quiet": True}
            out = tmp_path_factory.mktemp("task") / "run"
            made[case] = whet.fine_tune(tables[task], model=str(model), out=out, learning_rate=3e-3, **options)
        return made[case]

    return run


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_recognised_from_its_columns(name: str, tables: dict[str, Path]) -> None:
    dataset = read_rows(resolve("fine_tune", {}).settings, tables[name])
    assert dataset.reading.name == name
    assert name in dataset.reading.said_of(dataset.columns)


@pytest.mark.parametrize("name", TASKS)
def test_the_first_line_names_the_task(
    name: str, tables: dict[str, Path], tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"steps": 1, "threads": 1, "baselines": False, "forgetting": False}
    whet.train(tables[name], model=str(tiny_bert), out=tmp_path / "run", **options)
    assert f": {name} (" in capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize("case", MARKED, ids="-".join)
def test_what_is_loaded_is_what_was_scored(case: tuple[str, str, str], runs: Runs, tables: dict[str, Path]) -> None:
    run = runs(case)
    found = read_run(run.path).predictions
    assert len(found) == run.metrics["rows"]["test"] > 0
    again = whet.load(run.path)
    assert again.task == run.task
    by_line = dict(zip(*(lambda t: (t.lines, range(len(t))))(read(tables[case[0]])), strict=True))
    rows = again.rows_to_predict(tables[case[0]])
    said = list(again.predictions(rows.take([by_line[int(row["row"])] for row in found])))
    for one, row in zip(said, found, strict=True):
        assert set(run.task.nothing) <= set(one)
        if isinstance(one["prediction"], float):
            assert one["prediction"] == pytest.approx(float(row["prediction"]), rel=1e-4, abs=1e-4)
        else:
            assert str(run.task.cell("prediction", one["prediction"], 6)) == row["prediction"]


@pytest.mark.parametrize("case", MARKED, ids="-".join)
def test_the_lines_of_the_readme_run_as_they_stand(case: tuple[str, str, str], runs: Runs) -> None:
    run = runs(case)
    use, note = run.task.usage, (run.path / "model" / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```", note, re.DOTALL | re.MULTILINE)[0]
    names: dict[str, Any] = {"folder": str(run.path / "model")}
    with quiet_libraries():
        exec(f"{use.assign}\n{code}", names)
    expected = run.predict(eval(use.items, names))
    assert len(expected) > 0
    if isinstance(expected[0], float):
        assert names[use.result] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    else:
        assert names[use.result] == expected


@pytest.mark.parametrize("case", MARKED, ids="-".join)
def test_the_lines_of_the_report_run_as_they_stand(
    case: tuple[str, str, str], runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs(case)
    monkeypatch.chdir(run.path.parent)
    lines = f"import whet\nrun = whet.load({run.path.name!r})\n{run.task.usage.assign}\n{run.task.usage.call}"
    with redirect_stdout(io.StringIO()) as shown:
        exec(lines, {})
    assert shown.getvalue().strip()


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_run_says_what_it_proves(case: tuple[str, str, str], runs: Runs) -> None:
    metrics, task = runs(case).metrics, runs(case).task
    assert metrics["task"]["name"] == task.name == case[0]
    for part in ("valid", "test"):
        assert set(metrics[part]) == set(task.metrics)
        assert all(np.isfinite(value) for value in metrics[part].values())
    assert set(task.metrics) <= set(metrics["intervals"]["test"])
    for name in task.metrics:
        found = metrics["intervals"]["test"][name]
        assert found["low"] <= found["high"]
    held = [one["name"] for one in metrics["baselines"] if "comparison" in one]
    assert len(held) >= 2
    assert metrics["verdict"]["headline"]
    page = (runs(case).path / "report.html").read_text(encoding="utf-8")
    assert all(one["title"] in page for one in metrics["baselines"])
    assert len(str(runs(case)).splitlines()) <= 25


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_other_rows_are_scored_like_the_tests(case: tuple[str, str, str], runs: Runs, tables: dict[str, Path]) -> None:
    """All rows that the run was made of, the test rows among them."""
    run = runs(case)
    found = run.evaluate(tables[case[0]])
    assert found["rows"] == 60
    assert set(found["scores"]) == set(run.task.metrics)


@pytest.mark.parametrize("case", MARKED, ids="-".join)
def test_predictions_have_a_column_for_each_baseline(case: tuple[str, str, str], runs: Runs) -> None:
    run = runs(case)
    with (run.path / "predictions.csv").open(encoding="utf-8", newline="") as handle:
        header = next(csv.reader(handle))
    held = [one["name"] for one in run.metrics["baselines"] if "comparison" in one]
    assert header[:2] == ["row", "truth"]
    assert header[-len(held) :] == held


@pytest.mark.parametrize("case", [case for case in CASES if case[2] == "native"], ids="-".join)
def test_a_native_result_loads_by_a_pipeline(case: tuple[str, str, str], runs: Runs) -> None:
    run = runs(case)
    if run.task.output.per == "token":
        pytest.skip("its own test is beside the task")
    names: dict[str, Any] = {}
    exec(run.task.usage.assign, names)
    given = (
        [names["texts"][0]] if "others" not in names else [{"text": names["texts"][0], "text_pair": names["others"][0]}]
    )
    with quiet_libraries():
        made = pipeline("text-classification", str(run.path / "model"))
        config = made.model.config
        found = made(given)[0]
    assert config.problem_type == run.task.output.problem_type
    assert [config.id2label[number] for number in range(len(config.id2label))] == list(run.labels)
    assert found["label"] in run.labels
    if config.problem_type == "regression" and "others" not in names:
        assert found["score"] == pytest.approx(run.predict(names["texts"][:1])[0], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", TASKS)
def test_a_run_goes_on_as_if_it_had_not_stopped(
    name: str, tables: dict[str, Path], tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at the moment when the model is saved, and taken up from the folder alone."""
    options: dict[str, Any] = {"model": str(tiny_bert), "steps": 3, "threads": 1, "quiet": True, "forgetting": False}
    whole = whet.fine_tune(tables[name], out=tmp_path / "whole", **options)

    def full(*_: Any) -> None:
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr("whet.runs.execute.keep_model", full)
        with pytest.raises(RunError, match="whet resume"):
            whet.fine_tune(tables[name], out=tmp_path / "left", **options)
    again = whet.resume(tmp_path / "left", quiet=True)
    assert again.metrics["test"] == whole.metrics["test"]
    assert again.asked["task"] == whole.asked["task"]
    weights = [path.read_bytes() for path in sorted((whole.path / "model").glob("*.safetensors"))]
    assert weights == [path.read_bytes() for path in sorted((again.path / "model").glob("*.safetensors"))]


@pytest.mark.parametrize("name", TASKS)
def test_runs_are_set_side_by_side_or_refused_with_the_reason(name: str, runs: Runs, tmp_path: Path) -> None:
    folders = [runs((name, "bert", "linear")).path, runs((name, "gpt2", "native")).path]
    if TASKS[name].right_or_wrong:
        assert write_comparison(folders, tmp_path / "page.html").exists()
        return
    with pytest.raises(RunError, match=f"in {name} rows are not simply right or wrong"):
        write_comparison(folders, tmp_path / "page.html")


@pytest.mark.parametrize("name", TASKS)
def test_an_empty_row_is_predicted_as_such(name: str, runs: Runs) -> None:
    run = runs((name, "bert", "linear"))
    found = list(run.predictions(run.task.lines([""])))
    assert {key: found[0][key] for key in run.task.nothing} == dict(run.task.nothing)
