"""A small anatomy by hand: embeddings, three blocks of a weight, a bias and a norm, and a head."""

from __future__ import annotations

import pytest

from whet.plan.anatomy import Anatomy, Group, Parameter


def block(number: int) -> Group:
    name = f"layer.{number}"
    parts = (
        Parameter(name=f"{name}.dense.weight", size=100, kind="weight"),
        Parameter(name=f"{name}.dense.bias", size=10, kind="bias"),
        Parameter(name=f"{name}.norm.weight", size=10, kind="norm"),
    )
    return Group(name=name, kind="block", entry=name, parameters=parts)


@pytest.fixture(scope="session")
def anatomy() -> Anatomy:
    words = Parameter(name="words.weight", size=500, kind="weight")
    last = (Parameter(name="out.weight", size=30, kind="weight"), Parameter(name="out.bias", size=3, kind="bias"))
    return Anatomy(
        model="small",
        groups=(
            Group(name="words", kind="embeddings", entry="words", parameters=(words,)),
            *(block(number) for number in range(3)),
            Group(name="head", kind="head", entry="out", parameters=last),
        ),
        hidden_size=10,
    )
