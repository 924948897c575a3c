"""A torch module handed over in Python is tuned like a named model; it is saved in a form of its own."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import whet
from tiny import make_tokenizer
from whet.config import resolve
from whet.errors import Interrupted, ModelError, RunError, SelectionError, SettingsError
from whet.runs.execute import begin
from whet.runs.verbs import handed_over

TEXTS = ["my card was swallowed", "where is the parcel that I ordered last week?", "money for a car"]


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mix, self.drop = nn.LayerNorm(width), nn.Linear(width, width), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(torch.tanh(self.mix(self.norm(x))))


class Bags(nn.Module):
    """A classifier that nobody's library knows: words, four blocks, their mean, a linear layer."""

    def __init__(self, words: int, outputs: int = 3) -> None:
        super().__init__()
        self.words = nn.Embedding(words, 24)
        self.blocks = nn.ModuleList(Block(24) for _ in range(4))
        self.out = nn.Linear(24, outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.words(input_ids)
        for block in self.blocks:
            x = block(x)
        mask = attention_mask.unsqueeze(-1)
        return self.out((x * mask).sum(1) / mask.sum(1))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer({"pad_token": "[pad]", "unk_token": "[unk]"}, None)


def bags(tokenizer: Any, outputs: int = 3) -> Bags:
    torch.manual_seed(3)
    return Bags(len(tokenizer), outputs)


@pytest.fixture
def options(tokenizer: Any, tmp_path: Path) -> dict[str, Any]:
    fixed = {"steps": 4, "learning_rate": 0.02, "threads": 1, "quiet": True, "precision": "fp32", "baselines": False}
    return {"tokenizer": tokenizer, "out": tmp_path / "run", **fixed}


@pytest.mark.parametrize("strategy", ["full", "lift", "probe", "gradual_unfreezing", "bitfit"])
def test_every_kind_of_strategy_tunes_it(
    strategy: str, tokenizer: Any, rows_csv: Path, options: dict[str, Any]
) -> None:
    module = bags(tokenizer)
    before = copy.deepcopy(module.state_dict())
    run = whet.fine_tune(rows_csv, model=module, strategy=strategy, **options)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items()), (
        "the module given moved"
    )
    assert [group["group"] for group in run.asked["anatomy"]] == [
        "embeddings", "block 0", "block 1", "block 2", "block 3", "head",
    ]  # fmt: skip
    if strategy != "full":
        assert any("saved_seconds" in fact for fact in run.asked["captures"]) or strategy == "bitfit"
    again = whet.load(run.path, model=bags(tokenizer))
    assert (again.probabilities(TEXTS) == run.probabilities(TEXTS)).all()


def test_the_readme_works_as_it_stands(tokenizer: Any, rows_csv: Path, options: dict[str, Any]) -> None:
    run = whet.fine_tune(rows_csv, model=bags(tokenizer), **options)
    (code,) = re.findall(r"```python\n(.*?)```", (run.path / "model" / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"folder": str(run.path / "model"), "texts": TEXTS, "module": bags(tokenizer)}
    exec(code, names)
    probabilities = torch.from_numpy(run.probabilities(TEXTS))
    torch.testing.assert_close(names["logits"].softmax(1), probabilities, rtol=1e-5, atol=1e-5)
    assert names["labels"] == run.predict(TEXTS)


def test_it_resumes_to_the_same_bits(tokenizer: Any, rows_csv: Path, options: dict[str, Any], tmp_path: Path) -> None:
    whole = whet.fine_tune(rows_csv, model=bags(tokenizer), strategy="lift", **options)

    def stop(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] == 7:
            raise Interrupted("as if by hand")

    wishes = {name: value for name, value in options.items() if name not in ("tokenizer", "quiet")}
    wishes |= {"strategy": "lift", "out": tmp_path / "cut short", "checkpoint_seconds": 0.01}
    given, wishes = handed_over({**wishes, "model": bags(tokenizer)}, tokenizer)
    with pytest.raises(Interrupted):
        begin(resolve("fine_tune", wishes), rows_csv, stop, given)
    with pytest.raises(RunError, match="hand it over again"):
        whet.resume(tmp_path / "cut short", quiet=True)
    resumed = whet.resume(tmp_path / "cut short", model=bags(tokenizer), tokenizer=tokenizer, quiet=True)
    weights = [(run.path / "model" / "weights.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_another_module_is_not_taken_for_it(tokenizer: Any, rows_csv: Path, options: dict[str, Any]) -> None:
    run = whet.fine_tune(rows_csv, model=bags(tokenizer), **options)
    with pytest.raises(RunError, match=r"whet\.load\(.*model=module\)"):
        whet.load(run.path).predict(TEXTS)
    with pytest.raises(ModelError, match="are not those of module Linear"):
        whet.load(run.path, model=nn.Linear(2, 2)).predict(TEXTS)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"model": 7}, SettingsError, "a torch module; this is of type int"),
        ({"tokenizer": None}, SettingsError, "needs the tokenizer"),
        ({"tokenizer": str.split}, SettingsError, "must be one of transformers"),
        ({"model": nn.Linear(2, 3)}, ModelError, "cannot be called with input_ids, attention_mask"),
        ({"head": "linear"}, ModelError, "keeps its own head"),
        ({"strategy": "probe(depth=2)"}, ModelError, "keeps its own head"),
        ({"gradient_checkpointing": True}, ModelError, "no model of transformers"),
        ({"model": "some/folder"}, SettingsError, "tokenizer goes with a module"),
    ],
)
def test_what_cannot_work_is_refused(
    change: dict[str, Any], error: type[Exception], says: str, tokenizer: Any, rows_csv: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        whet.fine_tune(rows_csv, **{"model": bags(tokenizer), **options, **change})
    assert not Path(options["out"]).exists()


def test_outputs_that_do_not_fit_the_labels_are_refused(
    tokenizer: Any, rows_csv: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match="gives 2 x 5 outputs for two rows; these rows need 2 x 3"):
        whet.fine_tune(rows_csv, model=bags(tokenizer, outputs=5), **options)


def test_explain_tells_what_any_module_is_made_of() -> None:
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    found = whet.explain(
        model=nn.Sequential(*layers, nn.Linear(8, 4)), inputs=torch.zeros(2, 3, 16, 16), strategy="lift"
    )
    assert [(group.name, group.parameters, group.cut) for group in found.groups] == [
        ("block 0", 224, False),
        ("block 1", 584, True),
        ("head", 36, True),
    ]
    assert [phase.name for phase in found.plan.phases] == ["head", "block 1", "block 0"]
    with pytest.raises(SettingsError, match="give inputs"):
        whet.explain(model=nn.Linear(2, 2))
    with pytest.raises(SettingsError, match="a model by name needs none; leave inputs out"):
        whet.explain(model="minilm-l6", inputs=torch.zeros(1, 2))
    with pytest.raises(SelectionError, match="has 0 blocks"):
        whet.explain(model=nn.Linear(2, 2), inputs=torch.zeros(1, 2), strategy="top(9)")
