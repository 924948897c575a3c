"""Runs that leave an adapter: used with and without whet, merged, scored; refused where their base has changed."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import whet
from whet.data.check import Rows
from whet.data.store import tokenize
from whet.engine.forward import Forward
from whet.engine.precision import processes
from whet.errors import ModelError, PathError, StrategyError
from whet.models.load import load_result
from whet.models.quiet import quiet_libraries
from whet.report.html import write_report
from whet.report.run_files import read_run
from whet.report.training import before_and_after
from whet.runs.finish import MERGED
from whet.runs.result import Run

TEXTS = [
    "my card was swallowed by the machine at the station, and the one beside it does not take it either",
    "where is the parcel that I ordered last week?",
    "I need to borrow some money for a car",
    "card",
    "The courier says it was delivered. It was not! I have been at home all day, and so has my neighbour.",
]
CASES: dict[str, dict[str, Any]] = {
    "bert lora": {"strategy": "lora(dropout=0.1)"},
    "bert lora native": {"strategy": "lora", "head": "native"},
    "bert dora mlp": {"strategy": "lora(dora=True)", "head": "mlp(8)", "pooling": "cls", "epochs": 4},
    "bert prompt": {"strategy": "prompt(tokens=8)", "pooling": "cls"},
    "bert prefix": {"strategy": "prefix(tokens=8)"},
    "bert probe then lora": {"strategy": "then(probe, lora(blocks=1))"},
    "bert average": {"strategy": "average(discriminative(lora), best=2)", "validations_per_epoch": 4, "batch_size": 8},
    "bert int8": {"strategy": "lora", "quantize_body": "int8"},
    "bert int8 native": {"strategy": "lora", "quantize_body": "int8", "head": "native"},
    "bert int8 prompt": {"strategy": "prompt(tokens=8)", "quantize_body": "int8"},
    "bert nf4": {"strategy": "lora", "quantize_body": "nf4"},
    "bert calibrated": {"strategy": "lora", "calibrate": True, "precision": "bf16"},
    "gpt2 lora": {"strategy": "lora"},
    "gpt2 lora native": {"strategy": "lora", "head": "native"},
    "gpt2 prompt": {"strategy": "prompt(tokens=8)"},
    "bert merged": {"strategy": "lora(merge=True)"},
    "bert merged native": {"strategy": "lora(merge=True)", "head": "native"},
    "bert merged dora": {"strategy": "average(lora(dora=True, merge=True), best=2)", "validations_per_epoch": 2},
    "gpt2 merged": {"strategy": "lora(merge=True)"},
}
MERGES = [case for case in CASES if "merged" in case]
ADAPTERS = [case for case in CASES if "merged" not in case]
LIBRARY = {"int8": "torchao", "nf4": "bitsandbytes"}


@pytest.fixture(scope="module")
def runs(
    tiny_bert: Path, tiny_gpt2: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Run]:
    """The run of a case, made when it is first asked for."""
    made: dict[str, Run] = {}
    folder = tmp_path_factory.mktemp("adapted")

    def make(case: str) -> Run:
        library = next((LIBRARY[kind] for kind in LIBRARY if kind in case), None)
        if library is not None and importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
        if case not in made:
            model = tiny_gpt2 if "gpt2" in case else tiny_bert
            fixed = {"model": model, "epochs": 1, "learning_rate": 0.02, "threads": 1, "baselines": False}
            made[case] = whet.fine_tune(rows_csv, out=folder / case, quiet=True, **{**fixed, **CASES[case]})
        return made[case]

    return make


def own_logits(run: Run) -> Tensor:
    """What whet itself computes from the saved folder, rows in order."""
    model, tokenizer, _ = load_result(run.path / "model")
    rows = Rows("texts", tuple(TEXTS), (), tuple(range(len(TEXTS))))
    return torch.from_numpy(Forward(model, processes(), "fp32", 4096).all(tokenize(rows, tokenizer, 96)))


@pytest.mark.parametrize("case", CASES)
def test_the_readme_works_as_it_stands(case: str, runs: Callable[[str], Run]) -> None:
    run = runs(case)
    (code,) = re.findall(r"```python\n(.*?)```", (run.path / "model" / "README.md").read_text(), re.DOTALL)
    assert "whet" not in code
    assert ("peft" in code) == (case in ADAPTERS)
    names: dict[str, Any] = {"folder": str(run.path / "model"), "texts": TEXTS}
    with quiet_libraries():  # transformers says that a native head is new, before peft loads it
        exec(code, names)
    expected = own_logits(run)
    assert float(expected.std(0).min()) > 1e-3, "rows that do not differ show nothing"
    torch.testing.assert_close(names["logits"], expected, rtol=1e-5, atol=1e-5)
    assert names["labels"] == run.predict(TEXTS)


@pytest.mark.parametrize("case", CASES)
def test_what_is_loaded_is_what_was_scored(case: str, runs: Callable[[str], Run]) -> None:
    run = runs(case)
    found = read_run(run.path).predictions
    assert len(found) == run.metrics["rows"]["test"]
    again = list(run.predictions([row["text"] for row in found]))
    assert [said["prediction"] for said in again] == [row["prediction"] for row in found]
    shares = [said["probability"] for said in again]
    assert shares == pytest.approx([float(row["probability"]) for row in found], abs=2e-6)


@pytest.mark.parametrize("case", ADAPTERS)
def test_the_folder_holds_an_adapter_and_its_head_alone(case: str, runs: Callable[[str], Run]) -> None:
    folder = runs(case).path / "model"
    assert not (folder / "model.safetensors").exists()
    assert (folder / "head.safetensors").exists() == ("native" not in case)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == runs(case).asked["settings"]["model"]
    targets = config.get("target_modules") or []
    assert targets == sorted(targets)
    assert len(targets) == sum("lora_A" in name for name in load_file(folder / "adapter_model.safetensors"))
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".md", ".txt"}


@pytest.mark.parametrize("case", ["bert lora", "bert lora native", "bert prompt"])
def test_evaluate_and_report(case: str, runs: Callable[[str], Run], rows_csv: Path, tmp_path: Path) -> None:
    run = runs(case)
    assert run.evaluate(rows_csv)["rows"] == 120
    page = write_report(run.path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "with torch, transformers and peft alone" in page
    assert "virtual tokens" in page if "prompt" in case else "low-rank adapters of rank 8" in page


@pytest.mark.parametrize("case", MERGES)
def test_a_merged_model_is_one_like_any_other(case: str, runs: Callable[[str], Run]) -> None:
    run = runs(case)
    folder = run.path / "model"
    assert not list(folder.glob("adapter*"))
    kept = load_file(folder / "model.safetensors")
    assert not any("lora" in name or "base_layer" in name or "modules_to_save" in name for name in kept)
    kind = transformers.AutoModelForSequenceClassification if "native" in case else transformers.AutoModel
    with quiet_libraries():
        _, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not info["unexpected_keys"]
    assert all("native" not in case and name.startswith("pooler.") for name in info["missing_keys"])


def test_a_merged_model_can_be_tuned_again(runs: Callable[[str], Run], rows_csv: Path, tmp_path: Path) -> None:
    options = {"steps": 2, "threads": 1, "quiet": True, "baselines": False}
    again = whet.fine_tune(rows_csv, model=runs("bert merged").path, strategy="lora", out=tmp_path / "run", **options)
    assert again.predict(TEXTS)


@pytest.mark.parametrize("case", MERGES)
def test_what_merging_changed_is_written_down(case: str, runs: Callable[[str], Run]) -> None:
    run = runs(case)
    merged = run.metrics["merge"]
    assert merged["rows"] == min(64, run.metrics["rows"]["valid"])
    assert 0 <= merged["largest_difference"] < MERGED / 100 * merged["largest_output"]
    assert any("merged into the weights" in line and "in fp32" in line for line in before_and_after(read_run(run.path)))


def test_a_run_without_merging_says_so(runs: Callable[[str], Run]) -> None:
    assert runs("bert lora").metrics["merge"] is None


def test_a_merge_that_changes_the_outputs_is_an_error(
    tiny_bert: Path, rows_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whet.runs.finish.MERGED", 0.0)
    options = {"model": tiny_bert, "steps": 8, "learning_rate": 0.05, "threads": 1, "quiet": True, "baselines": False}
    with pytest.raises(ModelError, match=r"merging the adapters changed the outputs for 18 rows.*Leave merge out"):
        whet.fine_tune(rows_csv, strategy="lora(merge=True)", out=tmp_path / "run", **options)


@pytest.fixture
def apart(runs: Callable[[str], Run], tiny_bert: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of an adapter's run, and a copy of its base that the copy belongs to."""
    base = shutil.copytree(tiny_bert, tmp_path / "base")
    run = shutil.copytree(runs("bert lora").path, tmp_path / "run")
    head = run / "model" / "head.json"
    facts = json.loads(head.read_text())
    assert facts["base"]["reference"] == str(tiny_bert)
    facts["base"]["reference"] = str(base)
    head.write_text(json.dumps(facts))
    return run, base


