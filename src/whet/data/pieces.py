"""From sentences of words to rows of sub-words: which sub-word stands for which word, and windows over long sentences.

A word is learnt and read at its first sub-word, as in Devlin et al. 2019 (BERT, section 5.3). Which that is follows
from the tokenizer's offsets in the whole text, so that a text becomes the very sub-words that it becomes anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whet.data.check import Rows
from whet.data.store import LOT, NO_LOSS, Ragged, TokenStore
from whet.errors import ModelError

OVERLAP = 4
"""Neighbouring windows share a quarter of their room, at least."""

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Words:
    """Where the words of sentences stand among the tokens of a store.

    `places` (N words) are positions in the store's flat tokens; sentence s has the words `starts[s]:starts[s + 1]`.
    `source` is the sentence that each row of the store is of. Every word is read once.
    """

    places: np.ndarray
    starts: np.ndarray
    source: np.ndarray

    def targets(self, numbers: np.ndarray, rows: np.ndarray) -> Ragged:
        """The tags' numbers (N) where the words are read, and `NO_LOSS` at all other tokens; `rows` are the starts of
        the store's rows."""
        made = np.full(rows[-1], NO_LOSS, np.int64)
        made[self.places] = numbers
        return Ragged(made, rows)

    def taken(self, chosen: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The places of the words that are read in the rows `chosen`, in a store of these rows alone; `rows` are the
        starts of the whole store's rows."""
        owner = np.searchsorted(rows, self.places, side="right") - 1
        now = np.concatenate([[0], np.cumsum(np.diff(rows)[chosen])])
        moved = np.full(len(rows) - 1, -1)
        moved[chosen] = now[:-1]
        kept = moved[owner] >= 0
        return (self.places - rows[owner] + moved[owner])[kept]


@dataclass(frozen=True)
class Pieces:
    """Sentences as rows of a store, and where their words stand in them.

    `divided` sentences were too long for one row and became `windows` rows; `lacking` words gave no sub-word and are
    read at an unknown one.
    """

    store: TokenStore
    words: Words
    divided: int
    windows: int
    lacking: int


def pieces(
    sentences: Rows,
    tokenizer: Any,
    max_length: int,
    told: Told = lambda done, of: None,
) -> Pieces:
    """Sentences as sub-words.

    Of a sentence that gives more than `max_length` tokens, overlapping windows become rows, and each word is read in
    the one where it has most context. Raises `ModelError` for a tokenizer that does not tell where sub-words stand.
    """
    refuse_slow(tokenizer)
    before, after = ends(tokenizer)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise ModelError(f"max_length {max_length} leaves no room for a word beside {len(before) + len(after)} markers")
    made, firsts, counts, source = list[np.ndarray](), list[np.ndarray](), list[int](), list[int]()
    at = lacking = divided = parts = 0
    for number, (ids, first, lost) in enumerate(_sentences(sentences, tokenizer, told)):
        lacking += lost
        cuts = windows(first, len(ids), room)
        if len(cuts) > 1:
            divided, parts = divided + 1, parts + len(cuts)
        offsets = []
        for start, end in cuts:
            made.append(np.concatenate([before, ids[start:end], after]))
            source.append(number)
            offsets.append(at + len(before) - start)
            at += len(made[-1])
        firsts.append(first + np.array(offsets)[best_window(first, cuts, len(ids))])
        counts.append(len(first))
    starts = np.concatenate([[0], np.cumsum([len(row) for row in made])]).astype(np.int64)
    flat = np.concatenate([np.zeros(0, np.int32), *made]).astype(np.int32)
    store = TokenStore(flat, starts, tokenizer.pad_token_id if len(sentences) else 0, max_length, 0, 0)
    places = np.concatenate([np.zeros(0, np.int64), *firsts]).astype(np.int64)
    words = Words(places, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), np.array(source, np.int64))
    return Pieces(store, words, divided, parts, lacking)


