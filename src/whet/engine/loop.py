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
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import reduce
from torch import Tensor, nn

from whet.config import Settings
from whet.data.store import TokenStore
from whet.engine import checkpoint
from whet.engine.batches import batch_rows, split_batch
from whet.engine.capture import Captures, Wanted
from whet.engine.forward import Boundary, Forward, set_modes
from whet.engine.interrupt import Asked, interruptions
from whet.engine.journal import Journal
from whet.engine.optimizers import Stepper
from whet.engine.position import Best, Position
from whet.engine.precision import free_memory, peak_memory_mb, processes
from whet.errors import Interrupted, NonFiniteError, TrainingError
from whet.models.dropout import mix
from whet.models.load import Built
from whet.models.vocabulary import rows_in_use
from whet.plan.anatomy import Anatomy
from whet.plan.explain import boundaries, lowest_moving
from whet.plan.values import Phase, Plan
from whet.tasks.classification import Classification

CALIBRATION_STEPS = 20


@dataclass(frozen=True)
class Part:
    """Rows ready for the model: tokens, targets, and the line of each row in its source."""

    store: TokenStore
    targets: np.ndarray
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """All that a run needs.

    `fresh` gives the weights that the model started with, by name; `cache` is where computed states are kept for other
    runs and `identity` what those depend on; `watch` is told each line of progress.jsonl.
    """

    built: Built
    anatomy: Anatomy
    plan: Plan
    task: Classification
    train: Part
    valid: Part
    settings: Settings
    precision: str
    folder: Path
    cache: Path | None
    identity: str
    fresh: Callable[[], dict[str, Tensor]]
    watch: Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Outcome:
    """How training went; the model then holds the weights kept."""

    kept: Best
    position: Position
    captures: list[dict[str, Any]]
    peak_memory_mb: float


