"""How tags mark where entities begin and end: which scheme a set of tags is written in, and the same tags in BIO.

BIO (also IOB2): B-X begins an entity of type X, I-X goes on with it, O is outside (Ratnaparkhi 1998; Tjong Kim Sang and
Veenstra 1999, https://aclanthology.org/E99-1023). IOB1: I-X for all words of an entity, B-X only where one follows
another of its type at once. BIOES (also IOBES, BILOU, BMES): the last word is E-X, L-X, one alone S-X, U-X. Tags of
which none has such a prefix are plain: parts of speech, for example.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from whet.errors import DataError

Scheme = Literal["BIO", "IOB1", "BIOES", "plain"]
Tags = Sequence[str]

OUTSIDE = "O"
BEGINS, GOES_ON, ENDS, ALONE = "B", "IM", "EL", "SUW"
"""The letters of the schemes: M is BMES's I, L and U are BILOU's E and S, W is BMEWO's S."""
PREFIXES = frozenset(BEGINS + GOES_ON + ENDS + ALONE)


class Entity(NamedTuple):
    """Words `start` to `end` (the first that is no part of it), and the type."""

    start: int
    end: int
    type: str


class Invalid(NamedTuple):
    """A tag that cannot stand where it does: sentence and word, counted from 0, and the tag."""

    sentence: int
    word: int
    tag: str


@dataclass(frozen=True)
class InBIO:
    """Tags in BIO (plain ones as they were), the scheme that they came in, and what was invalid in it."""

    tags: tuple[tuple[str, ...], ...]
    scheme: Scheme
    invalid: tuple[Invalid, ...]


def parts(tag: str) -> tuple[str, str]:
    """The letter and the type of a tag: ("B", "PER") for B-PER, ("O", "") for O, ("", tag) for a plain one."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if len(tag) > 2 and tag[1] in "-_" and tag[0] in PREFIXES:
        return tag[0], tag[2:]
    return "", tag


def marks(tag: str) -> bool:
    """Whether a tag has a prefix that says where its word stands in an entity."""
    return parts(tag)[0] in PREFIXES


def scheme_of(sentences: Sequence[Tags]) -> Scheme:
    """The scheme that tags are written in. Of BIO and IOB1 the one that leaves fewer tags invalid, BIO of equals.

    Raises `DataError` where some tags have a prefix such as B- and others, beside O, have none.
    """
    letters: dict[str, tuple[int, str]] = {}
    for number, tags in enumerate(sentences, start=1):
        for tag in tags:
            letters.setdefault(parts(tag)[0], (number, tag))
    marked = letters.keys() & PREFIXES
    if not marked:
        return "plain"
    if "" in letters:
        (with_number, with_tag), (number, tag) = letters[min(marked)], letters[""]
        raise DataError(
            f"some tags say where an entity begins ({with_tag!r}, sentence {with_number}), others do not ({tag!r}, "
            f"sentence {number}). Write all but O with a prefix such as B- and I-, or none"
        )
    if marked & set(ENDS + ALONE):
        return "BIOES"
    bio = sum(1 for tags in sentences for _ in _orphans(tags))
    iob1 = sum(1 for tags in sentences for _ in _needless(tags))
    return "IOB1" if iob1 < bio else "BIO"


def in_bio(sentences: Sequence[Tags], scheme: Scheme | None = None, *, repair: bool = False) -> InBIO:
    """Tags of sentences in BIO. The scheme is found from the tags where it is not given.

    What is invalid in the scheme is told. It stays as it is (an I-X that follows nothing of its type), unless `repair`
    turns it into what readers of such tags take it for: the beginning of an entity.
    """
    scheme = scheme or scheme_of(sentences)
    if scheme == "plain":
        return InBIO(tuple(tuple(tags) for tags in sentences), scheme, ())
    made: list[tuple[str, ...]] = []
    invalid: list[Invalid] = []
    for number, tags in enumerate(sentences):
        wrong = {"BIO": _orphans, "IOB1": _needless, "BIOES": _broken}[scheme](tags)
        invalid += [Invalid(number, word, tags[word]) for word in wrong]
        written = [_bio_tag(tag) for tag in tags]
        if scheme == "IOB1" or repair:
            for word in list(_orphans(written)):
                written[word] = f"B-{parts(written[word])[1]}"
        made.append(tuple(written))
    return InBIO(tuple(made), scheme, tuple(invalid))


def _bio_tag(tag: str) -> str:
    letter, kind = parts(tag)
    if letter == OUTSIDE:
        return OUTSIDE
    return f"{'B' if letter in BEGINS + ALONE else 'I'}-{kind}"


def entities(tags: Tags) -> list[Entity]:
    """The entities of a sentence in BIO. An I-X that follows nothing of its type begins one, as in the scorer of the
    CoNLL shared tasks."""
    found: list[Entity] = []
    start, kind = 0, ""
    for word, tag in enumerate([*tags, OUTSIDE]):
        letter, own = parts(tag)
        if kind and (letter != "I" or own != kind):
            found.append(Entity(start, word, kind))
            kind = ""
        if letter in ("B", "I") and not kind:
            start, kind = word, own
    return found


def tags_of(spans: Iterable[Entity], words: int) -> tuple[str, ...]:
    """The BIO tags of so many words with these entities, which do not overlap."""
    tags = [OUTSIDE] * words
    for start, end, kind in spans:
        tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return tuple(tags)


def every_tag(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags that a head has outputs for: plain ones in alphabetical order; of BIO first O, then B- and I- of every
    type, also where the rows hold only one of the two."""
    present = set(tags)
    kinds = sorted({parts(tag)[1] for tag in present if marks(tag)})
    if not kinds:
        return tuple(sorted(present))
    return (OUTSIDE, *(f"{letter}-{kind}" for kind in kinds for letter in "BI"))


def may_follow(before: str | None, tag: str) -> bool:
    """Whether a BIO tag may stand after another, or at the beginning of a sentence (None)."""
    letter, kind = parts(tag)
    return letter != "I" or (before is not None and parts(before) in (("B", kind), ("I", kind)))


def _orphans(tags: Tags) -> Iterable[int]:
    """Words whose I-X follows nothing of type X."""
    return (
        word
        for word, tag in enumerate(tags)
        if parts(tag)[0] in GOES_ON and not may_follow(tags[word - 1] if word else None, _bio_tag(tag))
    )


def _needless(tags: Tags) -> Iterable[int]:
    """Words whose B-X follows nothing of type X, where IOB1 would write I-X."""
    for word, tag in enumerate(tags):
        letter, kind = parts(tag)
        if letter == "B" and not (word and parts(tags[word - 1]) in (("B", kind), ("I", kind))):
            yield word


def _broken(tags: Tags) -> Iterable[int]:
    """Words whose tag goes on with, or ends, nothing of its type; and those that are not gone on with but should be."""
    for word, tag in enumerate(tags):
        letter, kind = parts(tag)
        last, last_kind = parts(tags[word - 1]) if word else (OUTSIDE, "")
        then, then_kind = parts(tags[word + 1]) if word + 1 < len(tags) else (OUTSIDE, "")
        inside = last in BEGINS + GOES_ON and last_kind == kind
        goes_on = then in GOES_ON + ENDS and then_kind == kind
        if (letter in GOES_ON + ENDS and not inside) or (letter in BEGINS + GOES_ON and not goes_on):
            yield word
