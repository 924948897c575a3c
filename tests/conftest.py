"""What several test files need: two tiny pretrained models, rows, and a job for the engine made from them."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny import MESSAGES, make_tokenizer, rows_of_messages

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Models as tiny as these are slower on two threads than on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LABELS = ("card_problem", "loan_request", "order_status")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests keep for other runs does not go to the person's own cache; processes that they start inherit this."""
    os.environ["WHET_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of random weights: hidden size 32, four blocks, two heads, dropout 0.1."""
    import torch
    from transformers import BertConfig, BertModel

    special = {"pad_token": "[pad]", "unk_token": "[unk]", "cls_token": "[cls]", "sep_token": "[sep]"}
    tokenizer = make_tokenizer(special, "[cls] $A [sep]")
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=96, initializer_range=0.1, pad_token_id=0, **sizes
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    torch.manual_seed(1)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a GPT-2 of random weights: hidden size 32, three blocks, two heads, dropout 0.1, no padding."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = make_tokenizer({"eos_token": "[end]"}, None)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=3, n_head=2, n_positions=96, initializer_range=0.1,
        bos_token_id=end, eos_token_id=end,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    torch.manual_seed(2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_mlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of random weights that has a head for masked tokens: hidden size 32, two blocks."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    special = {"pad_token": "[pad]", "unk_token": "[unk]", "cls_token": "[cls]", "sep_token": "[sep]"}
    tokenizer = make_tokenizer(special | {"mask_token": "[mask]"}, "[cls] $A [sep]")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=96, initializer_range=0.1, pad_token_id=0, **sizes
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-mlm"
    torch.manual_seed(3)
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def messages() -> Path:
    """The example of the repository: some 740 rows, eight labels."""
    return MESSAGES


@pytest.fixture(scope="session")
def rows_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 rows of the example in three labels, 40 each, columns `text` and `label`."""
    rows = rows_of_messages()
    chosen = [[row for row in rows if row["label"] == label][:40] for label in LABELS]
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, ["text", "label"])
        writer.writeheader()
        # Labels alternate, so that a part of the file holds all of them.
        writer.writerows(row for trio in zip(*chosen, strict=True) for row in trio)
    return path


JobOf = Callable[..., Any]


@pytest.fixture(scope="session")
def job_of(tiny_bert: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> JobOf:
    """Makes an engine's `Job` from options as a person gives them: `job_of(verb="train", steps=5, plan=...)`.

    In fp32, one thread, without a cache, on `tiny_bert` and `rows_csv` unless asked otherwise; the folder is new.
    """
    from whet.config import resolve
    from whet.engine.capture import cache_folder, identity
    from whet.engine.job import Job
    from whet.engine.precision import choose_precision, processes
    from whet.runs.assemble import assemble, use_attention_for
    from whet.runs.record import here
    from whet.runs.rows import read_rows

    def make(
        verb: str = "fine_tune",
        plan: Any = None,
        folder: Path | None = None,
        watch: Callable[[dict[str, Any]], None] = lambda line: None,
        data: Any = rows_csv,
        **options: Any,
    ) -> Job:
        options = {"model": str(tiny_bert), "precision": "fp32", "threads": 1, "cache": "off", **options}
        resolved = resolve(verb, options)
        settings = resolved.settings
        dataset = read_rows(settings, data)
        parts = assemble(resolved, dataset, plan)
        train, valid = parts.part(dataset.train), parts.part(dataset.valid)
        use_attention_for(parts.built.model, int(max(train.store.lengths.max(), valid.store.lengths.max())))
        return Job(
            built=parts.built,
            anatomy=parts.anatomy,
            plan=parts.plan,
            task=parts.task,
            train=train,
            valid=valid,
            settings=settings,
            precision=choose_precision(settings.precision, processes().device),
            folder=folder or tmp_path_factory.mktemp("job"),
            cache=cache_folder(settings.cache),
            identity=identity(parts.source.sha256, here(settings)),
            fresh=parts.fresh,
            watch=watch,
            beside=parts.beside(),
        )

    return make
