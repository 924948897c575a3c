"""Words as sub-words: each word has its place, each place one word, and in long sentences the one with most context."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.check import Rows
from whet.data.pieces import OVERLAP, best_window, first_pieces, pieces, windows
from whet.data.store import NO_LOSS
from whet.data.tagged import joined
from whet.errors import ModelError

KINDS = ("wordpiece", "byte-level", "unigram")


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    """Small tokenizers of three kinds, trained here: WordPiece with markers, byte-level BPE without, Unigram."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    texts = ["nitrile gloves and winding keys", "send them to the harbour office, please", "unbelievable prices!"] * 20
    made = {}
    special = ["[unk]", "[cls]", "[sep]", "[pad]"]
    inner = Tokenizer(models.WordPiece(unk_token="[unk]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    )
    ends = [(name, inner.token_to_id(name)) for name in ("[cls]", "[sep]")]
    inner.post_processor = processors.TemplateProcessing(single="[cls] $A [sep]", special_tokens=ends)
    names = {"unk_token": "[unk]", "cls_token": "[cls]", "sep_token": "[sep]", "pad_token": "[pad]"}
    made["wordpiece"] = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    made["byte-level"] = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<end>")
    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<unk>", "<pad>", "</s>"], unk_token="<unk>", show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    made["unigram"] = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>")
    return made


def sentences(*rows: list[str]) -> Rows:
    texts, bounds = zip(*(joined(row) for row in rows), strict=True)
    tags = tuple(("X",) * len(row) for row in rows)
    return Rows("rows", texts, tags, tuple(range(len(rows))), words=bounds)


WORDS = st.lists(st.sampled_from(["gloves", "the", ",", "harbour", "zzzq", "Ünbelievable", "12", "a"]), min_size=1)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=50)
@given(rows=st.lists(WORDS, min_size=1, max_size=4))
def test_a_word_is_read_where_its_own_sub_words_begin(kind: str, rows: list[list[str]], tokenizers: Any) -> None:
    tokenizer = tokenizers[kind]
    made = pieces(sentences(*rows), tokenizer, 512)
    assert len(made.store) == len(rows)
    assert made.divided == made.windows == 0
    for number, row in enumerate(rows):
        start, end = made.words.starts[number], made.words.starts[number + 1]
        places = made.words.places[start:end]
        assert len(places) == len(row)
        assert (np.diff(places) > 0).all()
        assert made.store.starts[number] <= places[0]
        assert places[-1] < made.store.starts[number + 1]
        ids = made.store.ids[made.store.starts[number] : made.store.starts[number + 1]]
        if not made.lacking:
            assert ids.tolist() == tokenizer(joined(row)[0])["input_ids"], "not as the text becomes tokens elsewhere"
        edges = [*places, made.store.starts[number + 1]]
        for word, (first, then) in zip(row, pairwise(edges), strict=True):
            said = tokenizer.decode(made.store.ids[first:then], skip_special_tokens=True).replace(" ", "")
            assert kind != "byte-level" or said == word


def test_a_word_that_gives_no_sub_word_is_read_at_an_unknown_one(tokenizers: Any) -> None:
    tokenizer = tokenizers["wordpiece"]
    made = pieces(sentences(["\u200d", "gloves", "\u200d", "\ufe0f", "the", ""], ["\u200d"]), tokenizer, 64)
    assert made.lacking == 5
    read = [tokenizer.convert_ids_to_tokens(int(made.store.ids[place])) for place in made.words.places]
    assert [token == "[unk]" for token in read] == [True, False, True, True, False, True, True]
    assert (np.diff(made.words.places) > 0).all()


def test_targets_stand_where_words_are_read_and_nowhere_else(tokenizers: Any) -> None:
    rows = sentences(["gloves", "the"], ["winding"])
    made = pieces(rows, tokenizers["wordpiece"], 64)
    padded = made.words.targets(np.array([1, 2, 3]), made.store.starts)[np.array([1, 0])].padded()
    assert padded.shape == tuple(made.store.batch(np.array([1, 0]))["input_ids"].shape)
    assert padded[padded != NO_LOSS].tolist() == [3, 1, 2]
    first = made.words.places[:2] - made.store.starts[0]
    assert padded[1, first].tolist() == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_length", [3, 8, 13, 40])
