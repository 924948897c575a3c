"""The README that lies beside a saved model: how to use it without whet."""

from __future__ import annotations

from typing import Any

from whet.models.given import GivenModule
from whet.models.load import Built
from whet.models.reference import ModelFolder
from whet.plan.edits import LowRank, NewHead, Prompt
from whet.tasks.task import Usage

POOLS = {
    "mean": "(states * mask).sum(1) / mask.sum(1)",
    "max": "states.masked_fill(mask == 0, float('-inf')).amax(1)",
    "cls": "states[:, 0]",
    "last": "states[torch.arange(len(states)), mask[..., 0].sum(1) - 1]",
}

NATIVE = """\
import torch
from transformers import {native}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = {native}.from_pretrained(folder).eval()
names = model.config.id2label
batch = tokenizer({inputs}, padding=True, truncation=True, max_length={max_length}, return_tensors="pt")
with torch.no_grad():
    logits = model(**batch).logits
{lines}
"""

POOLED = """\
import json, torch
from pathlib import Path
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

tokenizer, body = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
head = load_file(f"{{folder}}/head.safetensors")
names = json.loads(Path(f"{{folder}}/head.json").read_text("utf-8"))["labels"]
batch = tokenizer({inputs}, padding=True, truncation=True, max_length={max_length}, return_tensors="pt")
with torch.no_grad():
    states, mask = body(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
    logits = {pool}
{layers}
{lines}
"""

GIVEN = """\
import json, torch
from pathlib import Path
from safetensors.torch import load_model
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
load_model(module, f"{{folder}}/weights.safetensors")
names = json.loads(Path(f"{{folder}}/head.json").read_text("utf-8"))["labels"]
batch = tokenizer({inputs}, padding=True, truncation=True, max_length={max_length}, return_tensors="pt")
with torch.no_grad():
    made = module.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
logits = made if isinstance(made, torch.Tensor) else made.logits
{lines}
"""


ADAPTED = """\
import json, torch
from pathlib import Path
from peft import PeftConfig, PeftModel
from transformers import {native}, AutoTokenizer

base = PeftConfig.from_pretrained(folder).base_model_name_or_path
tokenizer = AutoTokenizer.from_pretrained(folder)
names = json.loads(Path(f"{{folder}}/head.json").read_text("utf-8"))["labels"]
model = {native}.from_pretrained(
    base, num_labels=len(names), ignore_mismatched_sizes=True, dtype=torch.float32
)
{quantize}model = PeftModel.from_pretrained(model, folder).eval()
model.config.pad_token_id = tokenizer.pad_token_id
batch = tokenizer({inputs}, padding=True, truncation=True, max_length={max_length}, return_tensors="pt")
with torch.no_grad():
    logits = model(**batch).logits
{lines}
"""

ADAPTED_POOLED = """\
import json, torch
from pathlib import Path
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

base = PeftConfig.from_pretrained(folder).base_model_name_or_path
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(base, dtype=torch.float32)
{quantize}model = PeftModel.from_pretrained(model, folder).eval()
head = load_file(f"{{folder}}/head.safetensors")
names = json.loads(Path(f"{{folder}}/head.json").read_text("utf-8"))["labels"]
batch = tokenizer({inputs}, padding=True, truncation=True, max_length={max_length}, return_tensors="pt")
with torch.no_grad():
    ids, mask = batch["input_ids"], batch["attention_mask"].unsqueeze(-1)
    states = {call}
    logits = {pool}
{layers}
{lines}
"""

QUANTIZE = {
    "int8": """\
from torchao.quantization import Int8WeightOnlyConfig, quantize_
quantize_(model.base_model, Int8WeightOnlyConfig())
""",
    "nf4": """\
from bitsandbytes.nn import Linear4bit, Params4bit
for name, layer in list(model.base_model.named_modules()):
    if type(layer) is torch.nn.Linear:
        bias, sizes = layer.bias, (layer.in_features, layer.out_features)
        made = Linear4bit(*sizes, bias is not None, compute_dtype=torch.float32, quant_type="nf4")
        made.weight, made.bias = Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4"), bias
        made.support_avx512bf16_for_cpu = False
        owner, _, own = name.rpartition(".")
        setattr(model.base_model.get_submodule(owner), own, made.to(layer.weight.device))
""",
}


