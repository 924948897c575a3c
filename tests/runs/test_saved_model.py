"""The model that a run leaves is one of plain transformers: it gives the same outputs without whet."""

from __future__ import annotations

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
from safetensors.torch import load_file
from torch import Tensor, nn

import whet
from whet.data.check import Rows
from whet.data.store import tokenize
from whet.engine.forward import Forward
from whet.engine.precision import processes
from whet.models.heads import pool
from whet.models.load import load_result
from whet.runs.result import Run

TEXTS = [
    "my card was swallowed by the machine at the station, and the one beside it does not take it either",
    "where is the parcel that I ordered last week?",
    "I need to borrow some money for a car",
    "card",
    "The courier says it was delivered. It was not! I have been at home all day, and so has my neighbour.",
]
CASES: dict[str, dict[str, Any]] = {
    "bert linear": {},
    "bert native": {"head": "native"},
    "bert mlp": {"head": "mlp(8, dropout=0.1)", "pooling": "cls"},
    "bert two layers": {"head": "mlp(8, 6)", "pooling": "max", "steps": 40, "learning_rate": 0.003},
    "gpt2 linear": {},
    "gpt2 native": {"head": "native"},
    "gpt2 padded left": {"side": "left"},
    "gpt2 native padded left": {"side": "left", "head": "native"},
    "bert half": {"strategy": "probe(depth=2)", "verb": "train"},
}
NATIVE = [case for case in CASES if "native" in case]
POOLED = [case for case in CASES if "native" not in case]


@pytest.fixture(scope="module")
def runs(
    tiny_bert: Path, tiny_gpt2: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Run]:
    """The run of a case, made when it is first asked for."""
    made: dict[str, Run] = {}
    folder = tmp_path_factory.mktemp("saved")

    def make(case: str) -> Run:
        if case not in made:
            options = dict(CASES[case])
            model = shutil.copytree(tiny_gpt2 if "gpt2" in case else tiny_bert, folder / f"{case} model")
            config = json.loads((model / "tokenizer_config.json").read_text())
            config["padding_side"] = options.pop("side", "right")
            (model / "tokenizer_config.json").write_text(json.dumps(config))
            call = getattr(whet, options.pop("verb", "fine_tune"))
            fixed = {"model": model, "steps": 4, "learning_rate": 0.01, "threads": 1, "quiet": True, "baselines": False}
            made[case] = call(rows_csv, out=folder / case, **{**fixed, **options})
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
    names: dict[str, Any] = {"folder": str(run.path / "model"), "texts": TEXTS}
    exec(code, names)
    expected = own_logits(run)
    assert float(expected.std(0).min()) > 1e-3, "rows that do not differ show nothing"
    torch.testing.assert_close(names["logits"], expected, rtol=1e-5, atol=1e-5)
    assert names["labels"] == run.predict(TEXTS)


@pytest.mark.parametrize("case", NATIVE)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_native_head_is_transformers_own(case: str, attention: str, runs: Callable[[str], Run]) -> None:
    run = runs(case)
    folder = run.path / "model"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation=attention
    ).eval()
    assert tuple(model.config.id2label[number] for number in range(3)) == run.labels
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=96, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits
    torch.testing.assert_close(logits, own_logits(run), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_at_equal_shapes_the_bits_are_equal(case: str, runs: Callable[[str], Run]) -> None:
    """The same batch, padded alike, with the same attention."""
    run = runs(case)
    folder = run.path / "model"
    kind = transformers.AutoModelForSequenceClassification if case in NATIVE else transformers.AutoModel
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    own, _, labels = load_result(folder)
    for text in TEXTS:
        batch = tokenizer([text], padding=True, pad_to_multiple_of=8, return_tensors="pt")
        with torch.no_grad():
            if case in NATIVE:
                logits = model(**batch).logits
            else:
                # Copies, since where a tensor begins in memory can decide its last bit.
                head = {name: value.clone() for name, value in load_file(folder / "head.safetensors").items()}
                facts = json.loads((folder / "head.json").read_text())
                logits = pool(model(**batch).last_hidden_state, batch["attention_mask"], facts["pooling"])
                numbers = sorted({int(name.split(".")[1]) for name in head})
                for number in numbers:
                    logits = nn.functional.linear(
                        logits, head[f"layers.{number}.weight"], head[f"layers.{number}.bias"]
                    )
                    logits = nn.functional.gelu(logits) if number != numbers[-1] else logits
        rows = Rows("texts", (text,), (), (1,))
        assert np.array_equal(
            Forward(own, processes(), "fp32", 4096).all(tokenize(rows, tokenizer, 96)), logits.numpy()
        )
        exponents = np.exp(logits.numpy() - logits.numpy().max(1, keepdims=True))
        assert np.array_equal(run.probabilities([text]), exponents / exponents.sum(1, keepdims=True))
    assert labels == run.labels


@pytest.mark.parametrize("case", ["bert linear", "gpt2 native"])
def test_the_config_keeps_the_models_own_attention_dropout(
    case: str, runs: Callable[[str], Run], tiny_bert: Path, tiny_gpt2: Path
) -> None:
    saved = json.loads((runs(case).path / "model" / "config.json").read_text())
    given = json.loads(((tiny_gpt2 if "gpt2" in case else tiny_bert) / "config.json").read_text())
    name = "attn_pdrop" if "gpt2" in case else "attention_probs_dropout_prob"
    assert saved[name] == given[name] == 0.1


def test_a_result_can_be_tuned_again(runs: Callable[[str], Run], rows_csv: Path, tmp_path: Path) -> None:
    """A run folder is a model: its body is where the next run starts."""
    first = runs("bert linear")
    again = whet.train(rows_csv, model=first.path, steps=2, threads=1, quiet=True, out=tmp_path / "again")
    before, after = (load_file(path / "model" / "model.safetensors") for path in (first.path, again.path))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


@pytest.mark.parametrize("case", ["bert linear", "gpt2 native"])
def test_nothing_in_the_folder_runs_code(case: str, runs: Callable[[str], Run]) -> None:
    files = {path.suffix for path in (runs(case).path / "model").rglob("*") if path.is_file()}
    assert files <= {".json", ".safetensors", ".md", ".txt"}
