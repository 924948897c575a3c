"""The time of a phase, part by part: arithmetic on what was timed on this machine and on what there is to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from whet.plan.anatomy import Anatomy, Group
from whet.plan.course import FP32, Stretch, bytes_at, numbers_of, pulls, weights_of
from whet.plan.edits import Interpolate
from whet.plan.price import Batch, Line, Rates, Seconds, Work
from whet.plan.pulls import ToFeatures, ToOutputs
from whet.plan.values import Plan

TENTHS = 11
"""Shares that an interpolation tries where none is given: 0 to 1 in tenths."""


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
        count = validations(steps, stretch.epoch.steps, self.work.validations_per_epoch)
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
        each = self.step(stretch) + validation * self.work.validations_per_epoch / stretch.epoch.steps
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
        own += rates.pull * stretch.pulled
        own += rates.table * numbers_of(narrowed, self.anatomy, self.work)
        if not stretch.padded:
            return own + stretch.epoch.vectors * rates.vectors
        passing, moving = self.share(stretch.above), self.share_of_weights(stretch)
        batches = (passing - moving) * total(rates.passing, stretch.epoch.batches)
        batches += moving * total(rates.moving, stretch.epoch.batches)
        batches += self.share(stretch.below) * total(rates.still, stretch.epoch.batches)
        return own + batches / stretch.epoch.steps

    def beginning(self, stretch: Stretch) -> float:
        """What comes once where rows are padded: new shapes, and, in the first such phase, timing the token budget."""
        if not stretch.padded:
            return 0.0
        budgets = () if self.met["train"] else self.work.budgets
        new = self.new("train", stretch.epoch.batches)
        return self.share(stretch.above) * (new + total(self.rates.moving, budgets))

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

    def before(self, plan: Plan) -> float:
        """What pulls ask of the pretrained model for each training row: its features, its outputs."""
        found = 0.0
        for kind in (ToFeatures, ToOutputs):
            if any(pulls(phase, kind) for phase in plan.phases):
                groups = self.anatomy.body if kind is ToFeatures else self.anatomy.groups
                passing = total(self.rates.still, self.work.train) + self.new("eval", self.work.train)
                found += self.share(groups) * passing
        return found

    def after(self, plan: Plan) -> Seconds:
        """Making the result's weights of those there are, and scoring the validation rows with each that is tried."""
        tried = sum(TENTHS if isinstance(e, Interpolate) and e.share is None else 1 for e in plan.blends)
        validation = total(self.rates.still, self.work.valid) + self.new("eval", self.work.valid) / max(tried, 1)
        return Seconds.of(capture=0.0, steps=0.0, validations=tried * validation, checkpoints=0.0)

    def test(self) -> float:
        """What is scored in fp32 after training, the test rows and more; those also in less where training ran so."""
        found = total(self.rates.exact, self.work.exact) + len(self.work.exact) * self.rates.first[1]
        if self.work.half:
            found += total(self.rates.still, self.work.test) + self.new("eval", self.work.test)
        return found

    def share(self, groups: Iterable[Group]) -> float:
        return sum(self.rates.shares[group.name] for group in groups)

    def share_of_weights(self, stretch: Stretch) -> float:
        """The share of a pass whose weights move."""
        found = 0.0
        for group in stretch.above:
            sizes = weights_of(group, self.anatomy)
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


def validations(steps: int, epoch: int, per: int) -> int:
    """How often validation rows are scored in a phase, `per` times in an epoch of so many steps: as each part of it is
    done, and at the end."""
    return min(steps, steps * per // epoch) + (steps * per // epoch == (steps - 1) * per // epoch)
