"""Dividing rows that have any number of labels, so that each part has its share of every label.

Iterative stratification: Sechidis, Tsoumakas and Vlahavas 2011, On the stratification of multi-label data
(https://doi.org/10.1007/978-3-642-23808-6_10). Libraries that offer it divide single rows; here equal texts have to
stay together, and every label keeps a row to train on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

NONE = ""
"""Stands for the rows with none of the labels, which are divided like those of a label."""


def divide(
    rows: Sequence[tuple[str, ...]], bunches: Sequence[Sequence[int]], shares: dict[str, float], seed: int
) -> dict[str, list[int]]:
    """Which rows each part of `shares` takes; the others are for training.

    `rows` holds the labels of each row, `bunches` the positions of rows that must stay together: every row is in one.
    The rarest label is divided first: each bunch goes to the part that lacks most rows of that label, then to the one
    that lacks most rows, then by chance. A label's last row that could be trained on stays for training.
    """
    chance = random.Random(f"whet split {seed}")
    parts = {"": 1 - sum(shares.values()), **shares}
    own = [Counter(label for row in bunch for label in (rows[row] or (NONE,))) for bunch in bunches]
    left = sum(own, Counter[str]())
    lacking = {part: {label: share * count for label, count in left.items()} for part, share in parts.items()}
    room = {part: share * len(rows) for part, share in parts.items()}
    trained: Counter[str] = Counter()
    taken: dict[str, list[int]] = {part: [] for part in parts}
    waiting = list(range(len(bunches)))
    chance.shuffle(waiting)
    while waiting:
        label = min((name for name in left if left[name]), key=lambda name: (left[name], name))
        for number in [number for number in waiting if label in own[number]]:
            allowed = list(parts)
            if any(not trained[name] and left[name] == count for name, count in own[number].items()):
                allowed = [""]
            part = max(allowed, key=lambda name: (lacking[name][label], room[name], chance.random()))
            taken[part] += bunches[number]
            room[part] -= len(bunches[number])
            left.subtract(own[number])
            for name, count in own[number].items():
                lacking[part][name] -= count
            if not part:
                trained += own[number]
        waiting = [number for number in waiting if label not in own[number]]
    del taken[""]
    return taken