def test_in_long_sentences_each_word_is_learnt_once_in_a_row_that_fits(
    kind: str, max_length: int, tokenizers: Any
) -> None:
    long = ["unbelievable", "the", "harbour", ",", "zzzq"] * 30
    rows = sentences(["gloves"], long, ["the", "a"])
    numbers = np.arange(len(long) + 3)
    made = pieces(rows, tokenizers[kind], max_length)
    flat = made.words.targets(numbers, made.store.starts).values
    assert int(made.store.lengths.max()) <= max_length
    rows_of = np.bincount(made.words.source)
    assert made.divided == (rows_of > 1).sum() >= 1
    assert made.windows == rows_of[rows_of > 1].sum()
    assert len(made.store) == len(made.words.source)
    assert sorted(flat[flat != NO_LOSS].tolist()) == numbers.tolist()
    assert flat[made.words.places].tolist() == numbers.tolist()
    owner = np.searchsorted(made.store.starts, made.words.places, side="right") - 1
    assert made.words.source[owner].tolist() == [0] + [1] * len(long) + [2, 2]


LAYOUTS = st.lists(st.integers(1, 6), min_size=1, max_size=60).map(
    lambda sizes: (np.cumsum([0, *sizes[:-1]]), sum(sizes))
)


@settings(deadline=None, max_examples=50)
@given(LAYOUTS, st.integers(1, 30))
def test_windows_begin_with_words_fit_and_hold_every_first_sub_word(layout: tuple[Any, int], room: int) -> None:
    firsts, size = layout
    cuts = windows(firsts, size, room)
    assert all(end - start <= room and start in firsts for start, end in cuts)
    assert all(any(start <= first < end for start, end in cuts) for first in firsts)
    assert [start for start, _ in cuts] == sorted({start for start, _ in cuts})
    if room >= 4 * 6:
        assert all(cuts[n][1] - cuts[n + 1][0] >= room // OVERLAP - 6 for n in range(len(cuts) - 1))
        assert cuts[-1][1] == size


@settings(deadline=None, max_examples=50)
@given(LAYOUTS, st.integers(1, 30))
def test_a_word_is_read_in_the_window_with_most_context(layout: tuple[Any, int], room: int) -> None:
    firsts, size = layout
    cuts = windows(firsts, size, room)
    for first, chosen in zip(firsts.tolist(), best_window(firsts, cuts, size).tolist(), strict=True):

        def context(cut: tuple[int, int], first: int = first) -> int:
            start, end = cut
            if not start <= first < end:
                return -1
            return min(first - start if start else size, end - 1 - first if end < size else size)

        assert context(cuts[chosen]) == max(context(cut) for cut in cuts) >= 0


def test_a_sub_word_that_begins_with_a_space_belongs_to_the_word_behind_it() -> None:
    ids, places, lacking = first_pieces("ab cd", ((0, 2), (3, 5)), np.array([7, 8]), np.array([[0, 2], [2, 5]]), 0)
    assert (ids.tolist(), places.tolist(), lacking) == ([7, 8], [0, 1], 0)


def test_a_sub_word_over_two_words_is_of_the_first_and_the_second_is_counted() -> None:
    ids, places, lacking = first_pieces("ab cd", ((0, 2), (3, 5)), np.array([7]), np.array([[0, 5]]), 9)
    assert (ids.tolist(), places.tolist(), lacking) == ([7, 9], [0, 1], 1)


def test_a_tokenizer_that_does_not_tell_is_refused_with_the_reason() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match=r"Slow cannot tell: it has no fast version"):
        pieces(sentences(["a"]), Slow(), 64)


def test_no_room_beside_the_markers_is_refused(tokenizers: Any) -> None:
    with pytest.raises(ModelError, match="no room"):
        pieces(sentences(["a"]), tokenizers["wordpiece"], 2)


def test_progress_is_told(tokenizers: Any) -> None:
    heard: list[tuple[int, int]] = []
    note: Callable[[int, int], None] = lambda done, of: heard.append((done, of))  # noqa: E731
    pieces(sentences(["a"], ["b"]), tokenizers["wordpiece"], 64, told=note)
    assert heard == [(2, 2)]


def test_places_of_some_rows_alone_are_those_of_their_words(tokenizers: Any) -> None:
    rows = sentences(["gloves", "the"], ["winding", "a"], ["harbour"])
    made = pieces(rows, tokenizers["wordpiece"], 64)
    chosen = np.array([0, 2])
    places = made.words.taken(chosen, made.store.starts)
    assert made.store.take(chosen).ids[places].tolist() == made.store.ids[made.words.places[[0, 1, 4]]].tolist()
