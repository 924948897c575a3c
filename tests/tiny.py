"""The rows and the tokenizer that tiny models of the tests are made from."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

MESSAGES = Path(__file__).parent.parent / "examples" / "messages.csv"


def rows_of_messages() -> list[dict[str, str]]:
    with MESSAGES.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def make_tokenizer(special: dict[str, str], template: str | None) -> Any:
    """A word-level tokenizer of the 700 commonest words of the example, after its special tokens and "of"."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for row in rows_of_messages() for word, _ in split.pre_tokenize_str(row["text"].lower()))
    common = sorted(counts, key=lambda word: (-counts[word], word))[:700]
    unknown = special.get("unk_token", "the")
    # A decoder's end token comes last, as in GPT-2: id 0 is a word like any other.
    order = [*special.values(), *common] if template else [*common, *special.values()]
    vocabulary = {word: number for number, word in enumerate(order)}
    inner = Tokenizer(WordLevel(vocabulary, unk_token=unknown))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = split
    if template:
        ends = [(special[name], vocabulary[special[name]]) for name in ("cls_token", "sep_token")]
        pair = f"{template} $B:1 {special['sep_token']}:1"
        inner.post_processor = processors.TemplateProcessing(single=template, pair=pair, special_tokens=ends)
    names = ["input_ids", *(["token_type_ids"] if template else []), "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=96, model_input_names=names, **special)
