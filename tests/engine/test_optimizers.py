"""Optimizers against plain torch, and their state by parameter name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from whet.engine import checkpoint
from whet.engine.optimizers import Stepper
from whet.plan.anatomy import Anatomy, Group, Parameter
from whet.plan.values import SGD, Adagrad, Adam, AdamW, OneOptimizer

VALUES: dict[str, OneOptimizer] = {
    "adamw": AdamW(beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1),
    "adam": Adam(weight_decay=0.05),
    "sgd": SGD(momentum=0.9, weight_decay=0.05),
    "sgd nesterov": SGD(momentum=0.5, nesterov=True),
    "sgd plain": SGD(momentum=0.0, weight_decay=0.01),
    "adagrad": Adagrad(initial=0.1, weight_decay=0.05),
}
PLAIN: dict[str, Callable[[list[dict[str, object]]], torch.optim.Optimizer]] = {
    "adamw": lambda parts: torch.optim.AdamW(parts, betas=(0.8, 0.95), eps=1e-6, foreach=False),
    "adam": lambda parts: torch.optim.Adam(parts, foreach=False),
    "sgd": lambda parts: torch.optim.SGD(parts, momentum=0.9, foreach=False),
    "sgd nesterov": lambda parts: torch.optim.SGD(parts, momentum=0.5, nesterov=True, foreach=False),
    "sgd plain": lambda parts: torch.optim.SGD(parts, foreach=False),
    "adagrad": lambda parts: torch.optim.Adagrad(parts, initial_accumulator_value=0.1, foreach=False),
}
DECAY = {"adamw": 0.1, "adam": 0.05, "sgd": 0.05, "sgd nesterov": 0.0, "sgd plain": 0.01, "adagrad": 0.05}
SHAPES = {
    "low.weight": ("weight", (5, 4)), "low.bias": ("bias", (5,)), "low.norm.weight": ("norm", (5,)),
    "head.weight": ("weight", (3, 5)), "head.bias": ("bias", (3,)),
}  # fmt: skip


def made(seed: int = 0) -> dict[str, nn.Parameter]:
    chance = torch.Generator().manual_seed(seed)
    return {name: nn.Parameter(torch.randn(shape, generator=chance)) for name, (_, shape) in SHAPES.items()}


def gradients(step: int) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(shape, generator=chance) for name, (_, shape) in SHAPES.items()}


def anatomy() -> Anatomy:
    def group(name: str, kind: str, prefix: str) -> Group:
        own = [n for n in SHAPES if n.startswith(prefix)]
        sizes = {n: torch.Size(SHAPES[n][1]).numel() for n in own}
        parts = tuple(Parameter(name=n, size=sizes[n], kind=SHAPES[n][0]) for n in own)  # type: ignore[arg-type]
        return Group(name=name, kind=kind, entry=prefix, parameters=parts)  # type: ignore[arg-type]

    return Anatomy(model="toy", groups=(group("block 0", "block", "low"), group("head", "head", "head")))


def rates(step: int) -> dict[str, float]:
    return {"block 0": 0.01 / (step + 1), "head": 0.1 / (step + 1)}


def run(stepper: Stepper, parameters: dict[str, nn.Parameter], steps: range, divide_by: float = 1.0) -> None:
    for step in steps:
        for name, value in gradients(step).items():
            if name in parameters:
                parameters[name].grad = value.clone()
        stepper.step(rates(step), torch.tensor(divide_by))


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("divide_by", [1.0, 3.7])
def test_five_steps_are_those_of_plain_torch(kind: str, divide_by: float) -> None:
    own, reference = made(), made()
    run(Stepper(VALUES[kind], own, anatomy()), own, range(5), divide_by)
    plain = PLAIN[kind](
        [
            {"params": [value], "lr": 1.0, "weight_decay": DECAY[kind] if SHAPES[name][0] == "weight" else 0.0}
            for name, value in reference.items()
        ]
    )
    for step in range(5):
        for part, name in zip(plain.param_groups, reference, strict=True):
            part["lr"] = rates(step)["head" if name.startswith("head") else "block 0"]
            reference[name].grad = gradients(step)[name] / divide_by
        plain.step()
    start = made()
    for name, value in own.items():
        assert not torch.equal(value, start[name])
        torch.testing.assert_close(value, reference[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd", "adagrad"])
def test_weight_decay_leaves_biases_and_norms_alone(kind: str) -> None:
    """With gradients of zero only decay moves anything."""
    own, start = made(), made()
    stepper = Stepper(VALUES[kind], own, anatomy())
    for parameter in own.values():
        parameter.grad = torch.zeros_like(parameter)
    stepper.step(rates(0))
    moved = {name for name, value in own.items() if not torch.equal(value, start[name])}
    assert moved == {name for name, (sort, _) in SHAPES.items() if sort == "weight"}
    assert all(value.abs().sum() < start[name].abs().sum() for name, value in own.items() if name in moved)


@pytest.mark.parametrize("kind", VALUES)
def test_state_written_and_restored_goes_on_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole = made()
    run(Stepper(VALUES[kind], whole, anatomy()), whole, range(6))
    first = made()
    stepper = Stepper(VALUES[kind], first, anatomy())
    run(stepper, first, range(3))
    checkpoint.write(tmp_path, "000003-0", {"optimizer": stepper.state()}, {})
    second = {name: nn.Parameter(value.detach().clone()) for name, value in first.items()}
    again = Stepper(VALUES[kind], second, anatomy())
    again.restore(checkpoint.tensors(tmp_path / "000003-0", "optimizer"))
    run(again, second, range(3, 6))
    assert all(torch.equal(value, whole[name]) for name, value in second.items())


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd", "adagrad"])
def test_state_is_named_after_parameters(kind: str) -> None:
    own = made()
    stepper = Stepper(VALUES[kind], own, anatomy())
    run(stepper, own, range(1))
    assert {key.rpartition("|")[0] for key in stepper.state()} == set(SHAPES)


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("joining", ["head.", "low.bias", "low.weight"])
def test_what_keeps_moving_keeps_its_state_and_what_joins_starts_afresh(kind: str, joining: str) -> None:
    """A phase's optimizer holds more parameters than that of the phase before."""
    own = made()
    early = {name: value for name, value in own.items() if not name.startswith(joining)}
    first = Stepper(VALUES[kind], early, anatomy())
    run(first, early, range(3))
    second = Stepper(VALUES[kind], own, anatomy())
    second.restore(first.state())
    run(second, own, range(3, 6))
    # Each parameter moves by its own gradients and state alone, so one at a time is a reference.
    for name, value in own.items():
        alone = {name: made()[name]}
        stepper = Stepper(VALUES[kind], alone, anatomy())
        run(stepper, alone, range(3 if name.startswith(joining) else 0, 6))
        torch.testing.assert_close(value, alone[name], rtol=1e-6, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", VALUES)
def test_what_stops_moving_leaves_with_its_state(kind: str) -> None:
    own = made()
    first = Stepper(VALUES[kind], own, anatomy())
    run(first, own, range(2))
    still = copy.deepcopy(own["low.weight"])
    head = {name: value for name, value in own.items() if name.startswith("head")}
    second = Stepper(VALUES[kind], head, anatomy())
    second.restore(first.state())
    run(second, head, range(2, 4))
    assert torch.equal(own["low.weight"], still)
    assert all(key.startswith("head.") for key in second.state())
    reference = made()
    run(Stepper(VALUES[kind], reference, anatomy()), reference, range(4))
    assert all(torch.equal(value, reference[name]) for name, value in head.items())