class Loop:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.settings, self.plan, self.task, self.anatomy = job.settings, job.plan, job.task, job.anatomy
        self.place = processes()
        self.forward = Forward(job.built.model, self.place, job.precision, job.settings.token_budget)
        self.per_epoch = -(-len(job.train.targets) // self.settings.batch_size)
        self.keeps = max([1, *(edit.best for edit in job.plan.finish)])
        self.checkpoints = job.folder / "checkpoints"
        self.at = Position()
        self.moved: set[str] = set()
        self.optimizer_state: dict[str, Tensor] = {}
        self.captures = Captures(job.cache, job.folder / "states", free_memory() // 4)
        self.facts: list[dict[str, Any]] = []
        self.batches: tuple[int, list[np.ndarray]] = (-1, [])

    def run(self) -> Outcome:
        """Train from where the run folder stands to the end of the plan."""
        tokens = np.unique(np.concatenate([part.store.tokens for part in (self.job.train, self.job.valid)]))
        with rows_in_use(self.job.built.model, tokens) as self.in_use:
            return self.run_phases()

    def run_phases(self) -> Outcome:
        self.parameters = dict(self.job.built.model.named_parameters())
        self.start()
        with closing(self.journal):
            with interruptions() as asked:
                while self.at.phase < len(self.plan.phases):
                    self.run_phase(self.plan.phases[self.at.phase], asked)
            memory, kept = peak_memory_mb(), self.at.best
            assert kept is not None, "every phase ends with a validation"
            self.load(kept)
            for edit in self.plan.finish:
                kept = self.average(edit.best)
        shutil.rmtree(self.captures.spill, ignore_errors=True)
        return Outcome(kept, self.at, self.facts, memory)

    def run_phase(self, phase: Phase, asked: Asked) -> None:
        self.enter(phase)
        while self.at.step < self.at.lengths[self.at.phase] and not self.out_of_patience(phase):
            rows = self.rows_of(self.at.step)
            stop = self.anyone(asked.to_stop)
            loss = self.gradient(rows)
            rates = self.update(phase, rows, loss)
            self.record(phase, loss, rates)
            if self.validation_is_due():
                self.validate(phase)
            if stop or self.anyone(time.monotonic() - self.saved > self.settings.checkpoint_seconds):
                self.save()
            if stop:
                raise Interrupted("stopped after a finished step; everything is saved")
        self.leave(phase)

    def anyone(self, wish: bool) -> bool:
        """Does any process wish so? All get the same answer, so that they save and stop together."""
        if self.place.num_processes == 1:
            return wish
        return bool(reduce(torch.tensor(float(wish), device=self.place.device), "sum") > 0)

    # Phases

    def start(self) -> None:
        """Take up the latest whole checkpoint, or begin."""
        self.begun = self.saved = time.monotonic()
        for path in checkpoint.listed(self.checkpoints):
            if self.is_whole(path):
                self.at = Position.model_validate(checkpoint.facts(path))
                self.take(checkpoint.tensors(path, "moved"))
                self.optimizer_state = checkpoint.tensors(path, "optimizer")
                break
            self.job.watch({"note": f"checkpoint {path.name} is damaged; the one before it is used"})
            if self.place.is_main_process:
                shutil.rmtree(path)
        self.place.wait_for_everyone()
        self.earlier = self.at.seconds
        path, main = self.job.folder / "progress.jsonl", self.place.is_main_process
        self.journal = Journal(path, self.at.progress, self.job.watch, writes=main)

    def is_whole(self, path: Path) -> bool:
        """Is a checkpoint whole, and are the best weights that it refers to?"""
        if not checkpoint.whole(path):
            return False
        return all(checkpoint.whole(self.checkpoints / name) for name in bests_of(path))

    def enter(self, phase: Phase) -> None:
        """Set what moves, in which mode each module runs and the optimizer; compute what lies below once."""
        names = phase.train.on(self.anatomy)
        self.moving = {name: value for name, value in self.parameters.items() if name in names}
        before, self.moved = frozenset(self.moved), self.moved | names
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(name in names)
            parameter.grad = None
        set_modes(
            self.job.built.model,
            self.forward.inputs(self.job.train.store, np.arange(min(2, len(self.job.train.targets)))),
        )
        self.optimizer = self.new_optimizer(phase)
        self.unchecked = True
        self.capture_below(phase, names, before)
        if self.at.phase == len(self.at.lengths):
            self.at.lengths.append(self.steps_of(phase))
            self.save()

    def new_optimizer(self, phase: Phase) -> Stepper:
        """The phase's optimizer, with the state that the phase before or the checkpoint left for what keeps moving."""
        made = Stepper(phase.optimizer, self.moving, self.anatomy)
        made.restore(self.optimizer_state)
        return made

    def capture_below(self, phase: Phase, names: frozenset[str], before: frozenset[str]) -> None:
        """Compute what lies below the lowest moving group for all rows, once, and with it, in the same pass, what
        later phases will need; say what was done, or why the model runs whole."""
        self.forward.boundary, fact = None, {"phase": phase.name}
        needed = boundaries(self.plan, self.anatomy, self.at.phase, before)
        self.captures.release(list(needed))
        own = lowest_moving(self.anatomy, names)
        if own not in needed or not self.settings.cut:
            return
        cuts = {group: self.forward.find_cut(group, self.anatomy, self.job.train.store) for group in needed}
        cut = cuts[own]
        if cut is None:
            self.facts.append(
                {**fact, "before": own, "from": "not cut: a trial gave other outputs, so the model runs whole"}
            )
            return
        wanted = [Wanted(c, self.job.identity if needed[g] else None) for g, c in cuts.items() if c]
        wanted.sort(key=lambda w: w.cut is not cut)
        stores = (self.job.train.store, self.job.valid.store)
        states, found = self.captures.provide(wanted, stores, self.forward.passes)
        self.forward.boundary = Boundary(cut, states)
        self.facts.append({**fact, **found})

    def steps_of(self, phase: Phase) -> int:
        if phase.length.unit != "min":
            return phase.length.steps(self.per_epoch)
        return max(1, int(60 * phase.length.amount / self.seconds_per_step(phase)))

    def seconds_per_step(self, phase: Phase) -> float:
        """Measured on 20 steps at rate zero, which leave the weights as they are, with a validation's share."""
        times = []
        for number in range(CALIBRATION_STEPS):
            begun = time.monotonic()
            self.gradient(self.rows_of(number % self.per_epoch))
            self.optimizer.step(dict.fromkeys((group.name for group in self.anatomy.groups), 0.0))
            self.forget_gradient()
            times.append(time.monotonic() - begun)
        begun = time.monotonic()
        self.forward.all(self.job.valid.store)
        validations = (time.monotonic() - begun) * self.settings.validations_per_epoch / self.per_epoch
        self.optimizer = self.new_optimizer(phase)
        own = torch.tensor(sorted(times)[len(times) // 2] + validations, device=self.place.device)
        return float(reduce(own, "mean")) if self.place.num_processes > 1 else float(own)

    def leave(self, phase: Phase) -> None:
        """Say why the phase ended. One that lost patience hands on its best weights, others their last."""
        why = f"all {phase.length} are done"
        if self.out_of_patience(phase):
            why = f"no better validation in the last {self.at.without_progress}"
            assert self.at.phase_best is not None
            self.load(self.at.phase_best)
        self.optimizer_state = self.optimizer.state()
        self.at.ended.append(why)
        fresh = {"phase": self.at.phase + 1, "step": 0, "phase_best": None, "without_progress": 0}
        self.at = self.at.model_copy(update=fresh)
        self.save()

    def average(self, best: int) -> Best:
        """The mean of the weights of the best validations, scored on the validation rows."""
        chosen = self.at.ranked[:best]
        total: dict[str, Tensor] = {}
        for one in chosen:
            self.load(one)
            for name, value in self.weights().items():
                total[name] = total[name] + value.detach() if name in total else value.detach().clone()
        self.take({name: value / len(chosen) for name, value in total.items()})
        self.forward.boundary = None
        scores = self.score_valid()
        steps = ", ".join(str(one.step) for one in sorted(chosen, key=lambda one: one.step))
        last = chosen[0].model_copy(
            update={"score": scores[self.settings.metric], "loss": scores["log_loss"], "scores": scores}
        )
        self.journal.write(
            {"step": self.at.done, "phase": f"mean of steps {steps}", "split": "valid", **scores}, best=last
        )
        return last

    # Steps

    def rows_of(self, step: int) -> np.ndarray:
        """The rows of a step of this phase. Epochs count over the whole run: each phase sees other orders."""
        earlier = sum(-(-length // self.per_epoch) for length in self.at.lengths[: self.at.phase])
        epoch, number = divmod(step, self.per_epoch)
        if self.batches[0] != earlier + epoch:
            lengths, options = self.job.train.store.lengths, (self.settings.batch_size, self.settings.batching)
            self.batches = earlier + epoch, batch_rows(self.settings.seed, earlier + epoch, lengths, *options)
        return self.batches[1][number]

    def gradient(self, rows: np.ndarray) -> float:
        """Leave in each moving parameter the gradient of the mean loss over `rows`, and return that loss.

        The sum over all micro-batches of all processes is divided by the count of the whole batch.
        """
        part, device = self.job.train, self.place.device
        count = self.task.count(part.targets[rows])
        total = torch.zeros((), device=device)
        for number, micro in enumerate(split_batch(rows, part.store.lengths, self.settings.token_budget)):
            if number % self.place.num_processes != self.place.process_index:
                continue
            self.job.built.key.turn(self.settings.seed, self.at.done, micro, device)
            torch.manual_seed(mix(self.settings.seed, self.at.done, number) >> 1)
            targets = torch.from_numpy(part.targets[micro]).to(device)
            loss = self.task.loss(self.forward(part.store, micro), targets) / count
            loss.backward()
            total += loss.detach()
        if self.place.num_processes > 1:
            self.sum_over_processes(total)
        return float(total)

    def sum_over_processes(self, total: Tensor) -> None:
        """Replace loss and gradients by their sums over all processes."""
        for parameter in self.moving.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        parts = [total, *[p.grad for p in self.moving.values() if p.grad is not None]]
        flat = reduce(torch.cat([part.reshape(-1) for part in parts]), "sum")
        for part, value in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
            part.copy_(value.view_as(part))

    def update(self, phase: Phase, rows: np.ndarray, loss: float) -> dict[str, float]:
        """Clip and step; returns the rate of each group. Stops before the weights are touched if the loss or its
        gradient is not finite, or if a parameter that should move has none."""
        if self.unchecked:
            self.check_gradients()
        norm = nn.utils.get_total_norm([p.grad for p in self.moving.values() if p.grad is not None])
        if not (math.isfinite(loss) and torch.isfinite(norm)):
            lines = ", ".join(str(self.job.train.lines[row]) for row in rows[:8])
            raise NonFiniteError(
                f"step {self.at.done + 1}: the loss or its gradient is not finite; the weights were not touched. "
                f"Rows of this step: lines {lines}{', ...' if len(rows) > 8 else ''}. "
                "Try a lower --learning-rate, or --precision fp32"
            )
        length = self.at.lengths[self.at.phase]
        rates = {group.name: phase.rate.at(self.at.step, length, group.name) for group in self.anatomy.groups}
        self.optimizer.step(rates, divide_by=max(1.0, float(norm) / self.settings.max_grad_norm))
        self.forget_gradient()
        self.at.step += 1
        self.at.done += 1
        return rates

    def check_gradients(self) -> None:
        without = [name for name, parameter in self.moving.items() if parameter.grad is None]
        if without:
            raise TrainingError(
                f"{len(without)} parameters that should move got no gradient, for example {without[0]}: "
                "they take no part in the model's output. Choose others to train"
            )
        self.unchecked = False

    def forget_gradient(self) -> None:
        for parameter in self.moving.values():
            parameter.grad = None

    def record(self, phase: Phase, loss: float, rates: dict[str, float]) -> None:
        self.at.losses = (self.at.losses[0] + loss, self.at.losses[1] + 1)
        self.at.seconds = self.earlier + time.monotonic() - self.begun
        speed = self.at.done * self.settings.batch_size / max(self.at.seconds, 1e-9)
        line = {"step": self.at.done, "phase": phase.name, "split": "train", "loss": loss, "rate": rates["head"]}
        machine = {"seconds": round(self.at.seconds, 3), "rows_per_second": round(speed, 1)}
        shown = {"of": self.at.lengths[self.at.phase], "in_phase": self.at.step, "best": self.at.best}
        self.journal.write({**line, **machine, "memory_mb": round(peak_memory_mb())}, **shown)

    # Validations and checkpoints

    def validation_is_due(self) -> bool:
        done, per = self.at.step, self.settings.validations_per_epoch
        crossed = done * per // self.per_epoch > (done - 1) * per // self.per_epoch
        return crossed or done == self.at.lengths[self.at.phase]

    def validate(self, phase: Phase) -> None:
        """Score the validation rows; keep the weights if they are the best of the phase or among the run's best."""
        metric, at = self.settings.metric, self.at
        scores = self.score_valid()
        train_loss = at.losses[0] / max(at.losses[1], 1)
        found = Best(step=at.done, phase=at.phase, score=scores[metric], loss=scores["log_loss"], scores=scores)
        at.history.append((at.done, train_loss, found.loss))
        at.losses = (0.0, 0)
        at.without_progress += 1
        lower = metric == "log_loss"
        if found.beats(at.phase_best, lower):
            at.phase_best, at.without_progress = found, 0
        at.rank(found, self.keeps, lower)
        if found in (at.phase_best, *at.ranked):
            self.keep(found)
        line = {"step": at.done, "phase": phase.name, "split": "valid", "train_loss": train_loss, **scores}
        self.journal.write(line, best=at.best)

    def score_valid(self) -> dict[str, float]:
        outputs = self.forward.all(self.job.valid.store)
        if not np.isfinite(outputs).all():
            raise NonFiniteError(
                f"after step {self.at.done}: the outputs for validation rows are not finite. "
                "Try a lower --learning-rate, or --precision fp32"
            )
        return self.task.score(outputs, self.job.valid.targets)

    def out_of_patience(self, phase: Phase) -> bool:
        return phase.stop is not None and self.at.without_progress >= phase.stop.validations

    def keep(self, best: Best) -> None:
        """Store the weights of a validation."""
        if self.place.is_main_process:
            checkpoint.write(self.checkpoints, best.folder, {"moved": self.weights()}, best.model_dump())
        self.place.wait_for_everyone()

    def save(self) -> None:
        """Write a checkpoint, then remove what none of the two latest refers to."""
        self.saved = time.monotonic()
        if self.place.is_main_process:
            self.at.progress = self.journal.secure()
            name, parts = f"{self.at.done:06d}-{self.at.phase}", {"moved": self.weights()}
            parts["optimizer"] = self.optimizer.state()
            checkpoint.write(self.checkpoints, name, parts, self.at.model_dump())
            kept = checkpoint.listed(self.checkpoints)[:2]
            wanted = {best for path in kept for best in bests_of(path)}
            checkpoint.prune(self.checkpoints, {path.name for path in kept} | wanted)
        self.place.wait_for_everyone()

    def weights(self) -> dict[str, Tensor]:
        return {name: self.parameters[name] for name in sorted(self.moved)}

    def take(self, weights: dict[str, Tensor]) -> None:
        """Set the weights; what moved since but is not among them goes back to where it started."""
        back = {}
        if self.moved - weights.keys():
            back = {name: value for name, value in self.job.fresh().items() if name in self.moved - weights.keys()}
        with torch.no_grad():
            for name, value in {**back, **weights}.items():
                self.parameters[name].copy_(self.in_use.of(name, value))
        self.moved |= weights.keys()

    def load(self, best: Best) -> None:
        self.take(checkpoint.tensors(self.checkpoints / best.folder, "moved"))


def bests_of(path: Path) -> set[str]:
    """The folders of the best weights that a checkpoint refers to."""
    at = Position.model_validate(checkpoint.facts(path))
    return {best.folder for best in (at.phase_best, *at.ranked) if best}
