"""The one loop that runs every plan. It knows phases, not strategies, and asks the task for the loss.

for each phase:     enter: what moves, its optimizer; what lies below is computed once
    for each step:  gradient -> update -> record; now and then validate and save
                    leave: why it ended
the result is the best validation of the whole run
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import reduce
from torch import Tensor, nn

from whet.data.store import Ragged
from whet.engine.below import Below
from whet.engine.draws import Draws, seed_of
from whet.engine.finishing import After, finished
from whet.engine.forward import Forward, set_modes
from whet.engine.frozen import cast_once
from whet.engine.gradient import Gradient, Source, check_reached, forget, length_of
from whet.engine.interrupt import Asked, interruptions
from whet.engine.job import Job, Outcome
from whet.engine.journal import Journal
from whet.engine.optimizers import Stepper, divide_by
from whet.engine.position import Best, Ended
from whet.engine.precision import peak_memory_mb, processes
from whet.engine.pulls import Pretrained, Pulls
from whet.engine.steps import LossScale, Step, Unread
from whet.engine.timing import seconds_per_step, timed_budget
from whet.engine.weights import Weights
from whet.errors import Interrupted, NonFiniteError
from whet.models.vocabulary import rows_in_use
from whet.plan.edits import Average
from whet.plan.explain import lowest_moving
from whet.plan.values import Phase


class Loop:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.settings, self.plan, self.task, self.anatomy = job.settings, job.plan, job.task, job.anatomy
        self.place = processes()
        self.forward = self.through(job.built.model)
        self.beside = [
            Source(number, self.through(one.model), one.task, one.part) for number, one in enumerate(job.beside, 1)
        ]
        own = Source(0, self.forward, job.task, job.train)
        self.gradient = Gradient(own, job.built.key, job.settings.seed)
        self.draws = [Draws(seed_of(job.settings.seed, s.number), s.part.store.lengths) for s in (own, *self.beside)]
        self.new = frozenset(job.built.origin.new).union(*(one.head for one in job.beside))
        self.lower = job.task.measured_by.lower_is_better
        self.below = Below(job, self.forward, [source.forward for source in self.beside])

    def through(self, model: nn.Module) -> Forward:
        settings = self.settings
        return Forward(model, self.place, self.job.precision, settings.tokens_at_once, settings.compile)

    def run(self) -> Outcome:
        """Train from where the run folder stands to the end of the plan."""
        parts = (self.job.train, self.job.valid, *(one.part for one in self.job.beside))
        moving = [phase.train.on(self.anatomy) for phase in self.plan.phases]

        def tokens() -> np.ndarray:
            return np.unique(np.concatenate([part.store.tokens for part in parts]))

        with rows_in_use(self.job.built.model, frozenset().union(*moving), tokens) as in_use:
            folder, model = self.job.folder, self.job.built.model
            self.pretrained = self.before_anything_moves(frozenset().union(*moving))
            self.weights = Weights(model, in_use, folder / "checkpoints", self.place, self.job.fresh)
            self.at, self.optimizer_state = self.weights.resume(lambda text: self.job.watch({"note": text}))
            if self.at.phase:
                self.below.forget()  # they were made with other weights than those that now stand below
            self.unread = Unread(self.job.train.lines, self.place.device)
            self.scale = LossScale(self.place.device, self.at.loss_scale) if self.job.precision == "fp16" else None
            self.begun = self.saved = time.monotonic()
            self.earlier = self.at.seconds
            main = self.place.is_main_process
            self.journal = Journal(folder / "progress.jsonl", self.at.progress, self.job.watch, writes=main)
            with closing(self.journal):
                return self.run_plan()

    def before_anything_moves(self, moving: frozenset[str]) -> Pretrained:
        """What the pulls of the plan ask of the pretrained model."""
        store = self.job.train.store
        weights = {n: p for n, p in self.job.built.model.named_parameters() if n in moving - self.new}
        return Pretrained.of(self.plan, weights, lambda: self.below.before_head(store), lambda: self.forward.all(store))

    def run_plan(self) -> Outcome:
        with interruptions() as asked:
            while self.at.phase < len(self.plan.phases):
                self.run_phase(self.plan.phases[self.at.phase], asked)
        memory, kept = peak_memory_mb(), self.at.ranked[0]
        self.kept_as = f"best validation {self.task.metric}"
        self.weights.load(kept)
        after = After(self.weights, self.at.ranked, self.new, self.scored, self.lower)
        for edit in self.plan.blends:
            kept, self.kept_as = finished(edit, kept, after)
        self.below.clear()
        return Outcome(kept, self.kept_as, self.at, self.earlier, self.below.facts, memory)

    def run_phase(self, phase: Phase, asked: Asked) -> None:
        self.enter(phase)
        with cast_once(self.forward, self.anatomy, self.job.train.store):
            while self.at.step < self.at.lengths[self.at.phase] and not self.out_of_patience(phase):
                self.run_step(phase, asked)
        self.leave(phase)

    def run_step(self, phase: Phase, asked: Asked) -> None:
        """One step, and what is due after it. What was asked to stop does so here."""
        stop = self.anyone(asked.to_stop)
        self.take_step(phase)
        if self.validation_is_due():
            self.validate(phase)
        if stop or self.anyone(time.monotonic() - self.saved > self.settings.checkpoint_seconds):
            self.save()
        if stop:
            raise Interrupted("stopped after a finished step; everything is saved")

    def anyone(self, wish: bool) -> bool:
        """Does any process wish so? All get the same answer, so that they save and stop together."""
        if self.place.num_processes == 1:
            return wish
        return bool(reduce(torch.tensor(float(wish), device=self.place.device), "sum") > 0)

    # A phase begins and ends

    def enter(self, phase: Phase) -> None:
        """Set what moves, in which mode each module runs and the optimizer; compute what lies below once."""
        names, before = phase.train.on(self.anatomy), frozenset(self.weights.moved)
        self.shares = self.shares_of(phase)
        self.per_epoch = self.draws[0].per_epoch(self.shares[0])
        self.moving = self.weights.open(names)
        store = self.job.train.store
        lowest = self.anatomy.group(lowest_moving(self.anatomy, names))
        set_modes(self.job.built.model, self.forward.inputs(store, np.arange(min(2, len(store)))), lowest.entry)
        self.optimizer = self.new_optimizer(phase)
        self.unchecked = True
        self.highest = next(g.name for g in reversed(self.anatomy.groups) if any(p.name in names for p in g.parameters))
        self.below.compute(self.at.phase, lowest.name, before)
        self.gradient.pulls = self.pulls_of(phase)
        self.find_token_budget()
        if self.at.phase == len(self.at.lengths):
            self.at.lengths.append(self.steps_of(phase))
            self.save()

    def pulls_of(self, phase: Phase) -> Pulls | None:
        if not phase.pulls:
            return None
        head = self.job.built.model.get_submodule(self.anatomy.head.entry)
        return Pulls(phase.pulls, self.pretrained, head, self.place.device, self.task.apart)

    def new_optimizer(self, phase: Phase) -> Stepper:
        """The phase's optimizer, with the state that the phase before or the checkpoint left for what keeps moving."""
        made = Stepper(phase.optimizer, self.moving, self.anatomy)
        made.restore(self.optimizer_state)
        return made

    def find_token_budget(self) -> None:
        """Time in which parts a step goes fastest. Not where a budget was asked for, rows are vectors, or several
        processes would have to agree."""
        known = self.settings.token_budget or self.at.tokens_at_once
        vectors = self.forward.boundary and not self.forward.boundary.padded
        if not (known or vectors or self.job.cache is None or self.place.num_processes > 1):
            on = self.job.cache, self.job.identity
            self.at.tokens_at_once = timed_budget(self.gradient, self.moving, self.settings.batch_size, *on)
        for one in (self.forward, *(source.forward for source in self.beside)):
            one.token_budget = self.at.tokens_at_once or self.settings.tokens_at_once

    def steps_of(self, phase: Phase) -> int:
        if phase.length.unit != "min":
            return phase.length.steps(self.per_epoch)
        still = dict.fromkeys((group.name for group in self.anatomy.groups), 0.0)

        def step(number: int) -> None:
            rows, beside = self.drawn(number % self.per_epoch)
            self.gradient(rows, self.at.done, self.moving, beside=beside)
            self.optimizer.step(still)
            forget(self.moving)

        share = self.settings.validations_per_epoch / self.per_epoch
        seconds = seconds_per_step(step, lambda: self.forward.all(self.job.valid.store), share, self.place)
        self.optimizer = self.new_optimizer(phase)
        return max(1, int(60 * phase.length.amount / seconds))

    def leave(self, phase: Phase) -> None:
        """Say why the phase ended. One that lost patience hands on its best weights, others their last."""
        if self.gradient.pulls:
            self.gradient.pulls.close()
        why = f"all {phase.length} are done"
        if self.out_of_patience(phase) and self.at.phase_best:
            why = f"no better validation in the last {self.at.without_progress}"
            self.weights.load(self.at.phase_best)
        self.optimizer_state = self.optimizer.state()
        self.below.account()
        self.at.seconds = self.earlier + time.monotonic() - self.begun
        before = sum(phase.seconds for phase in self.at.ended)
        beside = {name: round(self.at.beside.get(name, 0.0), 3) for name in ("validating", "saving")}
        own = round(self.at.seconds - before, 3)
        self.at.ended.append(Ended(steps=self.at.step, seconds=own, **beside, why=why))
        fresh: dict[str, Any] = {
            "phase": self.at.phase + 1,
            "step": 0,
            "phase_best": None,
            "without_progress": 0,
            "beside": {},
        }
        self.at = self.at.model_copy(update=fresh)
        self.save()

    def scored(self, like: Best, how: str) -> Best:
        """The scores of weights that were made, after training, from those of `like` and others."""
        self.forward.boundary = None
        made = self.validated(like.step, like.phase)
        self.journal.write({"step": self.at.done, "phase": how, "split": "valid", **made.scores}, best=made)
        return made

    # A step

    def shares_of(self, phase: Phase) -> list[int]:
        """Rows that the phase takes in each step from the task's own rows and from each replay, 0 where it has none."""
        own, *others = phase.rows_per_step(self.settings.batch_size)
        of = {one.pool: rows for one, rows in zip(phase.replay, others, strict=True)}
        return [own, *(of.get(one.pool, 0) for one in self.job.beside)]

    def drawn(self, step: int) -> tuple[np.ndarray, list[tuple[Source, np.ndarray]]]:
        """The rows of a step of this phase: the task's own, and those of replays beside them."""
        before = [self.shares_of(phase) for phase in self.plan.phases[: self.at.phase]]
        lengths = self.at.lengths[: self.at.phase]

        def rows(number: int) -> np.ndarray:
            earlier = zip(lengths, (shares[number] for shares in before), strict=True)
            return self.draws[number].rows(earlier, step, self.shares[number], self.batching)

        return rows(0), [(source, rows(source.number)) for source in self.beside if self.shares[source.number]]

    @property
    def batching(self) -> str:
        """Rows of like length together where rows are padded; any where one vector stands for a row."""
        if self.settings.batching != "auto":
            return self.settings.batching
        return "grouped" if self.forward.boundary is None or self.forward.boundary.padded else "random"

    def take_step(self, phase: Phase) -> None:
        """Gradient, clipping, update. What has a loss or gradient that is no number leaves the weights as they are."""
        scale = self.scale.value if self.scale else 1.0
        rows, beside = self.drawn(self.at.step)
        loss = self.gradient(rows, self.at.done, self.moving, scale, beside)
        if self.unchecked:
            idle = [one.head for one, share in zip(self.job.beside, self.shares[1:], strict=True) if not share]
            check_reached({n: p for n, p in self.moving.items() if not any(n in head for head in idle)})
            self.unchecked = False
        norm = length_of(self.moving) / scale
        length = self.at.lengths[self.at.phase]
        rates = {group: phase.rate.at(self.at.step, length, group) for group in self.optimizer.groups}
        step = self.recorded(phase, rows, loss, norm, rates)
        self.unread.add(step)
        if self.unread.full:
            self.read()
        wrong = None if self.unread.most == 1 and not self.scale else ~step.finite
        self.optimizer.step(rates, divide_by(norm, self.settings.max_grad_norm, scale), wrong)
        if self.scale and wrong is not None:
            self.scale.update(wrong)
        forget(self.moving)
        self.at.step += 1
        self.at.done += 1

    def recorded(self, phase: Phase, rows: np.ndarray, loss: Tensor, norm: Tensor, rates: dict[str, float]) -> Step:
        """The step that comes now, with its line for the journal."""
        done = self.at.done + 1
        self.at.seconds = self.earlier + time.monotonic() - self.begun
        speed = done * self.settings.batch_size / max(self.at.seconds, 1e-9)
        line = {"step": done, "phase": phase.name, "split": "train", "loss": None, "rate": rates[self.highest]}
        machine = {"seconds": round(self.at.seconds, 3), "rows_per_second": round(speed, 1)}
        shown = {"of": self.at.lengths[self.at.phase], "in_phase": self.at.step + 1, "best": self.at.best}
        return Step(done, rows, loss, norm, {**line, **machine, "memory_mb": round(peak_memory_mb())}, shown)

    def read(self) -> None:
        """Write down the losses of the steps since they were last read."""
        for step, loss in self.unread.read(self.scale):
            if math.isfinite(loss):
                self.at.losses = (self.at.losses[0] + loss, self.at.losses[1] + 1)
            self.journal.write({**step.line, "loss": loss if math.isfinite(loss) else None}, **step.shown)

    # Validations and checkpoints

    def validation_is_due(self) -> bool:
        done, per = self.at.step, self.settings.validations_per_epoch
        crossed = done * per // self.per_epoch > (done - 1) * per // self.per_epoch
        return crossed or done == self.at.lengths[self.at.phase]

    def validate(self, phase: Phase) -> None:
        """Score the validation rows; keep the weights if they are the best of the phase or among the run's best."""
        self.read()
        at = self.at
        with self.counted("validating"):
            found = self.validated(at.done, at.phase)
        train_loss = at.losses[0] / max(at.losses[1], 1)
        at.history.append((at.done, train_loss, found.loss))
        at.losses = (0.0, 0)
        at.without_progress += 1
        if found.beats(at.phase_best, self.lower):
            at.phase_best, at.without_progress = found, 0
        at.rank(found, max([1, *(edit.best for edit in self.plan.finish if isinstance(edit, Average))]), self.lower)
        if found in (at.phase_best, *at.ranked):
            with self.counted("saving"):
                self.weights.keep(found)
        line = {"step": at.done, "phase": phase.name, "split": "valid", "train_loss": train_loss, **found.scores}
        self.journal.write(line, best=at.best)

    def validated(self, step: int, phase: int) -> Best:
        """The scores of the weights as they are. Raises `NonFiniteError` where the outputs are no numbers."""
        outputs = self.forward.all(self.job.valid.store)
        if not np.isfinite(outputs.values if isinstance(outputs, Ragged) else outputs).all():
            raise NonFiniteError(
                f"after step {self.at.done}: the outputs for validation rows are not finite. "
                "Try a lower --learning-rate, or --precision fp32"
            )
        scores = self.task.score(outputs, self.job.valid)
        score, loss = scores[self.task.metric], scores[self.task.loss_metric]
        return Best(step=step, phase=phase, score=score, loss=loss, scores=scores)

    def out_of_patience(self, phase: Phase) -> bool:
        return phase.stop is not None and self.at.without_progress >= phase.stop.validations

    def save(self) -> None:
        """Write a checkpoint. After the last phase the optimizer's state has no use any more."""
        self.read()
        self.saved = time.monotonic()
        self.at.progress = self.journal.secure()
        self.at.loss_scale = self.scale.state() if self.scale else None
        over = self.at.phase == len(self.plan.phases)
        with self.counted("saving"):
            self.weights.save(self.at, {} if over else self.optimizer.state())

    @contextmanager
    def counted(self, what: str) -> Iterator[None]:
        """Count seconds that are not training."""
        begun = time.monotonic()
        yield
        self.at.beside[what] = self.at.beside.get(what, 0.0) + time.monotonic() - begun
