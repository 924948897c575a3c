"""The price of a plan before it runs: values. What was measured, what there is to do, and what comes of the two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self

from whet.plan.base import Value

MEBI = 2**20


class Batch(NamedTuple):
    """Rows that go through the model at once, padded to one width, and how often that happens."""

    rows: int
    width: int
    times: float = 1.0

    @property
    def tokens(self) -> int:
        return self.rows * self.width


class Line(Value):
    """What one batch costs, in seconds or bytes: `fixed`, then for each row (a head, virtual tokens), for each padded
    token, and for each padded token and place of its row (attention looks from every place to every other)."""

    fixed: float = 0.0
    row: float = 0.0
    token: float = 0.0
    square: float = 0.0

    def of(self, batch: Batch) -> float:
        return self.fixed + batch.rows * self.row + batch.tokens * (self.token + self.square * batch.width)


class Rates(Value):
    """What calibration found on this machine for this model, in seconds.

    `moving`: forward and backward through the whole model with the gradient of every weight; `passing`: the same with
    that of biases, norms and what was added alone in the blocks; `still`: a forward pass in eval mode; `exact`: the
    same in fp32. `shares` divides a pass over the groups. `number`: clipping and optimizer, for each number that moves,
    by kind of optimizer; `table`: making the gradient of a token table, for each of its numbers; `pull`: the pull of
    one number towards its pretrained value. `vectors`: forward and backward
    of the head on rows of one vector; `step`: what any step takes beside. `first`: what a shape costs more when it is
    new, in training and in eval mode. `save` and `byte`: a checkpoint, and each byte of it.
    """

    moving: Line
    passing: Line
    still: Line
    exact: Line
    shares: Mapping[str, float]
    number: Mapping[str, float]
    table: float
    pull: float
    vectors: float
    step: float
    first: tuple[float, float]
    save: float
    byte: float


class Footprint(Value):
    """Bytes that a training pass keeps for the way back, by group: where the group's weights move, and where the
    gradient only passes. The fixed bytes of `moving` are its weights in the precision of the products."""

    moving: Mapping[str, Line]
    passing: Mapping[str, Line]


class State(Value):
    """What arrives at a cut: `size` bytes for each place of a row, or, where not `padded`, for the row. `cached`: an
    earlier run has left it."""

    size: int
    padded: bool
    cached: bool = False


class Epoch(Value):
    """An epoch of a phase: `steps` of them, and the `batches` that go through the model in them, replayed rows among
    them. `vectors` is how many batches a step is where rows are vectors."""

    steps: int
    batches: tuple[Batch, ...]
    vectors: float


class Work(Value):
    """What a run has to do: an epoch of each phase; the batches of a validation, of a pass over the training rows, of
    the pass `once` over all rows whose states are kept (training, validation, replayed), of the `test` rows, and of
    what is scored in fp32 after training (`exact`); how its settings are.

    `train_rows` are the task's own; `rows` and `tokens` (real ones) those of the pass `once`. `narrowed` names token
    tables of which only some numbers train, with how many; `rounded` the weights that are kept in fewer bytes, with how
    many. `states` are those of groups at which the model can be cut. `budgets` are timed before the first step on
    padded rows, to find the token budget. `half`: products are in two bytes.
    """

    epochs: tuple[Epoch, ...]
    train: tuple[Batch, ...]
    once: tuple[Batch, ...]
    valid: tuple[Batch, ...]
    test: tuple[Batch, ...]
    exact: tuple[Batch, ...]
    train_rows: int
    rows: int
    tokens: int
    narrowed: Mapping[str, int]
    rounded: Mapping[str, int]
    states: Mapping[str, State]
    budgets: tuple[Batch, ...]
    half: bool
    checkpointing: bool
    validations_per_epoch: int
    checkpoint_seconds: float

    @property
    def trained(self) -> tuple[Batch, ...]:
        """The batches of an epoch of every phase."""
        return tuple(batch for epoch in self.epochs for batch in epoch.batches)


class Machine(Value):
    """Bytes of memory: what the process holds before training, its weights included; the most that it has held; what is
    free beside. `processor`: it is the memory of the processor, not of an accelerator."""

    resident: int
    highest: int
    free: int
    processor: bool = True


class Parts(Value):
    """A sum with its parts, all rounded to thousandths."""

    total: float

    @classmethod
    def of(cls, **parts: float) -> Self:
        return cls(total=round(sum(parts.values()), 3), **{name: round(part, 3) for name, part in parts.items()})


class Seconds(Parts):
    """Seconds of a phase: computing once what lies below, steps, validations, checkpoints."""

    capture: float
    steps: float
    validations: float
    checkpoints: float


class Memory(Parts):
    """Memory at the highest point of a phase, in MiB. `process` is what Python and the libraries hold without the
    model; `activations` are those of the largest batch, with what the allocator then leaves unused; `pulls` is what of
    the pretrained model training is held against."""

    process: float
    weights: float
    gradients: float
    optimizer: float
    activations: float
    captures: float
    pulls: float


class Disk(Parts):
    """Disk in MiB: the result, the checkpoints while the run goes on, and the states of frozen layers."""

    model: float
    checkpoints: float
    captures: float


class PhasePrice(Value):
    """The price of a phase; `seconds` is None where nothing was calibrated."""

    name: str
    seconds: Seconds | None
    memory: Memory


class Alternative(Value):
    """What would need less: options as a person writes them, with the memory that the run then needs, in MiB."""

    options: str
    memory_mb: float


class Price(Value):
    """The price of a run. `seconds` are those of training and of scoring the test rows, None where nothing was timed;
    `timed` says from when they are, or why there are none. `before_seconds` of them are what pulls ask of the
    pretrained model before the first phase; `after` is what makes the result of the weights after the last, None where
    nothing does. `peak_mb` is the most memory that the process will have
    held; it holds `held_mb` before training, and `free_mb` are free beside. `fitting` is filled where that is not
    enough."""

    phases: tuple[PhasePrice, ...]
    after: PhasePrice | None
    seconds: float | None
    before_seconds: float | None
    test_seconds: float | None
    timed: str
    peak_mb: float
    held_mb: float
    free_mb: float
    disk: Disk
    fitting: tuple[Alternative, ...] = ()

    @property
    def fits(self) -> bool:
        """Is enough free for what is to come? What was held while the model was loaded does not count."""
        return self.dearest.memory.total <= self.held_mb + self.free_mb

    @property
    def dearest(self) -> PhasePrice:
        """The phase that needs most memory, or what comes after all."""
        return max((*self.phases, *([self.after] if self.after else [])), key=lambda phase: phase.memory.total)