def refuse_slow(tokenizer: Any) -> None:
    """Raises `ModelError` where a tokenizer does not tell which characters a sub-word stands for."""
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"tagging needs to know which word a sub-word belongs to, and {type(tokenizer).__name__} cannot tell: it "
            "has no fast version (no tokenizer.json). Choose another model"
        )


def ends(tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """The special tokens that a tokenizer puts before and after every text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]
    at = next((n for n in range(len(whole)) if whole[n : n + len(bare)] == bare), 0)
    return np.array(whole[:at], np.int32), np.array(whole[at + len(bare) :], np.int32)


def _sentences(sentences: Rows, tokenizer: Any, told: Told) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """For each sentence its ids, the place of each word's first sub-word among them, and how many words gave none."""
    unknown = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
    for start in range(0, len(sentences), LOT):
        texts = list(sentences.texts[start : start + LOT])
        encoded = tokenizer(
            texts,
            add_special_tokens=False,
            truncation=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        columns = (sentences.words[start : start + LOT], encoded["input_ids"], encoded["offset_mapping"])
        for text, bounds, ids, offsets in zip(texts, *columns, strict=True):
            characters = np.array(offsets, np.int64).reshape(-1, 2)
            yield first_pieces(text, bounds, np.array(ids, np.int32), characters, unknown)
        told(start + len(texts), len(sentences))


def first_pieces(
    text: str, bounds: Sequence[tuple[int, int]], ids: np.ndarray, offsets: np.ndarray, unknown: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """The ids of a text, the place of the first sub-word of each word, and how many words gave none: an `unknown` token
    is put in for these.

    `offsets` are the characters of each sub-word. One that begins with the space before a word belongs to the word.
    """
    word_at = np.full(len(text) + 1, -1)
    for number, (start, end) in enumerate(bounds):
        word_at[start:end] = number
    owner = np.full(len(ids), -1)
    real = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    first, last = word_at[offsets[real, 0]], word_at[offsets[real, 1] - 1]
    owner[real] = np.where(first >= 0, first, last)
    present, places = np.unique(owner, return_index=True)
    made = np.full(len(bounds), -1)
    made[present[present >= 0]] = places[present >= 0]
    lacking = np.flatnonzero(made < 0)
    if not len(lacking):
        return ids, made, 0
    # Before the first sub-word of the next word that has one, so that the order of the words is kept.
    later = [made[word:][made[word:] >= 0] for word in lacking]
    following = [int(found[0]) if len(found) else len(ids) for found in later]
    shift = np.searchsorted(np.array(following), np.arange(len(ids) + 1), side="right")
    moved = np.where(made >= 0, made + shift[np.maximum(made, 0)], -1)
    moved[lacking] = np.array(following) + np.arange(len(lacking))
    return np.insert(ids, following, unknown), moved, len(lacking)


def windows(firsts: np.ndarray, size: int, room: int) -> list[tuple[int, int]]:
    """The parts of `size` sub-words that become rows of `room` at most, each from a word's first sub-word (`firsts`,
    ascending). One where all fit; else neighbours share a quarter of the room, and the last is as full as it can be."""
    if size <= room:
        return [(0, size)]
    found, start = list[tuple[int, int]](), 0
    while start + room < size:
        found.append((start, start + room))
        wished = min(start + room - room // OVERLAP, size - room)
        later = firsts[firsts > start]
        if not len(later):
            break  # one word, longer than a row: its first sub-word is what counts
        fits = later[later <= wished] if wished < size - room else later[later >= wished][:1]
        start = int(fits[-1] if len(fits) else later[0])
    else:
        found.append((start, size))
    return found


def best_window(firsts: np.ndarray, cuts: Sequence[tuple[int, int]], size: int) -> np.ndarray:
    """For each word the window where it is furthest from an edge that text lies beyond; the first of equals."""
    if len(cuts) == 1:
        return np.zeros(len(firsts), int)
    context = [
        np.where(
            (firsts >= start) & (firsts < end),
            np.minimum(firsts - start if start else size, end - 1 - firsts if end < size else size),
            -1,
        )
        for start, end in cuts
    ]
    return np.stack(context).argmax(0)
