"""How fast this machine is with this model: a few seconds of timing.

Whole passes are timed at a few shapes that stand for the run's own, and what beside them takes time is timed apart.
Nothing of it is left in the model, in torch's chance or on the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from whet.data.store import STEP, Part, width_of
from whet.engine import checkpoint
from whet.engine.forward import Boundary, Forward, set_modes
from whet.engine.frozen import cast_once
from whet.engine.gradient import Gradient, forget, length_of
from whet.engine.journal import Journal
from whet.engine.optimizers import Stepper
from whet.engine.precision import peak_memory_mb, products
from whet.engine.timings import Point, Shape, Timings
from whet.engine.trial import as_it_was, entered, let_move, made_part, with_part
from whet.models.cut import in_eval_mode
from whet.models.heads import outputs_of
from whet.models.vocabulary import rows_in_use
from whet.plan.anatomy import Anatomy
from whet.plan.price import Batch, Work
from whet.plan.values import OneOptimizer

TIMES = 3
LONG = 0.3
"""Seconds after which a pass is not timed again more than once; twice as long is as much as one should take."""
ENOUGH = 4.0
"""Seconds after which no further shapes are timed where two of their kind have been."""
ROUGHLY = 4
"""A token's training takes about so many of its forward passes."""
NUMBERS = 2**24
"""That the optimizer is timed on at most: more than a processor's caches hold."""
BYTES = 2**25
"""Of the checkpoint that is timed."""
LINES = 50
"""Of progress.jsonl that are timed."""


def calibrated(
    gradient: Gradient,
    anatomy: Anatomy,
    work: Work,
    optimizers: Sequence[OneOptimizer],
    known: Timings,
    per_token: float,
    folder: Path | None,
) -> Timings:
    """`known`, with all that it lacks for this work and these optimizers. `gradient` works on the model, uncut and not
    compiled, and takes any number of tokens at once, of which one takes about `per_token` seconds; checkpoints are
    timed in `folder`."""
    made = known.model_copy(deep=True)
    made.most = made.most or 2 ** int(np.log2(max(2 * LONG / per_token, 16)))
    with as_it_was(gradient.own.forward.model):
        bench, until = Bench(gradient, anatomy), time.monotonic() + ENOUGH
        for kind, shapes in made.wanted(work).items():
            points = made.passes.setdefault(kind, [])
            # The smallest first, then the largest: between the two lie the others.
            for shape in (*shapes[:1], *reversed(shapes[1:])):
                if len(points) > 1 and time.monotonic() > until:
                    made.stopped = True
                elif made.near(kind, shape) is None:
                    points.append(bench.point(kind, shape))
        if not made.shares:
            made.shares = bench.shares(max(made.wanted(work)["moving"], key=lambda shape: shape.rows * shape.width))
            made.table, made.vectors = bench.table(), bench.vectors(max(batch.rows for batch in work.trained))
            made.pull = bench.pull()
            made.step = bookkeeping()
            made.save, made.byte = saving(folder)
        made.number |= {value.kind: bench.number(value) for value in optimizers if value.kind not in made.number}
    return made


def seconds_per_token(gradient: Gradient) -> float:
    """About how long a token takes in training, from a forward pass over a few rows that are not long: too much
    rather than too little."""
    batch = Batch(2, min(64, width_of(int(gradient.own.part.store.lengths.max()))))
    store, forward = made_part(gradient.own.part, batch).store, gradient.own.forward
    return ROUGHLY * timed(lambda: forward.all(store))[0] / batch.tokens


