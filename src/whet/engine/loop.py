"""The one loop that runs every plan. It knows phases, not strategies, and asks the task for the loss.

for each phase:     enter: what moves, its optimizer; what lies below is computed once
    for each step:  gradient -> update -> record; now and then validate and save
                    leave: why it ended
the result is the best validation of the whole run
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import reduce
from torch import Tensor

from whet.data.store import TokenStore
from whet.engine.batches import batch_rows
from whet.engine.capture import Captures, States, Wanted
from whet.engine.forward import Boundary, Forward, set_modes
from whet.engine.frozen import cast_once
from whet.engine.gradient import Gradient, check_reached, forget, length_of
from whet.engine.interrupt import Asked, interruptions
from whet.engine.job import Job, Outcome
from whet.engine.journal import Journal
from whet.engine.optimizers import Stepper, divide_by
from whet.engine.position import Best, Ended
from whet.engine.precision import free_memory, peak_memory_mb, processes
from whet.engine.steps import LossScale, Step, Unread
from whet.engine.timing import seconds_per_step, timed_budget
from whet.engine.weights import Weights
from whet.errors import Interrupted, NonFiniteError
from whet.models.vocabulary import rows_in_use
from whet.plan.explain import boundaries, lowest_moving
from whet.plan.values import Phase


class Loop:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.settings, self.plan, self.task, self.anatomy = job.settings, job.plan, job.task, job.anatomy
        self.place = processes()
        self.forward = Forward(
            job.built.model, self.place, job.precision, job.settings.tokens_at_once, job.settings.compile
        )
        self.gradient = Gradient(self.forward, job.task, job.train, job.built.key, job.settings.seed)
        self.per_epoch = -(-len(job.train.targets) // self.settings.batch_size)
        self.captures = Captures(job.cache, job.folder / "states", free_memory() // 4)
        self.facts: list[dict[str, Any]] = []
        self.batches: tuple[int, list[np.ndarray]] = (-1, [])

    def before_head(self, store: TokenStore) -> States | None:
        """What arrives at the head for the rows of `store`, from the weights that the run starts with; None where the
        model cannot be cut there. For rows of this job, the same pass keeps what the first phase will need."""
        own = store is self.job.train.store or store is self.job.valid.store
        needed = boundaries(self.plan, self.anatomy, 0, frozenset()) if own and self.settings.cut else {}
        groups = dict.fromkeys((self.anatomy.head.name, *needed))
        cuts = [self.forward.find_cut(group, self.anatomy, self.job.train.store) for group in groups]
        if cuts[0] is None:
            return None
        wanted = [Wanted(cut, self.job.identity) for cut in cuts if cut]
        found, _ = self.captures.provide(wanted, [store], self.forward.passes)
        return found[id(store)]

    def run(self) -> Outcome:
        """Train from where the run folder stands to the end of the plan."""
        parts, moving = (self.job.train, self.job.valid), [phase.train.on(self.anatomy) for phase in self.plan.phases]

        def tokens() -> np.ndarray:
            return np.unique(np.concatenate([part.store.tokens for part in parts]))

        with rows_in_use(self.job.built.model, frozenset().union(*moving), tokens) as in_use:
            folder, model = self.job.folder, self.job.built.model
            self.weights = Weights(model, in_use, folder / "checkpoints", self.place, self.job.fresh)
            self.at, self.optimizer_state = self.weights.resume(lambda text: self.job.watch({"note": text}))
            self.unread = Unread(self.job.train.lines, self.place.device)
            self.scale = LossScale(self.place.device, self.at.loss_scale) if self.job.precision == "fp16" else None
            self.begun = self.saved = time.monotonic()
            self.earlier = self.at.seconds
            main = self.place.is_main_process
            self.journal = Journal(folder / "progress.jsonl", self.at.progress, self.job.watch, writes=main)
            with closing(self.journal):
                return self.run_plan()

    def run_plan(self) -> Outcome:
        with interruptions() as asked:
            while self.at.phase < len(self.plan.phases):
                self.run_phase(self.plan.phases[self.at.phase], asked)
        memory, kept = peak_memory_mb(), self.at.ranked[0]
        self.kept_as = f"best validation {self.settings.metric}"
        self.weights.load(kept)
        for edit in self.plan.averages:
            kept = self.average(edit.best)
        shutil.rmtree(self.captures.spill, ignore_errors=True)
        return Outcome(kept, self.kept_as, self.at, self.earlier, self.facts, memory)

    def run_phase(self, phase: Phase, asked: Asked) -> None:
        self.enter(phase)
        with cast_once(self.forward, self.anatomy, self.job.train.store):
            while self.at.step < self.at.lengths[self.at.phase] and not self.out_of_patience(phase):
                self.run_step(phase, asked)
        self.leave(phase)

    def run_step(self, phase: Phase, asked: Asked) -> None:
        """One step, and what is due after it. What was asked to stop does so here."""
        stop = self.anyone(asked.to_stop)
        self.take_step(phase, self.rows_of(self.at.step))
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
        self.moving = self.weights.open(names)
        store = self.job.train.store
        lowest = self.anatomy.group(lowest_moving(self.anatomy, names))
        set_modes(self.job.built.model, self.forward.inputs(store, np.arange(min(2, len(store)))), lowest.entry)
        self.optimizer = self.new_optimizer(phase)
        self.unchecked = True
        self.highest = next(g.name for g in reversed(self.anatomy.groups) if any(p.name in names for p in g.parameters))
        self.capture_below(phase, lowest.name, before)
        self.find_token_budget()
        if self.at.phase == len(self.at.lengths):
            self.at.lengths.append(self.steps_of(phase))
            self.save()

    def new_optimizer(self, phase: Phase) -> Stepper:
        """The phase's optimizer, with the state that the phase before or the checkpoint left for what keeps moving."""
        made = Stepper(phase.optimizer, self.moving, self.anatomy)
        made.restore(self.optimizer_state)
        return made

    def capture_below(self, phase: Phase, own: str, before: frozenset[str]) -> None:
        """Compute what lies below group `own` for all rows, once, and with it, in the same pass, what later phases
        will need; say what was done, or why the model runs whole. `before` is what moved in earlier phases."""
        self.forward.boundary = None
        needed = boundaries(self.plan, self.anatomy, self.at.phase, before)
        self.captures.release(list(needed))
        if own not in needed or not self.settings.cut:
            return
        cuts = {group: self.forward.find_cut(group, self.anatomy, self.job.train.store) for group in needed}
        cut = cuts[own]
        if cut is None:
            why = "not cut: a trial gave other outputs, so the model runs whole"
            self.facts.append({"phase": phase.name, "before": own, "from": why})
            return
        wanted = [Wanted(c, self.job.identity if needed[g] else None) for g, c in cuts.items() if c]
        wanted.sort(key=lambda w: w.cut is not cut)
        stores = (self.job.train.store, self.job.valid.store)
        states, found = self.captures.provide(wanted, stores, self.forward.passes)
        self.forward.boundary = Boundary(cut, {key: one.near(self.place.device) for key, one in states.items()})
        self.facts.append({"phase": phase.name, **found})

    def find_token_budget(self) -> None:
        """Time in which parts a step goes fastest. Not where a budget was asked for, rows are vectors, or several
        processes would have to agree."""
        known = self.settings.token_budget or self.at.tokens_at_once
        vectors = self.forward.boundary and not self.forward.boundary.padded
        if not (known or vectors or self.job.cache is None or self.place.num_processes > 1):
            on = self.job.cache, self.job.identity
            self.at.tokens_at_once = timed_budget(self.gradient, self.moving, self.settings.batch_size, *on)
        self.forward.token_budget = self.at.tokens_at_once or self.settings.tokens_at_once

    def steps_of(self, phase: Phase) -> int:
        if phase.length.unit != "min":
            return phase.length.steps(self.per_epoch)
        still = dict.fromkeys((group.name for group in self.anatomy.groups), 0.0)

        def step(number: int) -> None:
            self.gradient(self.rows_of(number % self.per_epoch), self.at.done, self.moving)
            self.optimizer.step(still)
            forget(self.moving)

        share = self.settings.validations_per_epoch / self.per_epoch
        seconds = seconds_per_step(step, lambda: self.forward.all(self.job.valid.store), share, self.place)
        self.optimizer = self.new_optimizer(phase)
        return max(1, int(60 * phase.length.amount / seconds))

    def leave(self, phase: Phase) -> None:
        """Say why the phase ended. One that lost patience hands on its best weights, others their last."""
        why = f"all {phase.length} are done"
        if self.out_of_patience(phase) and self.at.phase_best:
            why = f"no better validation in the last {self.at.without_progress}"
            self.weights.load(self.at.phase_best)
        self.optimizer_state = self.optimizer.state()
        if self.forward.boundary:
            fact = self.facts[-1]
            uncut = self.forward.boundary.served * fact["below_seconds"] / fact["rows"]
            fact["saved_seconds"] = round(uncut - fact["seconds"], 2)
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

    def average(self, best: int) -> Best:
        """The mean of the weights of the best validations, scored on the validation rows."""
        chosen = self.at.ranked[:best]
        self.weights.mean(chosen)
        self.forward.boundary = None
        made = self.validated(chosen[0].step, chosen[0].phase)
        steps = ", ".join(str(step) for step in sorted(one.step for one in chosen))
        self.kept_as = f"mean of the weights of steps {steps}"
        self.journal.write({"step": self.at.done, "phase": self.kept_as, "split": "valid", **made.scores}, best=made)
        return made

    # A step

    def rows_of(self, step: int) -> np.ndarray:
        """The rows of a step of this phase. Epochs count over the whole run: each phase sees other orders."""
        earlier = sum(-(-length // self.per_epoch) for length in self.at.lengths[: self.at.phase])
        epoch, number = divmod(step, self.per_epoch)
        if self.batches[0] != earlier + epoch:
            lengths, size = self.job.train.store.lengths, self.settings.batch_size
            made = batch_rows(self.settings.seed, earlier + epoch, lengths, size, self.batching)
            self.batches = earlier + epoch, made
        return self.batches[1][number]

    @property
    def batching(self) -> str:
        """Rows of like length together where rows are padded; any where one vector stands for a row."""
        if self.settings.batching != "auto":
            return self.settings.batching
        return "grouped" if self.forward.boundary is None or self.forward.boundary.padded else "random"

    def take_step(self, phase: Phase, rows: np.ndarray) -> None:
        """Gradient, clipping, update. What has a loss or gradient that is no number leaves the weights as they are."""
        scale = self.scale.value if self.scale else 1.0
        loss = self.gradient(rows, self.at.done, self.moving, scale)
        if self.unchecked:
            check_reached(self.moving)
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
        lower = self.settings.metric == "log_loss"
        if found.beats(at.phase_best, lower):
            at.phase_best, at.without_progress = found, 0
        at.rank(found, max([1, *(edit.best for edit in self.plan.averages)]), lower)
        if found in (at.phase_best, *at.ranked):
            with self.counted("saving"):
                self.weights.keep(found)
        line = {"step": at.done, "phase": phase.name, "split": "valid", "train_loss": train_loss, **found.scores}
        self.journal.write(line, best=at.best)

    def validated(self, step: int, phase: int) -> Best:
        """The scores of the weights as they are. Raises `NonFiniteError` where the outputs are no numbers."""
        outputs = self.forward.all(self.job.valid.store)
        if not np.isfinite(outputs).all():
            raise NonFiniteError(
                f"after step {self.at.done}: the outputs for validation rows are not finite. "
                "Try a lower --learning-rate, or --precision fp32"
            )
        scores = self.task.score(outputs, self.job.valid.targets)
        score = scores[self.settings.metric]
        return Best(step=step, phase=phase, score=score, loss=scores["log_loss"], scores=scores)

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
