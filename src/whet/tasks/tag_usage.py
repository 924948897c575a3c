"""How a saved tagger is used without whet: from outputs for tokens to entities, or to a tag for each word."""

from __future__ import annotations

from dataclasses import replace

from whet.tasks.task import Usage

FIRST = """\
for number, row in enumerate(logits.argmax(-1).tolist()):
    places = batch.word_ids(number)
    first = [n for n, word in enumerate(places) if word is not None and word not in places[:n]]
"""
"""Where the words of a text begin."""
ENTITY_LINES = f"""\
entities = [[] for _ in texts]
{FIRST}    last = "O"
    for n in first:
        span, tag = batch.word_to_chars(number, places[n]), names[row[n]]
        if tag[0] == "I" and tag[2:] == last[2:]:
            entities[number][-1]["end"] = span.end
        elif tag != "O":
            entities[number].append({{"type": tag[2:], "text": "", "start": span.start, "end": span.end}})
        last = tag
    for one in entities[number]:
        one["text"] = texts[number][one["start"] : one["end"]]"""
TAG_LINES = f"""\
tags = []
{FIRST}    tags.append([names[row[n]] for n in first])"""

ENTITIES = Usage(
    title="A tagger of words",
    native="AutoModelForTokenClassification",
    per="token",
    lines=ENTITY_LINES,
    result="entities",
    call="print(run.predict(texts))",
    note="The probability of a row is that of the word whose tag is least sure. A low one is worth a second look.",
)
TAGS = replace(ENTITIES, lines=TAG_LINES, result="tags")
