"""What every way to adapt a frozen body promises, for every family of models: it is right, or refused with the reason.

What peft cannot do is found here by trying it: a pair that is refused and runs after all fails its test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from tiny import make_tokenizer
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.errors import StrategyError
from whet.models.cut import in_eval_mode
from whet.models.heads import Output, Pooled, outputs_of
from whet.models.load import load_result, load_tokenizer, save
from whet.models.quiet import quiet_libraries
from whet.models.reference import find_model
from whet.plan.strategy import STRATEGIES

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
SPECIAL = {"pad_token": "[pad]", "unk_token": "[unk]", "cls_token": "[cls]", "sep_token": "[sep]"}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True}
DISTILLED = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}
ENDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SIZES),
    "roberta": ("Roberta", {**SIZES, "pad_token_id": 0, "max_position_embeddings": 98}),
    "distilbert": ("DistilBert", DISTILLED),
    "electra": ("Electra", {**SIZES, "embedding_size": 8}),
    "deberta-v2": ("DebertaV2", {**SIZES, **RELATIVE, "norm_rel_ebd": "layer_norm"}),
    "modernbert": ("ModernBert", {**SIZES, **ENDS}),
    "gpt2": ("GPT2", {"n_embd": 16, "n_layer": 3, "n_head": 2}),
    "llama": ("Llama", {**SIZES, "num_key_value_heads": 1}),
    "qwen3": ("Qwen3", {**SIZES, "num_key_value_heads": 1, "head_dim": 8}),
    "gemma3": ("Gemma3Text", {**SIZES, "num_key_value_heads": 1, "head_dim": 8, "query_pre_attn_scalar": 8}),
}
"""The first part of the names of their classes in transformers, and the sizes of a tiny one."""
DECODERS = {"gpt2", "llama", "qwen3", "gemma3"}

NAMES = [name for name, make in STRATEGIES.items() if make.__module__ == "whet.plan.adapting"]
PAIRS = [(name, family, head) for name in NAMES for family in FAMILIES for head in ("linear", "native")]
REFUSED = {
    **{(name, family, "native"): "head of the model's own" for name in ("prefix", "prompt") for family in FAMILIES},
    **{("prefix", family, "linear"): "a trial failed" for family in ("distilbert", "deberta-v2", "modernbert")},
}

TEXTS = ["my card was swallowed by the machine at the station", "where is the parcel?"]
JobOf = Callable[..., Job]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model of a family, without a head, made when it is first asked for."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            name, sizes = FAMILIES[family]
            special = {"eos_token": "[end]"} if family in DECODERS else SPECIAL
            tokenizer = make_tokenizer(special, None if family in DECODERS else "[cls] $A [sep]")
            folder = made[family] = tmp_path_factory.mktemp("families") / family
            own = {"initializer_range": 0.1, "vocab_size": len(tokenizer), "max_position_embeddings": 96, **sizes}
            config = getattr(transformers, f"{name}Config")(**own)
            torch.manual_seed(0)
            with quiet_libraries():
                getattr(transformers, f"{name}Model")(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return made[family]

    return make


@pytest.mark.parametrize(("name", "family", "head"), PAIRS)
def test_an_adapted_model_is_right_or_refused(
    name: str, family: str, head: str, models: Callable[[str], Path], job_of: JobOf, tmp_path: Path
) -> None:
    options = {"model": str(models(family)), "head": head, "strategy": name, "steps": 3, "batch_size": 12}
    if (name, family, head) in REFUSED:
        with pytest.raises(StrategyError, match=REFUSED[name, family, head]) as caught:
            job_of(**options)
        assert name in str(caught.value)
        assert FAMILIES[family][0] in str(caught.value)
        return
    job = job_of(**options, learning_rate=0.02)
    before = weights(job)
    Loop(job).run()
    after = weights(job)
    assert job.anatomy.added
    assert set(job.built.origin.new) == trained(job)
    assert {own for own in before if not torch.equal(before[own], after[own])} <= trained(job)
    assert all(not torch.equal(before[own], after[own]) for own in trained(job)), "something that trains never moved"
    padding_changes_next_to_nothing(job)
    what_is_saved_comes_back(job, models(family), tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_before_an_adapter_does_not_depend_on_how_a_batch_is_divided(
    family: str, models: Callable[[str], Path], job_of: JobOf
) -> None:
    made = []
    for budget in (4096, 48):
        options = {"model": str(models(family)), "batch_size": 12, "steps": 2, "token_budget": budget, "cut": False}
        job = job_of(strategy="lora(dropout=0.3)", **options)
        Loop(job).run()
        lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines()]
        made.append([line["loss"] for line in lines if line["split"] == "train"])
    assert made[0] == pytest.approx(made[1], rel=1e-4)


def weights(job: Job) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in job.built.model.state_dict().items()}


def trained(job: Job) -> set[str]:
    return {*job.anatomy.added, *(parameter.name for parameter in job.anatomy.head.parameters)}


def logits(model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad(), in_eval_mode(model):
        return outputs_of(model, inputs)


def padding_changes_next_to_nothing(job: Job) -> None:
    lengths = job.train.store.lengths
    rows = torch.tensor([int(lengths.argmax()), int(lengths.argmin())]).numpy()
    inputs = job.train.store.batch(rows)
    together, short = logits(job.built.model, inputs), int(lengths.min())
    assert inputs["attention_mask"][1].sum() == short < inputs["attention_mask"].shape[1]
    alone = logits(job.built.model, {name: value[1:, :short] for name, value in inputs.items()})
    assert float((together[1] - alone[0]).abs().max()) < 1e-3 * float(together.abs().max())


def what_is_saved_comes_back(job: Job, base: Path, folder: Path) -> None:
    """By whet, and by plain peft on a plain model; no weight of the base is among the files."""
    source = find_model(str(base))
    tokenizer = load_tokenizer(source)
    save(source, job.built, tokenizer, Output(("a", "b", "c")), folder, "", {})
    inputs = dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    ours = logits(job.built.model, inputs)
    loaded, again, labels = load_result(folder)
    assert labels == ("a", "b", "c")
    assert again(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    assert torch.equal(logits(loaded, inputs), ours)
    kept = {name for file in folder.glob("*.safetensors") for name in load_file(file)}
    assert not any(name.endswith("base_layer.weight") for name in kept)
    assert len(kept) == len(trained(job))
    torch.testing.assert_close(by_peft(job, base, folder, inputs), ours, rtol=1e-5, atol=1e-5)


def by_peft(job: Job, base: Path, folder: Path, inputs: dict[str, Tensor]) -> Tensor:
    pooled = isinstance(job.built.model, Pooled)
    kind = transformers.AutoModel if pooled else transformers.AutoModelForSequenceClassification
    with quiet_libraries():
        plain = kind.from_pretrained(base, dtype=torch.float32, **({} if pooled else {"num_labels": 3}))
        model = PeftModel.from_pretrained(plain, folder).eval()
    model.config.pad_token_id = load_tokenizer(find_model(str(base))).pad_token_id
    assert sum(".lora_A." in name for name, _ in model.named_parameters()) == sum(
        ".lora_A." in name for name in job.anatomy.added
    ), "a plain model gets adapters where there were none"
    with torch.no_grad():
        made = model(**inputs)
        if not pooled:
            return made.logits
        head = load_file(folder / "head.safetensors")
        states, mask = made.last_hidden_state[:, -inputs["input_ids"].shape[1] :], inputs["attention_mask"]
        last = job.built.model.pooling == "last"
        vectors = (
            states[torch.arange(len(states)), mask.sum(1) - 1]
            if last
            else (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        )
        return vectors @ head["layers.1.weight"].T + head["layers.1.bias"]
