"""What a run says that its body forgot is what anyone finds who holds the saved model against the pretrained one."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import whet
from tiny import rows_of_messages
from whet.config import resolve
from whet.data.check import Columns, Findings, Rows
from whet.data.earlier import read_earlier
from whet.data.split import split
from whet.errors import DataError, Interrupted, PathError, RunError, SettingsError
from whet.evaluate.general_text import pairs, paragraphs
from whet.models.load import load_tokenizer, quiet_libraries
from whet.models.reference import find_model
from whet.runs.execute import begin, go_on
from whet.runs.known import Known

FIXED: dict[str, Any] = {"steps": 6, "learning_rate": 0.01, "threads": 1, "precision": "fp32", "baselines": False}


def tuned(out: Path, model: Any, rows: Path, **options: Any) -> whet.Run:
    return whet.fine_tune(rows, model=model, out=out, quiet=True, **{**FIXED, **options})


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of another task: the labels that the rows to learn from do not have, in columns of other names."""
    labels = ("card_problem", "loan_request", "order_status")
    path = tmp_path_factory.mktemp("earlier") / "earlier.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["sentence", "topic"])
        writer.writerows((row["text"], row["label"]) for row in rows_of_messages() if row["label"] not in labels)
    return path


@pytest.fixture(scope="module")
def run(tiny_bert: Path, rows_csv: Path, earlier: Path, tmp_path_factory: pytest.TempPathFactory) -> whet.Run:
    return tuned(tmp_path_factory.mktemp("runs") / "run", tiny_bert, rows_csv, remember=str(earlier))


def plain_vectors(folder: Path, texts: tuple[str, ...], pooling: str = "mean") -> np.ndarray:
    """By plain transformers, one text at a time."""
    from transformers import AutoModel

    tokenizer = load_tokenizer(find_model(str(folder)))
    with quiet_libraries():
        body = AutoModel.from_pretrained(folder).eval()
    made = []
    for text in texts:
        with torch.no_grad():
            states = body(**tokenizer(text, truncation=True, max_length=96, return_tensors="pt")).last_hidden_state[0]
        made.append((states.mean(0) if pooling == "mean" else states[-1]).numpy())
    return np.array(made)


def plain_spearman(folder: Path, pooling: str = "mean") -> float:
    general = pairs()
    left, right = (torch.from_numpy(plain_vectors(folder, side, pooling)) for side in (general.left, general.right))
    return float(spearmanr(torch.cosine_similarity(left, right).numpy(), general.scores).statistic)


def test_spearman_is_that_of_the_pretrained_and_of_the_saved_body(run: whet.Run, tiny_bert: Path) -> None:
    found = run.metrics["forgetting"]
    assert (found["moved"], found["absent"], found["pooling"]) == (True, None, "mean")
    own = found["sentences"]["spearman"]
    assert own["before"] == pytest.approx(plain_spearman(tiny_bert), abs=2e-3)
    assert own["after"] == pytest.approx(plain_spearman(run.path / "model"), abs=2e-3)
    assert own["difference"] == pytest.approx(own["after"] - own["before"])
    assert own["low"] < own["difference"] < own["high"]


def test_agreement_is_that_of_the_vectors_of_both_bodies(run: whet.Run, tiny_bert: Path) -> None:
    sentences = pairs().sentences
    both = [torch.from_numpy(plain_vectors(folder, sentences)) for folder in (tiny_bert, run.path / "model")]
    found = run.metrics["forgetting"]["sentences"]
    assert found["agreement"]["value"] == pytest.approx(float(torch.cosine_similarity(*both).mean()), abs=1e-4)
    assert found["agreement"]["value"] < 0.999
    assert found["alignment"]["low"] <= found["alignment"]["value"] <= found["alignment"]["high"] <= 1


