"""Tagging from file to prediction: each word is learnt once and read once, whatever the model, the cut and the budget;
what is saved gives the same without whet."""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

import whet
from whet.data.schemes import entities, in_bio
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.errors import DataError, SettingsError, StrategyError
from whet.evaluate.entities import micro_f1, tallies
from whet.models.cut import in_eval_mode
from whet.models.heads import outputs_of
from whet.runs.result import Run
from whet.tasks.tagging import PlainTags, Tagging

ORDERS = Path(__file__).parents[2] / "examples" / "orders.jsonl"
TEXTS = ["Please send 3 boxes to the office on Friday , says Rose .", "my card was lost at the station", "ok"]
JobOf = Callable[..., Job]
FAST = {"steps": 3, "threads": 1, "quiet": True, "baselines": False, "forgetting": False}


def rows_of(path: Path = ORDERS) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def predictions_of(made: Run) -> list[dict[str, str]]:
    """The rows of predictions.csv."""
    with (made.path / "predictions.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def rows_at(path: Path, lines: Iterable[str]) -> list[dict[str, Any]]:
    """The sentences on some lines of a file."""
    rows = rows_of(path)
    return [rows[int(line) - 1] for line in lines]


@pytest.fixture(scope="session")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty sentences of the example."""
    return written(tmp_path_factory.mktemp("orders") / "orders.jsonl", rows_of()[:60])


@pytest.fixture(scope="session")
def parts_of_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with plain tags."""
    plain = [{**row, "tags": ["NUM" if t[:1].isdigit() else "X" for t in row["tokens"]]} for row in rows_of()[:60]]
    return written(tmp_path_factory.mktemp("plain") / "plain.jsonl", plain)


@pytest.fixture(scope="module")
def runs(tiny_bert: Path, tiny_gpt2: Path, orders: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Finished runs by model and head, each made when it is first asked for."""
    made: dict[tuple[str, str], Run] = {}

    def make(model: str, head: str, **options: Any) -> Run:
        key = (model, f"{head} {options}")
        if key not in made:
            folder = {"bert": tiny_bert, "gpt2": tiny_gpt2}[model]
            out = tmp_path_factory.mktemp("tagging") / "run"
            every = {**FAST, "steps": 30, "learning_rate": 0.01, "baselines": True, **options}
            made[key] = whet.fine_tune(orders, model=folder, head=head, out=out, **every)
        return made[key]

    return make


# What is learnt


def test_each_word_is_learnt_once_also_where_sentences_are_read_in_windows(job_of: JobOf, orders: Path) -> None:
    whole, divided = (job_of(data=orders, max_length=length) for length in (None, 8))
    for job in (whole, divided):
        for part in (job.train, job.valid):
            words = part.beside.words
            assert job.task.count(part.targets) == len(words.places) == words.starts[-1]
            assert len(part.lines) == len(part.store) == len(part.targets)
    assert len(divided.train.store) > len(whole.train.store)
    assert divided.train.beside.divided > 0
    assert divided.task.count(divided.train.targets) == whole.task.count(whole.train.targets)


def test_the_loss_is_the_mean_over_words_and_not_over_tokens_or_rows(job_of: JobOf, orders: Path) -> None:
    job = job_of(data=orders)
    rows = np.arange(7)
    targets, batch = job.train.targets[rows], job.train.store.batch(rows)
    with torch.no_grad():
        outputs = outputs_of(job.built.model, batch)
        mine = float(job.task.loss(outputs, torch.from_numpy(targets.padded()))) / job.task.count(targets)
    by_hand = []
    for row in range(7):
        for place, tag in enumerate(targets.row(row)):
            if tag >= 0:
                by_hand.append(-float(outputs[row, place].log_softmax(0)[int(tag)]))
    assert mine == pytest.approx(float(np.mean(by_hand)), rel=1e-5)


def gradient(job: Job, rows: np.ndarray) -> tuple[float, dict[str, Tensor]]:
    loop = Loop(job)
    moving = dict(job.built.model.named_parameters())
    loss = loop.gradient(rows, 0, moving)
    return float(loss), {
        name: parameter.grad.clone() for name, parameter in moving.items() if parameter.grad is not None
    }


def test_however_a_batch_is_divided_loss_and_gradient_are_the_same(job_of: JobOf, orders: Path) -> None:
    (loss, whole), (again, divided) = (
        gradient(job_of(data=orders, token_budget=budget, dropout=0.0), np.arange(24)) for budget in (4096, 40)
    )
    assert again == pytest.approx(loss, rel=1e-5)
    for name, value in whole.items():
        assert torch.allclose(divided[name], value, rtol=1e-4, atol=1e-6), name


def test_balanced_weights_and_smoothing_count_over_words(job_of: JobOf, orders: Path) -> None:
    job = job_of(data=orders, class_weight="balanced", label_smoothing=0.1)
    flat = job.train.targets.values
    assert job.task.count(job.train.targets) == pytest.approx((flat >= 0).sum(), rel=0.05)
    loss, _ = gradient(job, np.arange(8))
    assert np.isfinite(loss)


@pytest.mark.parametrize("strategy", ["probe", "top(1)", "lift"])
@pytest.mark.parametrize("max_length", [None, 10])
def test_states_computed_once_serve_words(
    strategy: str, max_length: int | None, job_of: JobOf, orders: Path, tmp_path: Path
) -> None:
    """Cut or not: equal up to rounding. The cache on, off, cold or warm: the same bits."""
    common = {"data": orders, "strategy": strategy, "steps": 3, "batch_size": 12, "max_length": max_length}

    def ran(**options: Any) -> tuple[list[float], dict[str, Tensor], list[Any]]:
        job = job_of(**common, **options)
        outcome = Loop(job).run()
        lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines()]
        losses = [line["loss"] for line in lines if line["split"] == "train"]
        return losses, dict(job.built.model.state_dict()), outcome.captures

    off, cold, warm = (ran(cache=where) for where in ("off", str(tmp_path), str(tmp_path)))
    for other in (cold, warm):
        assert all(torch.equal(other[1][name], value) for name, value in off[1].items())
    assert off[2]
    cut, uncut = (ran(cut=switch, batching="random") for switch in (True, False))
    assert not uncut[2]
    assert cut[0] == pytest.approx(uncut[0], rel=1e-4)


# Adapters


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("strategy", ["lora", "prefix(tokens=3)", "prompt(tokens=3)"])
def test_adapters_give_each_word_of_the_text_an_output_and_virtual_tokens_none(
    strategy: str, family: str, job_of: JobOf, orders: Path, tiny_bert: Path, tiny_gpt2: Path
) -> None:
    model = str({"bert": tiny_bert, "gpt2": tiny_gpt2}[family])
    job = job_of(data=orders, strategy=strategy, model=model, steps=3, learning_rate=0.05)
    Loop(job).run()
    inputs = job.train.store.batch(np.arange(3))
    with torch.no_grad(), in_eval_mode(job.built.model):
        together = outputs_of(job.built.model, inputs)
        assert together.shape[:2] == inputs["input_ids"].shape
        for row in range(3):
            length = int(inputs["attention_mask"][row].sum())
            alone = {name: value[row : row + 1, :length] for name, value in inputs.items()}
            assert torch.allclose(outputs_of(job.built.model, alone)[0], together[row, :length], atol=1e-4)


@pytest.mark.parametrize("strategy", ["prefix", "prompt"])
def test_virtual_tokens_beside_a_head_of_the_models_own_are_refused_with_the_cure(
    strategy: str, job_of: JobOf, orders: Path
) -> None:
    with pytest.raises(StrategyError, match="take --head linear"):
        job_of(data=orders, strategy=strategy, head="native")


@pytest.mark.parametrize("strategy", ["lora", "prompt(tokens=3)"])
def test_an_adapter_predicts_from_its_folder_what_it_did_before(
    strategy: str, orders: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    made = whet.fine_tune(orders, model=tiny_bert, strategy=strategy, out=tmp_path / "run", **FAST)
    said = {row["row"]: json.loads(row["tags"]) for row in predictions_of(made)}
    again = made.predictions([row["tokens"] for row in rows_at(orders, said)])
    assert [one["tags"] for one in again] == list(said.values())


# What is saved


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_pipeline_of_transformers_loads_a_native_result_and_says_the_same(family: str, runs: Any) -> None:
    made = runs(family, "native")
    folder = made.path / "model"
    config = json.loads((folder / "config.json").read_text())
    assert tuple(config["id2label"].values()) == made.labels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = transformers.pipeline("token-classification", model=str(folder), device=-1)
        for text in TEXTS:
            theirs = {(one["start"], one["end"]): one["entity"] for one in pipe(text)}
            (ours,) = made.predictions([text])
            at = 0
            for token, tag in zip(ours["tokens"], ours["tags"], strict=True):
                at = text.index(token, at)
                assert theirs.get((at, at + len(token)), "O") == tag
                at += len(token)
            grouped = transformers.pipeline(
                "token-classification", model=str(folder), aggregation_strategy="first", device=-1
            )(text)
            spans = [(one["type"], one["start"], one["end"]) for one in ours["prediction"]]
            if not in_bio([ours["tags"]], "BIO").invalid:
                assert [(one["entity_group"], one["start"], one["end"]) for one in grouped] == spans


@pytest.mark.parametrize(("family", "head"), [("bert", "linear"), ("bert", "native"), ("gpt2", "mlp(32)")])
def test_the_lines_in_the_readme_run_as_they_stand_and_say_the_same(family: str, head: str, runs: Any) -> None:
    made = runs(family, head, **({"steps": 100} if family == "gpt2" else {}))
    code = re.search(r"```python\n(.*?)```", (made.path / "model" / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {"folder": str(made.path / "model"), "texts": TEXTS}
    exec(code[1], names)
    assert names["entities"] == made.predict(TEXTS)
    assert any(names["entities"])


# What is said


def test_texts_and_words_are_predicted_and_entities_stand_where_they_are(runs: Any) -> None:
    made = runs("bert", "linear")
    for item, one in zip(
        [TEXTS[0], TEXTS[0].split(), ["New York", "", "is"]],
        made.predictions([TEXTS[0], TEXTS[0].split(), ["New York", "", "is"]]),
        strict=True,
    ):
        assert len(one["tokens"]) == len(one["tags"])
        assert 0 < one["probability"] <= 1
        assert [e["text"] for e in one["prediction"]] == [one["text"][e["start"] : e["end"]] for e in one["prediction"]]
        assert [e["type"] for e in one["prediction"]] == [e.type for e in entities(one["tags"])]
        if isinstance(item, list):
            assert one["tokens"] == item
    (probabilities,) = made.probabilities([TEXTS[2]])
    assert probabilities.shape == (1, len(made.labels))
    assert probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("wrong", ["one text", [3], [["a", 3]], [""], [[" "]]])
def test_what_is_no_text_and_no_words_is_refused(wrong: Any, runs: Any) -> None:
    with pytest.raises(DataError):
        runs("bert", "linear").predict(wrong)


def test_every_word_of_a_long_text_is_predicted(runs: Any) -> None:
    made = runs("bert", "linear", max_length=10)
    words = [f"word{number}" if number % 3 else "card" for number in range(200)]
    (one,) = made.predictions([words])
    assert len(one["tags"]) == 200
    assert any("overlapping windows" in note for note in made.asked["data"]["notes"])


def test_rows_of_a_file_are_predicted_in_their_order_and_empty_ones_stay(runs: Any, tmp_path: Path) -> None:
    made = runs("bert", "linear")
    rows = [{"tokens": ["send", "3"]}, {"tokens": []}, {"tokens": ["ok"]}]
    found = list(made.predictions(made.rows_to_predict(written(tmp_path / "new.jsonl", rows))))
    assert [len(one["tags"]) for one in found] == [2, 0, 1]
    texts = list(made.predictions(made.rows_to_predict({"text": ["send 3", "ok"]})))
    assert [one["tags"] for one in texts] == [found[0]["tags"], found[2]["tags"]]


def test_the_scores_are_those_of_what_is_predicted(runs: Any, orders: Path) -> None:
    made = runs("bert", "linear")
    rows = predictions_of(made)
    truth = [row["tags"] for row in rows_at(orders, [row["row"] for row in rows])]
    predicted = [json.loads(row["tags"]) for row in rows]
    types = tuple(sorted({tag[2:] for tag in made.labels if tag != "O"}))
    counts = tallies(truth, predicted, types)
    assert made.metrics["test"]["entity_f1"] == pytest.approx(float(micro_f1(counts.sum(0))))
    right = [a == b for one, other in zip(truth, predicted, strict=True) for a, b in zip(one, other, strict=True)]
    assert made.metrics["test"]["accuracy"] == pytest.approx(np.mean(right))
    again = made.evaluate(rows_at(orders, [row["row"] for row in rows]))
    assert again["scores"] == pytest.approx(made.metrics["test"])
    assert {row["label"] for row in again["per_label"]} == set(types)
    found = made.metrics["entities"]
    missed = sum(found["counts"][kind] for kind in ("missed", "wrong type"))
    assert missed <= counts[..., 2].sum() - counts[..., 0].sum() <= missed + found["counts"]["wrong border"]


def test_it_is_held_against_words_and_frozen_states(runs: Any) -> None:
    held = {one["name"]: one for one in runs("bert", "linear").metrics["baselines"]}
    assert set(held) == {"majority", "frozen"}
    assert held["majority"]["title"] == "most frequent tag per word"
    for one in held.values():
        assert {"entity_f1", "accuracy", "log_loss"} == set(one["test"])
        assert one["comparison"]["metric"] == "entity_f1"


def test_the_report_shows_types_and_mistakes(runs: Any) -> None:
    page = runs("bert", "linear").report.read_text(encoding="utf-8")
    for said in (
        "Entity F1",
        "Token accuracy",
        "What went wrong",
        "Wrong border",
        "AMOUNT",
        "most frequent tag per word",
    ):
        assert said in page


def test_valid_tags_leaves_none_that_cannot_stand_where_it_does(orders: Path, tiny_bert: Path, tmp_path: Path) -> None:
    made = whet.fine_tune(orders, model=tiny_bert, valid_tags=True, out=tmp_path / "run", **FAST)
    found = [one["tags"] for one in whet.load(tmp_path / "run").predictions([row["tokens"] for row in rows_of()])]
    assert not in_bio(found, "BIO").invalid
    assert made.metrics["entities"]["invalid"] == 0


# Schemes and plain tags


def test_the_same_entities_in_another_scheme_are_the_same_rows(orders: Path, tmp_path: Path, job_of: JobOf) -> None:
    def bioes(tags: list[str]) -> list[str]:
        made = list(tags)
        for start, end, kind in entities(tags):
            made[end - 1] = f"S-{kind}" if end - start == 1 else f"E-{kind}"
        return made

    other = written(tmp_path / "bioes.jsonl", [{**row, "tags": bioes(row["tags"])} for row in rows_of(orders)])
    first, second = job_of(data=orders), job_of(data=other)
    assert first.task == second.task
    assert first.train.targets.values.tolist() == second.train.targets.values.tolist()


def test_spans_of_texts_teach_the_same_as_tags_of_their_words(job_of: JobOf) -> None:
    texts = [f"{name} asks for {item} now" for name in ("Ana", "Bo", "Cy", "Di") for item in ("chalk", "tape", "glue")]
    spans = [[[0, t.index(" "), "WHO"], [t.index("for ") + 4, t.index(" now"), "WHAT"]] for t in texts]
    tags = [["B-WHO", "O", "O", "B-WHAT", "O"] for _ in texts]
    of_spans = job_of(data=[{"text": t, "spans": s} for t, s in zip(texts, spans, strict=True)])
    of_words = job_of(data=[{"tokens": t.split(), "tags": g} for t, g in zip(texts, tags, strict=True)])
    assert of_spans.train.targets.values.tolist() == of_words.train.targets.values.tolist()
    assert of_spans.train.store.ids.tolist() == of_words.train.store.ids.tolist()


def test_plain_tags_are_measured_by_words(parts_of_speech: Path, tiny_bert: Path, tmp_path: Path) -> None:
    every = {**FAST, "baselines": True}
    made = whet.fine_tune(parts_of_speech, model=tiny_bert, out=tmp_path / "run", **every)
    assert isinstance(made.task, PlainTags)
    assert made.metrics["task"]["metric"] == "accuracy"
    assert set(made.metrics["test"]) == {"accuracy", "macro_f1", "log_loss"}
    assert made.predict([["send", "3"]])[0] == next(iter(made.predictions([["send", "3"]])))["prediction"]
    assert {row["label"] for row in made.metrics["tags"]["figures"]} == {"NUM", "X"}
    page = made.report.read_text(encoding="utf-8")
    assert "Tags by how often they occur" in page
    assert "entities" not in made.metrics


def test_a_score_of_the_other_kind_of_tags_is_refused(parts_of_speech: Path, orders: Path, job_of: JobOf) -> None:
    with pytest.raises(SettingsError, match="measured by accuracy, macro_f1, log_loss"):
        job_of(data=parts_of_speech, metric="entity_f1")
    with pytest.raises(SettingsError, match="measured by entity_f1, accuracy, log_loss"):
        job_of(data=orders, metric="macro_f1")
    with pytest.raises(SettingsError, match="mcc"):
        job_of(data=orders, metric="mcc")
    assert isinstance(job_of(data=orders, metric="accuracy").task, Tagging)


def test_options_that_mean_nothing_to_tags_are_refused(orders: Path, rows_csv: Path, job_of: JobOf) -> None:
    with pytest.raises(SettingsError, match="calibrate does nothing"):
        job_of(data=orders, calibrate=True)
    with pytest.raises(SettingsError, match="valid_tags does nothing: there are no tags"):
        job_of(data=rows_csv, valid_tags=True)


def test_invalid_tags_are_mended_when_asked(tmp_path: Path, job_of: JobOf) -> None:
    rows = [{"tokens": [f"w{n}", "x", "y"], "tags": ["O", "B-A", "I-A"]} for n in range(12)]
    broken = [{**row, "tags": ["O", "I-A", "I-A"]} if n < 5 else row for n, row in enumerate(rows)]
    mended, right = (job_of(data=data, clean_labels=True).train.targets.values.tolist() for data in (broken, rows))
    assert mended == right
    assert job_of(data=broken).train.targets.values.tolist() != right
