"""The time of a phase, part by part: arithmetic on what was timed on this machine and on what there is to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from whet.plan.anatomy import Anatomy, Group
from whet.plan.course import FP32, Stretch, bytes_at, numbers_of
from whet.plan.price import Batch, Line, Rates, Seconds, Work


@dataclass
class Clock:
    """Tells the seconds of phases in their order. `met` notes the shapes that the run has met, in training and in eval
    mode: a shape costs more the first time."""

    anatomy: Anatomy
    work: Work
    rates: Rates
    met: dict[str, set[tuple[int, int]]] = field(default_factory=lambda: {"train": set(), "eval": set()})

    def phase(self, stretch: Stretch, last: bool) -> Seconds:
        """The seconds of a phase, and the number of its steps."""
        capture = self.capture(stretch)
        validation, new = self.validation(stretch)
        steps = self.steps_of(stretch, validation)
        count = validations(steps, self.work)
        stepping = self.beginning(stretch) + steps * self.step(stretch)
        return Seconds.of(
            capture=capture,
            steps=stepping,
            validations=new + count * validation,
            checkpoints=self.checkpoints(stretch, count, stepping + count * validation, last),
        )

    def steps_of(self, stretch: Stretch, validation: float) -> int:
        """Those planned, or those that fit the minutes with their validations, as the engine reckons them."""
        if stretch.steps is not None:
            return stretch.steps
        each = self.step(stretch) + validation * self.work.validations_per_epoch / self.work.per_epoch
        return max(1, int(60 * stretch.phase.length.amount / each))

    def capture(self, stretch: Stretch) -> float:
        """The pass over all rows up to the highest of the groups, and putting their states into the cache."""
        if not stretch.computed:
            return 0.0
        names = [group.name for group in self.anatomy.groups]
        share = self.share(self.anatomy.groups[: max(names.index(name) for name in stretch.computed)])
        passing = total(self.rates.still, self.work.once) + self.new("eval", self.work.once)
        return share * passing + self.rates.byte * sum(bytes_at(name, self.work) for name in stretch.computed)

    def step(self, stretch: Stretch) -> float:
        """Seconds of a step, the mean over an epoch's."""
        rates, narrowed = self.rates, self.work.narrowed.keys() & stretch.moving
        own = rates.step + rates.number[stretch.phase.optimizer.kind] * stretch.numbers
        own += rates.table * numbers_of(narrowed, self.anatomy, self.work)
        if not stretch.padded:
            return own + self.work.vectors * rates.vectors
        passing, moving = self.share(stretch.above), self.share_of_weights(stretch)
        batches = (passing - moving) * total(rates.passing, self.work.batches)
        batches += moving * total(rates.moving, self.work.batches)
        batches += self.share(stretch.below) * total(rates.still, self.work.batches)
        return own + batches / self.work.per_epoch

    def beginning(self, stretch: Stretch) -> float:
        """What comes once, in the first phase whose rows are padded: new shapes, and timing the token budget."""
        if not stretch.padded or self.met["train"]:
            return 0.0
        new = self.share(stretch.above) * self.new("train", self.work.batches)
        return new + self.share(stretch.above) * total(self.rates.moving, self.work.budgets)

    def validation(self, stretch: Stretch) -> tuple[float, float]:
        """Seconds of one validation, and what the first one takes beside."""
        if not stretch.padded:
            return len(self.work.valid) * self.rates.vectors, 0.0
        share = self.share((*stretch.below, *stretch.above))
        return share * total(self.rates.still, self.work.valid), share * self.new("eval", self.work.valid)

    def checkpoints(self, stretch: Stretch, count: int, training: float, last: bool) -> float:
        """As the phase begins and ends, every so often between, and the weights at each of `count` validations."""
        before = FP32 * numbers_of(stretch.before, self.anatomy, self.work)
        after = FP32 * numbers_of(stretch.before | stretch.moving, self.anatomy, self.work)
        between = int(training / self.work.checkpoint_seconds)
        size = before + count * after + between * (after + stretch.optimizer)
        size += after + (0.0 if last else stretch.optimizer)
        return self.rates.byte * size + self.rates.save * (2 + between + count)

    def test(self) -> float:
        """Scoring the test rows in fp32 and, where training ran in less, in that too."""
        found = total(self.rates.exact, self.work.test) + len(self.work.test) * self.rates.first[1]
        if self.work.half:
            found += total(self.rates.still, self.work.test) + self.new("eval", self.work.test)
        return found

    def share(self, groups: Iterable[Group]) -> float:
        return sum(self.rates.shares[group.name] for group in groups)

    def share_of_weights(self, stretch: Stretch) -> float:
        """The share of a pass whose weights move."""
        found = 0.0
        for group in stretch.above:
            sizes = {p.name: p.size for p in group.parameters if p.kind == "weight"}
            moving = sum(size for name, size in sizes.items() if name in stretch.moving)
            found += self.rates.shares[group.name] * moving / max(sum(sizes.values()), 1)
        return found

    def new(self, mode: str, batches: Sequence[Batch]) -> float:
        """What the shapes among these that the run has not met yet cost more for that."""
        shapes = {(batch.rows, batch.width) for batch in batches} - self.met[mode]
        self.met[mode] |= shapes
        return len(shapes) * self.rates.first[mode == "eval"]


def total(line: Line, batches: Sequence[Batch]) -> float:
    return sum(batch.times * line.of(batch) for batch in batches)


def validations(steps: int, work: Work) -> int:
    """How often validation rows are scored in a phase: as each part of an epoch is done, and at the end."""
    per, epoch = work.validations_per_epoch, work.per_epoch
    return min(steps, steps * per // epoch) + (steps * per // epoch == (steps - 1) * per // epoch)