def test_it_changes_no_bit_of_the_run(run: whet.Run, tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    without = tuned(tmp_path / "run", tiny_bert, rows_csv, forgetting=False)
    weights = [(one.path / "model" / "model.safetensors").read_bytes() for one in (run, without)]
    assert weights[0] == weights[1]
    assert run.metrics["test"] == without.metrics["test"]
    assert without.metrics["forgetting"] is None
    assert "What the body forgot" not in without.report.read_text(encoding="utf-8")
    assert "forgot" not in str(without)


def test_a_resumed_run_says_the_same(
    run: whet.Run, tiny_bert: Path, rows_csv: Path, earlier: Path, tmp_path: Path
) -> None:
    def stop(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] == 4:
            raise Interrupted("as if by hand")

    given = {**FIXED, "model": str(tiny_bert), "out": tmp_path / "cut", "checkpoint_seconds": 0.01}
    with pytest.raises(Interrupted):
        begin(resolve("fine_tune", {**given, "remember": str(earlier)}), rows_csv, stop)
    kept = tmp_path / "cut" / "forgetting.safetensors"
    assert kept.exists()
    folder = go_on(tmp_path / "cut", lambda line: None)
    assert not kept.exists()
    assert folder.metrics()["forgetting"] == run.metrics["forgetting"]


def test_a_resume_without_what_was_kept_measures_the_pretrained_body_again(
    run: whet.Run, tiny_bert: Path, rows_csv: Path, earlier: Path, tmp_path: Path
) -> None:
    def stop(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] == 4:
            raise Interrupted("as if by hand")

    given = {**FIXED, "model": str(tiny_bert), "out": tmp_path / "cut", "checkpoint_seconds": 0.01, "cache": "off"}
    with pytest.raises(Interrupted):
        begin(resolve("fine_tune", {**given, "remember": str(earlier)}), rows_csv, stop)
    (tmp_path / "cut" / "forgetting.safetensors").unlink()
    assert go_on(tmp_path / "cut", lambda line: None).metrics()["forgetting"] == run.metrics["forgetting"]


def test_what_the_pretrained_body_knows_is_kept_for_other_runs_and_a_torn_file_is_made_again(
    tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    def again(out: str) -> dict[str, Any]:
        return tuned(tmp_path / out, tiny_bert, rows_csv, cache=str(tmp_path / "cache")).metrics["forgetting"]

    first = again("first")
    states = (tmp_path / "cache" / "states").glob("*.states")
    (kept,) = [path for path in states if not path.with_suffix(".json").exists()]
    content, written = kept.read_bytes(), kept.stat().st_mtime_ns
    assert again("second") == first
    assert kept.stat().st_mtime_ns == written
    for torn in (content[:-100], content[:-100] + bytes(100)):
        kept.write_bytes(torn)
        assert Known.kept(kept) is None
        assert again(f"after a tear at {len(torn)}") == first
        assert Known.kept(kept) is not None


def test_rows_to_remember_that_have_changed_stop_a_resume(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "earlier.csv"
    path.write_text("text,label\n" + "".join(f"a word {n},{n % 2}\n" for n in range(40)), encoding="utf-8")

    def stop(line: dict[str, Any]) -> None:
        if line.get("split") == "train":
            raise Interrupted("as if by hand")

    given = {**FIXED, "model": str(tiny_bert), "out": tmp_path / "cut", "remember": str(path)}
    with pytest.raises(Interrupted):
        begin(resolve("fine_tune", given), rows_csv, stop)
    path.write_text(path.read_text(encoding="utf-8").replace("word 3,", "word 33,"), encoding="utf-8")
    with pytest.raises(RunError, match="the remember rows have changed"):
        go_on(tmp_path / "cut", lambda line: None)


@pytest.mark.parametrize("verb", ["train", "fine_tune"])
def test_where_the_body_did_not_move_nothing_was_forgotten_and_nothing_is_computed(
    verb: str, tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    options = {**FIXED, "strategy": "probe"}
    run = getattr(whet, verb)(rows_csv, model=tiny_bert, out=tmp_path / "run", quiet=True, **options)
    found = run.metrics["forgetting"]
    assert found == {
        "moved": False,
        "absent": "the body did not move: nothing was forgotten",
        "pooling": None,
        "sentences": None,
        "language": None,
        "remembered": None,
    }
    assert "forgot   the body did not move: nothing was forgotten" in str(run)
    assert "The body did not move: nothing was forgotten." in run.report.read_text(encoding="utf-8")


def plain_loss(folder: Path) -> float:
    """The loss of the next token on the first 60 paragraphs, by plain transformers: of a saved body, whose head is
    its table of embeddings, as of the pretrained model."""
    from transformers import AutoModelForCausalLM

    tokenizer, total, count = load_tokenizer(find_model(str(folder))), 0.0, 0
    with quiet_libraries():
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for text in paragraphs()[:60]:
        ids = tokenizer(text, truncation=True, max_length=96, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    return total / count


@pytest.mark.parametrize("head", ["linear", "native"])
def test_a_decoder_is_asked_for_the_next_token(head: str, tiny_gpt2: Path, rows_csv: Path, tmp_path: Path) -> None:
    run = tuned(tmp_path / "run", tiny_gpt2, rows_csv, head=head)
    found = run.metrics["forgetting"]
    language = found["language"]
    assert (language["kind"], language["texts"]) == ("next token", 60)
    assert language["loss"]["before"] == pytest.approx(plain_loss(tiny_gpt2), rel=1e-4)
    assert language["loss"]["after"] == pytest.approx(plain_loss(run.path / "model"), rel=1e-4)
    assert language["loss"]["after"] != pytest.approx(language["loss"]["before"], rel=1e-3)
    assert found["pooling"] == ("last" if head == "linear" else "mean")
    own = found["sentences"]["spearman"]
    assert own["after"] == pytest.approx(plain_spearman(run.path / "model", found["pooling"]), abs=2e-3)
    assert "general text: next-token loss" in str(run)


def test_a_checkpoint_with_a_head_for_masked_tokens_is_asked_for_them(
    tiny_mlm: Path, rows_csv: Path, tmp_path: Path
) -> None:
    language = tuned(tmp_path / "run", tiny_mlm, rows_csv).metrics["forgetting"]["language"]
    assert (language["kind"], language["texts"]) == ("masked", 120)
    assert language["loss"]["before"] == pytest.approx(np.log(700), rel=0.3)  # it guesses among 700 words
    assert language["loss"]["low"] < language["loss"]["difference"] < language["loss"]["high"]


def test_without_a_language_model_head_it_is_said_why(run: whet.Run) -> None:
    assert run.metrics["forgetting"]["language"] == {"absent": "its checkpoint has no language-model head"}
    assert "Not measured on general text: its checkpoint has no language-model head." in run.report.read_text("utf-8")


def plain_accuracy(folder: Path, rows: Rows, penalty: float) -> float:
    """Of scikit-learn's logistic regression, on vectors by plain transformers."""
    train, held = split(rows, {"test": 0.3, "valid": 0.15}, 0)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=200))
    probe.fit(plain_vectors(folder, train.texts), train.labels)
    return float(probe.score(plain_vectors(folder, held["test"].texts), held["test"].labels))


def test_an_earlier_task_is_read_off_the_body_before_and_after(run: whet.Run, earlier: Path, tiny_bert: Path) -> None:
    found = run.metrics["forgetting"]["remembered"]
    rows = read_earlier(str(earlier), Columns("text", "label"), Findings()).rows
    for when, folder in (("before", tiny_bert), ("after", run.path / "model")):
        one = 1 / found["rows"]["test"]  # rounding may turn a row
        expected = plain_accuracy(folder, rows, found["penalties"][when])
        assert found["accuracy"][when] == pytest.approx(expected, abs=1.01 * one)
    with earlier.open(encoding="utf-8") as handle:
        count = len(list(csv.DictReader(handle)))
    assert found["name"] == str(earlier)
    assert found["labels"] == 5
    assert found["rows"]["found"] == sum(found["rows"][part] for part in ("train", "valid", "test")) == count
    own = found["accuracy"]
    assert own["low"] <= own["difference"] <= own["high"]
    assert f"earlier task: accuracy {own['before']:.3f} -> {own['after']:.3f}" in str(run)
    page = run.report.read_text(encoding="utf-8")
    assert "earlier.csv" in page
    assert str(earlier.parent) not in page
    notes = run.asked["data"]["notes"]
    assert f"to remember, {earlier.name}: label column: topic" in notes


def test_a_head_that_came_with_the_model_is_asked_about_its_own_task(
    run: whet.Run, earlier: Path, rows_csv: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    assert run.metrics["forgetting"]["remembered"]["own_head"] is None  # the random body has no head
    first = tuned(tmp_path / "first", tiny_bert, earlier, steps=60)
    second = tuned(tmp_path / "second", first.path / "model", rows_csv, remember=str(earlier))
    rows = read_earlier(str(earlier), Columns("text", "label"), Findings()).rows
    held = split(rows, {"test": 0.3, "valid": 0.15}, 0)[1]["test"]
    found = second.metrics["forgetting"]["remembered"]["own_head"]
    before = np.mean([said == label for said, label in zip(first.predict(held.texts), held.labels, strict=True)])
    assert found["before"] == pytest.approx(before, abs=1.01 / len(held))
    shutil.copytree(first.path, tmp_path / "mixed")
    shutil.copy(second.path / "model" / "model.safetensors", tmp_path / "mixed" / "model")
    mixed = whet.load(tmp_path / "mixed").predict(held.texts)
    after = np.mean([said == label for said, label in zip(mixed, held.labels, strict=True)])
    assert found["after"] == pytest.approx(after, abs=1.01 / len(held))
    assert before > after
    assert "earlier task: by its own head" in str(second)


def test_many_rows_to_remember_are_drawn_from_and_it_is_said(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("text,label\n" + "".join(f"word number {n},{n % 3}\n" for n in range(2100)), encoding="utf-8")
    found = whet.explain(rows_csv, model=str(tiny_bert), remember=str(path))
    assert f"to remember, {path.name}: 2,000 of 2,100 rows are used (seed 0)" in found.notes


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        ("text,label\n" + "one,a\n" * 30, DataError, "30 rows with 1 label tell nothing of an earlier task"),
        ("text,label\none,a\ntwo,b\n", DataError, "--remember needs 20 rows or more with two or more labels"),
        (None, PathError, "there is no file"),
        ("", DataError, "is empty"),
    ],
)
def test_rows_that_tell_nothing_are_refused_before_anything_is_kept(
    content: str | None, error: type[Exception], says: str, tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    path = tmp_path / "earlier.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(error, match=says):
        tuned(tmp_path / "run", tiny_bert, rows_csv, remember=str(path))
    assert not (tmp_path / "run").exists()


def test_to_remember_without_measuring_is_a_contradiction(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="give one of the two"):
        tuned(tmp_path / "run", tiny_bert, rows_csv, remember="earlier.csv", forgetting=False)


class Bag(nn.Module):
    """The mean of word vectors, and a linear layer."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(words, 16), nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        real = attention_mask.unsqueeze(-1)
        return self.out((self.words(input_ids) * real).sum(1) / real.sum(1))


def test_a_module_handed_over_is_not_measured_and_says_so(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(find_model(str(tiny_bert)))
    run = tuned(tmp_path / "run", Bag(len(tokenizer)), rows_csv, tokenizer=tokenizer)
    found = run.metrics["forgetting"]
    assert found["moved"]
    assert found["sentences"] is None
    assert "module that was handed over" in found["absent"]
    assert "module that was handed over" in " ".join(str(run).split())


def test_a_body_kept_to_some_blocks_is_held_against_the_same_blocks(
    tiny_gpt2: Path, rows_csv: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    text = json.dumps(whet.explain(rows_csv, model=str(tiny_gpt2)).plan.model_dump(mode="json"))
    content = json.loads(text)
    content["edits"][0]["depth"] = 2
    plan.write_text(json.dumps(content), encoding="utf-8")
    options = {key: value for key, value in FIXED.items() if key not in ("steps", "learning_rate")}
    run = whet.fine_tune(rows_csv, model=tiny_gpt2, plan=str(plan), out=tmp_path / "run", quiet=True, **options)
    found = run.metrics["forgetting"]
    assert found["language"] == {"absent": "the body is kept to 2 blocks, and a language-model head fits the whole"}
    own = found["sentences"]["spearman"]
    assert own["after"] == pytest.approx(plain_spearman(run.path / "model", "last"), abs=2e-3)


def test_what_is_clearly_lost_is_a_finding_with_what_to_do(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    """The random body knows its words; a rate far too high makes all texts look alike."""
    run = tuned(tmp_path / "run", tiny_bert, rows_csv, steps=60, learning_rate=0.02)
    own = run.metrics["forgetting"]["sentences"]["spearman"]
    assert own["high"] < -0.02
    (said,) = [one["text"] for one in run.metrics["verdict"]["findings"] if one["kind"] == "forgot"]
    assert f"went from {own['before']:.3f} to {own['after']:.3f}" in said
    assert "fewer epochs, a lower rate, or the strategy lp_ft or" in said
    assert said in run.report.read_text(encoding="utf-8")