def usage(head: NewHead, max_length: int, use: Usage | None = None) -> str:
    """Python that predicts from `folder` with plain transformers."""
    use = use or Usage()
    words = of_task(use) | {"max_length": max_length}
    if head.kind == "native":
        return NATIVE.format(**words)
    return POOLED.format(**words, **pooled(head, use))


def usage_with_adapter(built: Built, max_length: int, use: Usage) -> str:
    """The same of an adapter in `folder`, with plain peft."""
    assert built.adapted is not None
    words = of_task(use) | {
        "max_length": max_length,
        "quantize": QUANTIZE[built.quantized.to] if built.quantized else "",
    }
    if built.head.kind == "native":
        return ADAPTED.format(**words)
    if isinstance(built.adapted.edit, LowRank):
        call = "model(**batch).last_hidden_state"
    else:
        # Virtual tokens that stand among the states come before those of the text; peft tells no segments beside them.
        cut = "[:, -ids.shape[1] :]" if isinstance(built.adapted.edit, Prompt) else ""
        call = f'model(input_ids=ids, attention_mask=batch["attention_mask"]).last_hidden_state{cut}'
    return ADAPTED_POOLED.format(**words, call=call, **pooled(built.head, use))


def of_task(use: Usage) -> dict[str, Any]:
    """What the lines have of the task."""
    return {"inputs": use.inputs, "native": use.native, "lines": use.lines}


def pooled(head: NewHead, use: Usage) -> dict[str, str]:
    """The lines that pool states, unless the head is asked of each token, and compute the head."""
    layers = []
    for number in range(len(head.hidden)):
        layers.append(_layer(3 * number + 1, "torch.nn.functional.gelu({})"))
    layers.append(_layer(3 * len(head.hidden) + 1, "{}"))
    pool = "states" if use.per == "token" else POOLS[head.pooling or "mean"]
    return {"pool": pool, "layers": "\n".join(layers)}


def _layer(number: int, around: str) -> str:
    product = f'logits @ head["layers.{number}.weight"].T + head["layers.{number}.bias"]'
    return f"    logits = {around.format(product)}"


def note_for(
    built: Built, labels: tuple[str, ...], source: ModelFolder | GivenModule, max_length: int, use: Usage
) -> str:
    licence = f"\nLicence of the pretrained model: {source.licence}.\n" if source.licence else ""
    shown = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    if isinstance(source, GivenModule):
        return (
            f"# {use.title}: the weights of a {source.reference}, tuned by whet\n\nLabels: {shown}.\n\n"
            "`weights.safetensors` is its state dict. With whet: `whet.load(RUN, model=module)`, where RUN is the\n"
            f"folder above this one. Without it, given `folder`, the `module` and {use.given}:\n\n"
            f"```python\n{GIVEN.format(max_length=max_length, **of_task(use))}```\n"
        )
    if built.adapted:
        return (
            f"# {use.title}: an adapter for {source.reference}, tuned by whet\n\n"
            f"Labels: {shown}.\n{licence}\n"
            f"It belongs to the model {source.reference} whose weights have the SHA-256\n`{source.sha256}`; with any "
            "other it predicts nonsense.\n\n"
            "With whet: `whet predict RUN file.csv`, where RUN is the folder above this one. Without it, given\n"
            f"`folder` and {use.given}; `base` is where that model lay, to be changed where it has moved:\n\n"
            f"```python\n{usage_with_adapter(built, max_length, use)}```\n"
        )
    return (
        f"# {use.title}, tuned by whet from {source.reference}\n\n"
        f"Labels: {shown}.\n{licence}\n"
        "With whet: `whet predict RUN file.csv`, where RUN is the folder above this one. Without it, given\n"
        f"`folder` and {use.given}:\n\n"
        f"```python\n{usage(built.head, max_length, use)}```\n"
    )