class Bench:
    """Times passes of one model."""

    def __init__(self, gradient: Gradient, anatomy: Anatomy) -> None:
        self.gradient, self.anatomy = gradient, anatomy
        self.forward, self.model = gradient.own.forward, gradient.own.forward.model

    def point(self, kind: str, shape: Shape) -> Point:
        """A pass of a kind at a shape, timed."""
        part = made_part(self.gradient.own.part, Batch(*shape))
        passes = {
            "moving": lambda: self.trained(part, weights=True),
            "passing": lambda: self.trained(part, weights=False),
            "still": lambda: self.alone(part, self.forward.precision),
            "exact": lambda: self.alone(part, "fp32"),
        }
        seconds, first = passes[kind]()
        return Point(rows=shape.rows, width=shape.width, seconds=seconds, first=first)

    def trained(self, part: Part, *, weights: bool) -> tuple[float, float]:
        """Forward and backward, with the gradient of all weights or without that of the blocks' weights."""
        every, rows = frozenset(parameter.name for parameter in self.anatomy.parameters), np.arange(len(part.targets))
        with rows_in_use(self.model, every, lambda: part.store.tokens):
            moving = let_move(self.model, self.anatomy, weights=weights)
            set_modes(self.model, self.forward.inputs(part.store, rows[:2]), "")
            gradient = with_part(self.gradient, part)
            with cast_once(self.forward, self.anatomy, part.store):

                def step() -> None:
                    float(gradient(rows, 0, moving))
                    forget(moving)

                return timed(step)

    def alone(self, part: Part, precision: str) -> tuple[float, float]:
        """A forward pass in eval mode."""
        forward = Forward(self.model, self.forward.place, precision, self.forward.token_budget)
        return timed(lambda: forward.all(part.store))

    def shares(self, shape: Shape) -> dict[str, float]:
        """How a forward pass divides over the groups."""
        part = made_part(self.gradient.own.part, Batch(*shape))
        inputs = self.forward.inputs(part.store, np.arange(shape.rows))
        found = [self.by_group(inputs) for _ in range(TIMES)]
        spent = {name: min(one[name] for one in found) for name in found[0]}
        return {name: seconds / sum(spent.values()) for name, seconds in spent.items()}

    def by_group(self, inputs: dict[str, Tensor]) -> dict[str, float]:
        """Seconds that a pass spends in each group."""
        marks = [(self.anatomy.groups[0].name, self.now())]
        with (
            torch.inference_mode(),
            in_eval_mode(self.model),
            products(self.forward.precision, self.forward.device),
            entered(self.model, self.anatomy, lambda name: marks.append((name, self.now()))),
        ):
            outputs_of(self.model, inputs)
        spent = dict.fromkeys((group.name for group in self.anatomy.groups), 0.0)
        for (name, begun), (_, later) in pairwise([*marks, ("", self.now())]):
            spent[name] += later - begun
        return spent

    def now(self) -> float:
        if self.forward.device.type == "cuda":
            torch.cuda.synchronize(self.forward.device)
        return time.perf_counter()

    def number(self, value: OneOptimizer) -> float:
        """Seconds of clipping and optimizer for one number that moves, timed on numbers like those of the body."""
        copies, room = dict[str, nn.Parameter](), NUMBERS
        for parameter in (p for group in reversed(self.anatomy.body) for p in group.parameters):
            if not copies or parameter.size <= room:
                copies[parameter.name] = nn.Parameter(torch.ones(parameter.size, device=self.forward.device))
                room -= parameter.size
        stepper, times = Stepper(value, copies, self.anatomy), list[float]()
        for _ in range(TIMES + 1):
            for copy in copies.values():
                copy.grad = torch.full_like(copy, 1e-3)
            begun = self.now()
            float(length_of(copies))
            stepper.step(dict.fromkeys(stepper.groups, 0.0))
            forget(copies)
            times.append(self.now() - begun)
        return median_low(times[1:]) / sum(copy.numel() for copy in copies.values())

    def table(self) -> float:
        """Seconds that the gradient of a token table takes for each of its numbers."""
        width = self.anatomy.hidden_size or 256
        table = nn.Parameter(torch.zeros(NUMBERS // 4 // width, width, device=self.forward.device))
        ids = torch.arange(64, device=self.forward.device)

        def step() -> None:
            nn.functional.embedding(ids, table).sum().backward()
            table.grad = None

        return timed(step)[0] / table.numel()

    def pull(self) -> float:
        """Seconds that the pull of one number towards its pretrained value takes."""
        own, base, grad = (torch.ones(NUMBERS // 4, device=self.forward.device) for _ in range(3))

        def step() -> None:
            grad.add_((own - base) * 0.5)

        return timed(step)[0] / own.numel()

    def vectors(self, rows: int) -> float:
        """Seconds of forward and backward of the head on rows of one vector; 0 where the model cannot be cut there."""
        part = made_part(self.gradient.own.part, Batch(rows, STEP))
        cut = self.forward.find_cut(self.anatomy.head.name, self.anatomy, part.store)
        if cut is None:
            return 0.0
        (states,) = self.forward.passes.states([cut], part.store, lambda _, size, kind: torch.empty(size, dtype=kind))
        names = {parameter.name for parameter in self.anatomy.head.parameters}
        moving = {name: parameter for name, parameter in self.model.named_parameters() if name in names}
        gradient, every = with_part(self.gradient, part), np.arange(rows)

        def step() -> None:
            float(gradient(every, 0, moving))
            forget(moving)

        self.forward.boundary = Boundary(cut, {id(part.store): states.near(self.forward.device)})
        try:
            return timed(step)[0]
        finally:
            self.forward.boundary = None


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """The lower median of a few calls after a first one, and how much longer that took, in seconds."""
    times: list[float] = []
    while len(times) <= TIMES and (len(times) < 2 or sum(times) < LONG):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    usual = median_low(times[1:])
    return usual, max(0.0, times[0] - usual)


def bookkeeping() -> float:
    """Seconds of what the loop writes down in a step."""
    line = {"step": 1, "phase": "a phase", "split": "train", "loss": 0.5, "rate": 1e-4, "seconds": 1.0, "memory_mb": 1}
    with (
        TemporaryDirectory() as folder,
        closing(Journal(Path(folder) / "lines", 0, lambda _: None, writes=True)) as kept,
    ):
        begun = time.perf_counter()
        for _ in range(LINES):
            peak_memory_mb()
            kept.write(line)
        return (time.perf_counter() - begun) / LINES


def saving(folder: Path | None) -> tuple[float, float]:
    """Seconds that a checkpoint takes whatever is in it, and for each byte; nothing where none can be written."""
    try:
        with TemporaryDirectory(dir=folder) as place:

            def seconds(numbers: int) -> float:
                tensors = {"moved": {"weight": torch.zeros(numbers)}}
                return timed(lambda: checkpoint.write(Path(place), "000000-0", tensors, {}))[0]

            few, many = seconds(1), seconds(BYTES // 4)
    except (OSError, SafetensorError):
        return 0.0, 0.0
    return few, max(0.0, many - few) / BYTES
