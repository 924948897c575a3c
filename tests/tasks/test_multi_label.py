"""Any number of labels a text, from rows to predictions: what is learnt, how it is scored, saved and used."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sklearn.metrics import f1_score

import whet
from whet.config import Settings
from whet.data.check import Rows
from whet.evaluate.thresholds import Thresholds, chosen
from whet.models.heads import Output
from whet.models.load import build
from whet.models.reference import ModelFolder
from whet.models.temperature import last_layer
from whet.plan.edits import NewHead
from whet.runs.result import Run
from whet.tasks.multi_label import MultiLabel

TICKETS = Path(__file__).parent.parent.parent / "examples" / "tickets.csv"
TEXTS = ["no heating and water all over the floor", "the neighbours shout at night", "where do I pay?", "hello"]
ROWS = Rows("rows", ("a", "b", "c", "d"), (("x", "y"), ("y",), (), ("y",)), (1, 2, 3, 4))


def example() -> list[dict[str, str]]:
    with TICKETS.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def task(**options: Any) -> MultiLabel:
    return MultiLabel.of(ROWS, ("x", "y"), Settings(**options))


@pytest.fixture(scope="module")
def runs(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """A run of the example with some options, made when it is first asked for."""
    made: dict[str, Run] = {}
    folder = tmp_path_factory.mktemp("multi-label")

    def make(case: str, **options: Any) -> Run:
        if case not in made:
            fixed = {"model": tiny_bert, "steps": 40, "learning_rate": 0.01, "threads": 1, "quiet": True}
            fixed |= {"forgetting": False, "baselines": False}
            made[case] = whet.fine_tune(TICKETS, out=folder / case, **{**fixed, **options})
        return made[case]

    return make


def test_the_loss_is_the_mean_of_torch_over_all_decisions() -> None:
    outputs = torch.randn(4, 2, requires_grad=True)
    own = task()
    targets = own.targets(ROWS)
    assert targets.tolist() == [[1, 1], [0, 1], [0, 0], [0, 1]]
    loss = own.loss(outputs, torch.from_numpy(targets)) / own.count(targets)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs, torch.from_numpy(targets).float())
    torch.testing.assert_close(loss, expected)
    assert own.count(targets) == 8
    # That of the validation is the same.
    scored = own.measure(targets, own.decided(outputs.detach().sigmoid().numpy(), Thresholds((0.5, 0.5), ())))
    assert scored["log_loss"] == pytest.approx(float(expected.detach()), abs=1e-6)


def test_balanced_weights_let_every_label_weigh_the_same_and_its_yes_as_much_as_its_no() -> None:
    own = task(class_weight="balanced")
    assert own.weights == ((2.0, 4 / 6), (4 / 6, 2.0))
    targets = own.targets(ROWS)
    weight = np.where(targets == 1, *np.array(own.weights).T)
    assert weight.sum(0).tolist() == pytest.approx([4.0, 4.0])
    assert (weight * targets).sum(0).tolist() == pytest.approx([2.0, 2.0])
    assert own.count(targets) == pytest.approx(8)
    outputs = torch.randn(4, 2)
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        outputs, torch.from_numpy(targets).float(), reduction="none"
    )
    torch.testing.assert_close(
        own.loss(outputs, torch.from_numpy(targets)), (each * torch.from_numpy(weight).float()).sum()
    )


def test_smoothing_spreads_a_share_of_each_target() -> None:
    outputs, targets = torch.randn(4, 2), task().targets(ROWS)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        outputs, 0.9 * torch.from_numpy(targets).float() + 0.05, reduction="sum"
    )
    torch.testing.assert_close(task(label_smoothing=0.1).loss(outputs, torch.from_numpy(targets)), expected)


def test_the_distance_to_other_outputs_is_0_at_them_and_grows_away() -> None:
    base = torch.randn(3, 2)
    own = task()
    assert float(own.apart(base, base)) == pytest.approx(0, abs=1e-6)
    assert float(own.apart(base + 0.5, base)) > float(own.apart(base + 0.1, base)) > 0
    torch.testing.assert_close(
        own.apart(base + 0.5, base),
        torch.distributions.kl_divergence(
            torch.distributions.Bernoulli(logits=base), torch.distributions.Bernoulli(logits=base + 0.5)
        ).sum(),
    )


def test_a_new_head_starts_from_the_shares_of_the_labels(tiny_bert: Path) -> None:
    source = ModelFolder(str(tiny_bert), tiny_bert, "", None)
    built = build(source, (NewHead(),), len(Output(("x", "y"))), 0)
    task().fitted_to(built.model, kept=True)
    assert last_layer(built.model, 2).bias.tolist() == [0.0, 0.0]
    task().fitted_to(built.model, kept=False)
    assert last_layer(built.model, 2).bias.sigmoid().tolist() == pytest.approx([1.5 / 5, 3.5 / 5])
    task(class_weight="balanced").fitted_to(built.model, kept=False)
    assert last_layer(built.model, 2).bias.tolist() == pytest.approx([np.log(3 / 7 * 3), np.log(7 / 3 / 3)])


def test_a_native_result_loads_in_a_pipeline_with_the_same_probabilities(runs: Callable[..., Run]) -> None:
    run = runs("native", head="native")
    config = json.loads((run.path / "model" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    classify = transformers.pipeline("text-classification", str(run.path / "model"), top_k=None)
    for text, row in zip(TEXTS, run.probabilities(TEXTS), strict=True):
        (every,) = classify([text])
        found = {one["label"]: one["score"] for one in every}
        assert [found[label] for label in run.labels] == pytest.approx(row.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("case", "options"), [("native", {"head": "native"}), ("pooled", {}), ("each", {"metric": "macro_f1"})]
)
def test_the_readme_works_as_it_stands(case: str, options: dict[str, Any], runs: Callable[..., Run]) -> None:
    run = runs(case, **options)
    (code,) = re.findall(r"```python\n(.*?)```", (run.path / "model" / "README.md").read_text(), re.DOTALL)
    assert "whet" not in code
    names: dict[str, Any] = {"folder": str(run.path / "model"), "texts": TEXTS}
    exec(code, names)
    assert names["labels"] == run.predict(TEXTS)
    np.testing.assert_allclose(names["logits"].sigmoid().numpy(), run.probabilities(TEXTS), atol=1e-5)


def predictions(run: Run) -> list[dict[str, str]]:
    with (run.path / "predictions.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_figures_are_those_of_the_predictions(runs: Callable[..., Run]) -> None:
    run = runs("pooled")
    rows = predictions(run)
    truth, given = (
        np.array([[label in row[name].split(";") for label in run.labels] for row in rows])
        for name in ("truth", "prediction")
    )
    assert run.metrics["test"]["micro_f1"] == pytest.approx(f1_score(truth, given, average="micro"))
    assert run.metrics["test"]["exact_match"] == pytest.approx((truth == given).all(1).mean())
    assert [row["support"] for row in run.metrics["per_label"]] == truth.sum(0).tolist()
    for row in rows:
        by = dict(zip(run.labels, run.asked["task"]["state"]["thresholds"], strict=True))
        likely = [label for label in run.labels if float(row[f"probability of {label}"]) >= by[label]]
        assert row["prediction"].split(";") == (likely or [""])
    known = run.metrics["intervals"]["test"]["micro_f1"]
    assert known["low"] <= run.metrics["test"]["micro_f1"] <= known["high"]


def test_thresholds_come_from_validation_rows_whatever_the_test_rows_say(
    runs: Callable[..., Run], tmp_path: Path, tiny_bert: Path
) -> None:
    rows = example()
    parts = {"train": rows[:160], "valid": rows[160:200], "test": rows[200:]}
    swapped = [{**row, "labels": "urgent;noise" if n % 2 else ""} for n, row in enumerate(parts["test"])]
    states = []
    for name, test in (("one", parts["test"]), ("other", swapped)):
        paths = {}
        for part, content in {**parts, "test": test}.items():
            paths[part] = tmp_path / f"{name}-{part}.csv"
            with paths[part].open("w", newline="", encoding="utf-8") as handle:
                writer = csv.DictWriter(handle, ["text", "labels"])
                writer.writeheader()
                writer.writerows(content)
        run = whet.fine_tune(
            paths["train"], valid=paths["valid"], test=paths["test"], model=tiny_bert, steps=10, threads=1,
            quiet=True, baselines=False, forgetting=False, out=tmp_path / name,
        )  # fmt: skip
        states.append(run.asked["task"]["state"])
        valid = [row["text"] for row in parts["valid"]]
        truth = np.array([[label in row["labels"].split(";") for label in run.labels] for row in parts["valid"]])
        assert states[-1]["thresholds"] == pytest.approx(chosen(truth, run.probabilities(valid)).values, abs=1e-4)
    assert states[0] == states[1]


def test_python_and_command_line_predict_the_same(runs: Callable[..., Run], tmp_path: Path) -> None:
    run = runs("pooled")
    said, found = run.predict(TEXTS), run.probabilities(TEXTS)
    assert found.shape == (4, 8)
    path = tmp_path / "new.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([["text"], *([text] for text in (*TEXTS, " "))])
    command = [sys.executable, "-m", "whet", "predict", str(run.path), str(path)]
    lines = list(
        csv.DictReader(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())
    )
    assert [line["prediction"] for line in lines] == [*(";".join(labels) for labels in said), ""]
    for line, row in zip(lines, found, strict=False):
        shown = [float(line[f"probability of {label}"]) for label in run.labels]
        assert shown == pytest.approx(row.tolist(), abs=1e-4)
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [json.loads(line)["prediction"] for line in told] == [*said, []]


def test_other_rows_are_scored_and_a_loaded_run_is_the_same(runs: Callable[..., Run]) -> None:
    run = whet.load(runs("pooled").path)
    found = run.evaluate(TICKETS)
    assert found["rows"] == 240
    assert {"micro_f1", "macro_f1", "exact_match", "log_loss"} == set(found["scores"])
    assert [row["label"] for row in found["per_label"]] == list(run.labels)
    with pytest.raises(whet.errors.DataError, match="unknown label 'smell'"):
        run.evaluate({"text": ["a", "b"], "labels": ["water;smell", ""]})


def test_simple_methods_are_held_against_it_and_choose_their_thresholds_alike(runs: Callable[..., Run]) -> None:
    run = runs("held", baselines=True, steps=4)
    found = {one["name"]: one for one in run.metrics["baselines"]}
    assert set(found) == {"majority", "tfidf", "frozen"}
    for one in found.values():
        assert 0 < one["test"]["micro_f1"] < 1
        assert one["intervals"]["micro_f1"]["low"] <= one["test"]["micro_f1"]
        assert one["comparison"]["metric"] == "micro_f1"
    assert found["tfidf"]["test"]["micro_f1"] > found["majority"]["test"]["micro_f1"]
    given = {row["majority"] for row in predictions(run)}
    assert len(given) == 1, "shares are the same for every row"


def test_the_report_shows_labels_thresholds_and_mistakes(runs: Callable[..., Run]) -> None:
    run = runs("each", metric="macro_f1")
    page = run.report.read_text(encoding="utf-8")
    for words in ("Labels that stand together", "All labels together", "Surest missed labels", "Macro-F1"):
        assert words in page
    assert "Confusions" not in page
    assert page.count("<figure>") >= 9
    common = [one.get("common") for one in run.metrics["thresholds"][1:]]
    state = run.asked["task"]["state"]
    assert common == state["common"]
    assert [one["threshold"] for one in run.metrics["thresholds"][1:]] == state["thresholds"]


def test_rows_from_memory_are_kept_so_that_sets_are_read_again(tiny_bert: Path, tmp_path: Path) -> None:
    rows = example()[:60]
    sets = [set(row["labels"].split(";")) - {""} for row in rows]
    run = whet.train(
        {"text": [row["text"] for row in rows], "labels": sets},
        model=tiny_bert, steps=2, threads=1, quiet=True, out=tmp_path / "run", baselines=False, test=0.2,
    )  # fmt: skip
    kept = [json.loads(line) for line in (run.path / "rows.jsonl").read_text().splitlines()]
    assert [set(row["labels"]) for row in kept] == sets
    assert run.evaluate(run.path / "rows.jsonl")["rows"] == 60


def test_what_a_task_learnt_is_read_again() -> None:
    own = replace(task(), chosen_thresholds=Thresholds((0.2, 0.7), (True, False)))
    again = MultiLabel.restored(own.labels, json.loads(json.dumps(own.state())))
    assert again.chosen_thresholds == own.chosen_thresholds
    assert MultiLabel.restored(own.labels, {}).by().values == (0.5, 0.5)


def test_some_strategies_and_a_kept_head(runs: Callable[..., Run], tmp_path: Path, tiny_bert: Path) -> None:
    first = runs("pooled")
    options = {"threads": 1, "quiet": True, "steps": 3, "baselines": False, "forgetting": False}
    kept = whet.fine_tune(TICKETS, model=first.path / "model", head="kept", out=tmp_path / "kept", **options)
    assert kept.labels == first.labels
    for strategy in ("lora", "kl_to_base", f"with_replay(full, {str(TICKETS)!r})"):
        own = {"model": first.path / "model", "head": "kept"} if strategy == "kl_to_base" else {"model": tiny_bert}
        name = strategy.partition("(")[0]
        run = whet.fine_tune(TICKETS, strategy=strategy, out=tmp_path / name, **own, **options)
        assert 0 <= run.metrics["test"]["micro_f1"] <= 1
        assert len(run.predict(TEXTS)) == 4
