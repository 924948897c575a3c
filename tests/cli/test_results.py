"""What commands print when they succeed: one JSON object, one prediction per row, and what was left out on the way."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any


def predictions(out: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(out)))


def test_json_is_one_object_with_the_documented_keys(finished: Any) -> None:
    assert len(finished.out.splitlines()) == 1
    metrics = finished.metrics
    assert metrics["out"] == str(finished.path)
    for part in ("test", "valid"):
        assert set(metrics[part]) == {"accuracy", "macro_f1", "mcc", "log_loss"}
        assert all(isinstance(score, float) for score in metrics[part].values())
    assert metrics["kept"]["step"] >= 1
    assert metrics["kept"]["reason"] == "best validation accuracy"
    assert metrics["rows"] == {"train": 84, "valid": 18, "test": 18}
    assert metrics["dropped"] == {}
    assert set(metrics["truncated"]) == {"rows", "tokens", "max_length"}
    assert 0 < metrics["seconds"]["train"] < metrics["seconds"]["total"]
    assert metrics["peak_memory_mb"] > 0
    assert [phase["train"] for phase in metrics["plan"]["phases"]] == ["head()"]
    assert metrics["plan"]["phases"][0]["length"] == "3 epochs"


def test_json_has_only_numbers_that_json_knows(finished: Any) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(finished.out, parse_constant=refuse)


def test_progress_is_on_standard_error(finished: Any) -> None:
    assert "validation after step" in finished.err
    assert "train  " in finished.err.splitlines()[0]


def test_a_person_sees_a_table_and_what_to_do_next(command: Any, here: Path, tiny: list[str]) -> None:
    rows = (here / "rows.csv").read_text() + ",card\nno label,\ntoo,many,fields\n"
    (here / "rows.csv").write_bytes(rows.replace("number 1", "naïve").encode("cp1252"))
    ended = command("train", "rows.csv", *tiny, "--steps", "2", "--quiet", "--out", "run")
    out = ended.succeeded()
    assert ended.err == ""
    assert all(len(line) <= 80 or line.startswith(("note", "left out")) for line in out.splitlines())
    assert "validation (9 rows)  test (9 rows)" in out
    assert "report   run/report.html" in out
    assert len(out.splitlines()) <= 25
    assert "use it   whet predict run FILE" in out
    for note in (
        "left out 1 row: empty text",
        "left out 1 row: no label",
        "left out 1 row: 3 fields where the header",
    ):
        assert note in out
    notes = json.loads((here / "run" / "run.json").read_text())["data"]["notes"]
    assert {"label column: label", "text column: text", "rows.csv is not UTF-8; read as cp1252"} == set(notes)
    assert {path.name for path in (here / "run").iterdir()} >= {"model", "metrics.json", "predictions.csv", "run.json"}


def test_the_cure_for_labels_in_several_spellings(command: Any, here: Path, tiny: list[str]) -> None:
    rows = (here / "rows.csv").read_text().splitlines()
    rows[1] += "  "
    rows[3] = rows[3].replace(",card", ",CARD")
    (here / "rows.csv").write_text("\n".join(rows) + "\n")
    words = ["train", "rows.csv", *tiny, "--steps", "1", "--test", "0"]
    command(*words).refused(1, "'card' (29 rows) and 'CARD' (1 rows)", "--clean-labels")
    metrics = json.loads(command(*words, "--clean-labels", "--json").succeeded())
    assert metrics["rows"] == {"train": 51, "valid": 9, "test": 0}
    assert metrics["test"] == {}
    labels = json.loads((here / metrics["out"] / "run.json").read_text())["data"]["labels"]
    assert labels == ["card", "fee"]
    (here / "other.csv").write_text("text,label\nmy card,Card\nmy fee,FEE\n")
    scores = json.loads(command("eval", metrics["out"], "other.csv", "--json").succeeded())
    assert [row["support"] for row in scores["per_label"]] == [1, 1]


def test_one_prediction_per_row_of_a_file(command: Any, here: Path, finished: Any) -> None:
    texts = ["where is my card", "", "a loan, please", '"quoted"', "two\nlines", "  "]
    with (here / "new.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["id", "text"], *([n, text] for n, text in enumerate(texts))])
    found = predictions(command("predict", finished.path, "new.csv").succeeded())
    assert [row["text"] for row in found] == texts
    labels = json.loads((finished.path / "run.json").read_text())["data"]["labels"]
    for row in found:
        if row["text"].strip():
            assert row["prediction"] in labels
            assert 1 / len(labels) <= float(row["probability"]) <= 1
        else:
            assert (row["prediction"], float(row["probability"])) == ("", 0)


def test_one_prediction_per_line_of_standard_input(command: Any, finished: Any) -> None:
    texts = ["where is my card", "", "a loan, please", "naïve café", "", "order"]
    ended = command("predict", finished.path, stdin="\n".join(texts).encode())
    assert [row["text"] for row in predictions(ended.succeeded())] == texts
    assert ended.err == ""


def test_predictions_as_json_are_those_of_the_csv(command: Any, here: Path, finished: Any) -> None:
    texts = b"where is my card\n\na loan please\n"
    plain = predictions(command("predict", finished.path, stdin=texts).succeeded())
    found = [
        json.loads(line) for line in command("predict", finished.path, "--json", stdin=texts).succeeded().splitlines()
    ]
    assert [(row["prediction"], row["text"]) for row in found] == [(row["prediction"], row["text"]) for row in plain]
    assert [f"{row['probability']:.4f}" for row in found] == [row["probability"] for row in plain]


def test_no_rows_no_predictions(command: Any, finished: Any) -> None:
    assert command("predict", finished.path).succeeded() == "prediction,probability,text\n"
    assert command("predict", finished.path, "--json").succeeded() == ""


def test_the_column_of_texts_may_have_another_name(command: Any, here: Path, finished: Any) -> None:
    (here / "new.csv").write_text("id,message,notes\n1,my card,a\n2,my loan,b\n")
    found = predictions(command("predict", finished.path, "new.csv").succeeded())
    assert [row["text"] for row in found] == ["my card", "my loan"]
    found = predictions(command("predict", finished.path, "new.csv", "--text", "notes").succeeded())
    assert [row["text"] for row in found] == ["a", "b"]


def test_rows_that_cannot_be_predicted_are_said_on_standard_error(command: Any, here: Path, finished: Any) -> None:
    (here / "new.csv").write_text("id,text\n1,my card\n2,a loan, please\n3,order\n")
    ended = command("predict", finished.path, "new.csv")
    assert [row["text"] for row in predictions(ended.succeeded())] == ["my card", "order"]
    assert ended.err == "whet: note: 1 rows left out: 3 fields where the header has 2\n"


def test_eval_scores_other_rows(command: Any, here: Path, finished: Any, rows_csv: Path) -> None:
    shutil.copy(rows_csv, here / "other.csv")
    with (here / "other.csv").open("a") as handle:
        handle.write(",card_problem\n")
    scores = json.loads(command("eval", finished.path, "other.csv", "--json").succeeded())
    assert scores["rows"] == 120
    assert scores["dropped"] == {"empty text": 1}
    assert set(scores["scores"]) == {"accuracy", "macro_f1", "mcc", "log_loss"}
    assert [row["support"] for row in scores["per_label"]] == [40, 40, 40]
    shown = command("eval", finished.path, "other.csv").succeeded()
    assert f"accuracy {scores['scores']['accuracy']:.4f}" in shown
    assert "120 rows; 1 left out: empty text" in shown


def test_explain_writes_nothing_and_its_plan_can_be_run(command: Any, here: Path, tiny: list[str]) -> None:
    words = ["rows.csv", *tiny, "--strategy", "top(1)", "--epochs", "1"]
    ended = command("explain", *words)
    assert ended.left == set()
    (here / "plan.yaml").write_text(ended.succeeded())
    metrics = json.loads(command("fine-tune", *words[:-4], "--plan", "plan.yaml", "--json").succeeded())
    assert metrics["plan"]["phases"][0]["train"] == "top(1)"
    assert metrics["kept"]["of"] == 3
    facts = json.loads(command("explain", *words, "--json").succeeded())
    assert facts["plan"] == metrics["plan"]
    assert facts["phases"][0]["steps"] == 3


def test_a_run_says_where_each_option_came_from(command: Any, here: Path, tiny: list[str]) -> None:
    (here / "c.yaml").write_text("steps: 3\nlearning_rate: 1e-4\n")
    words = ["train", "rows.csv", *tiny, "--config", "c.yaml", "--steps", "1", "--json"]
    out = json.loads(command(*words).succeeded())["out"]
    asked = json.loads((here / out / "run.json").read_text())
    sources = {name: asked["sources"][name] for name in ("steps", "learning_rate", "model", "text", "seed")}
    assert sources == {
        "steps": "flag",
        "learning_rate": "file c.yaml",
        "model": "flag",
        "text": "data",
        "seed": "default",
    }
    assert asked["settings"]["learning_rate"] == 1e-4
    assert asked["settings"]["steps"] == 1


def test_runs_get_the_name_of_their_file_and_the_first_free_number(command: Any, here: Path, tiny: list[str]) -> None:
    (here / "runs" / "rows").mkdir(parents=True)
    words = ["train", "rows.csv", *tiny, "--steps", "1", "--json"]
    assert json.loads(command(*words).succeeded())["out"] == str(Path("runs") / "rows-2")


def test_a_reader_that_stops_early_is_no_error(here: Path, finished: Any) -> None:
    """As in `whet predict RUN FILE | head -n 1`."""
    (here / "many.csv").write_text("text\n" + "my card is lost\n" * 3000)
    command = [sys.executable, "-m", "whet", "predict", str(finished.path), "many.csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.readline()
        started.stdout.close()
        err = started.stderr.read().decode()
    assert (started.returncode, err) == (0, "")