def test_an_adapter_finds_its_base_by_name_and_weights(apart: tuple[Path, Path], runs: Callable[[str], Run]) -> None:
    assert whet.load(apart[0]).predict(TEXTS) == runs("bert lora").predict(TEXTS)


def test_a_base_that_has_changed_is_refused(apart: tuple[Path, Path]) -> None:
    run, base = apart
    weights = load_file(base / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"] += 1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="the adapter was not trained on them"):
        whet.load(run).predict(TEXTS)


def test_a_base_that_is_gone_is_refused(apart: tuple[Path, Path]) -> None:
    run, base = apart
    shutil.rmtree(base)
    with pytest.raises(ModelError, match=r"which is not there any more.*merge=True"):
        whet.load(run).predict(TEXTS)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "cannot load the adapter"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"torn"), "cannot load the adapter"),
        (lambda folder: without(folder, "lora_A"), "does not fit its model"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "cannot load the adapter"),
    ],
    ids=["no weights", "torn weights", "a weight less", "no config"],
)
def test_an_adapter_that_is_not_whole_is_refused(spoil: Any, says: str, apart: tuple[Path, Path]) -> None:
    run, _ = apart
    spoil(run / "model")
    with pytest.raises(ModelError, match=says):
        whet.load(run).predict(TEXTS)


def without(folder: Path, part: str) -> None:
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    del weights[next(name for name in weights if part in name)]
    save_file(weights, path)


def test_an_adapters_run_is_no_model_to_start_from(runs: Callable[[str], Run], rows_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(PathError, match="holds an adapter"):
        whet.fine_tune(rows_csv, model=runs("bert lora").path, out=tmp_path / "x", quiet=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strategy": "full", "quantize_body": "int8"}, "this strategy adds none"),
        ({"strategy": "lora(merge=True)", "quantize_body": "int8"}, "would round the adapters away"),
        ({"strategy": "then(lora, full)"}, "only adapters and head are saved"),
        ({"strategy": "interpolate(lora)"}, "those of an adapter are new"),
        ({"strategy": "pull_to_base(lora)"}, "moves none that were pretrained"),
        ({"strategy": "prefix", "gradient_checkpointing": True}, "as a cache, which --gradient-checkpointing drops"),
        ({"strategy": "prompt(tokens=95)"}, "leave no room for a text"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["strategy"],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    options: dict[str, Any], says: str, tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    with pytest.raises(StrategyError) as caught:
        whet.fine_tune(rows_csv, model=tiny_bert, out=tmp_path / "run", quiet=True, **options)
    assert says in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_train_keeps_to_its_word(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(StrategyError, match="train keeps the body frozen, but strategy lora moves it"):
        whet.train(rows_csv, model=tiny_bert, strategy="lora", out=tmp_path / "run", quiet=True)


def test_a_module_handed_over_takes_no_adapter(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    for options in ({"strategy": "lora"}, {"strategy": "lora", "quantize_body": "int8"}):
        with pytest.raises(StrategyError, match="Adapters and quantize_body need a model by name"):
            whet.fine_tune(rows_csv, model=model, tokenizer=tokenizer, out=tmp_path / "run", quiet=True, **options)
    inputs = dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))
    with pytest.raises(StrategyError, match="was handed over in Python"):
        whet.explain(model=model, inputs=inputs, strategy="lora")


def test_what_is_explained_is_what_an_adapter_moves(tiny_bert: Path, rows_csv: Path) -> None:
    found = whet.explain(rows_csv, model=tiny_bert, strategy="lora(rank=4, targets='query', blocks=2)")
    (phase,) = found.phases
    assert phase.groups == {"block 2": 4 * 64, "block 3": 4 * 64, "head": 99}
    assert phase.frozen_below == "block 2"


def test_features_can_be_held_while_adapters_train(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    options = {"model": tiny_bert, "steps": 4, "threads": 1, "quiet": True, "baselines": False}
    run = whet.fine_tune(rows_csv, strategy="pull_to_base(lora, features=1.0)", out=tmp_path / "run", **options)
    assert run.predict(TEXTS)


def test_an_earlier_task_can_be_replayed_while_adapters_train(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.csv"
    earlier.write_text("text,label\n" + "".join(f"row {n} of another kind,{'xy'[n % 2]}\n" for n in range(20)))
    options = {"model": tiny_bert, "steps": 4, "threads": 1, "quiet": True, "baselines": False}
    for name in ("lora", "prompt(tokens=8)"):
        out = tmp_path / name
        run = whet.fine_tune(rows_csv, strategy=f"with_replay({name}, source={str(earlier)!r})", out=out, **options)
        assert (run.path / "model" / "heads" / "earlier" / "head.safetensors").exists()
        assert run.predict(TEXTS)


def test_the_frozen_models_features_are_no_baseline_where_virtual_tokens_change_them(
    tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    options = {"model": tiny_bert, "steps": 2, "threads": 1, "quiet": True}
    run = whet.fine_tune(rows_csv, strategy="prompt(tokens=8)", out=tmp_path / "run", **options)
    frozen = next(one for one in run.metrics["baselines"] if one["name"] == "frozen")
    assert "virtual tokens" in frozen["absent"]
    plain = whet.fine_tune(rows_csv, strategy="lora", out=tmp_path / "plain", **options)
    assert np.isfinite(next(one for one in plain.metrics["baselines"] if one["name"] == "frozen")["test"]["accuracy"])
