"""The price of a run from its model, its rows and its plan: memory is counted, time follows from a calibration."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import psutil
import torch

from whet.config import Settings
from whet.data.store import Part
from whet.engine.calibration import calibrated, seconds_per_token
from whet.engine.capture import Captures, Wanted, of_tokens
from whet.engine.footprint import footprint
from whet.engine.forward import Forward
from whet.engine.gradient import Gradient, Source
from whet.engine.job import Beside
from whet.engine.precision import HALF, free_device_memory, free_memory, peak_memory_mb
from whet.engine.timing import expected_budget
from whet.engine.timings import Kept, Timings
from whet.engine.workload import work_of
from whet.plan.course import course
from whet.plan.explain import boundaries
from whet.plan.price import MEBI, Footprint, Machine, Price, Rates, State, Work
from whet.plan.pricing import Measured, price
from whet.plan.values import Plan
from whet.runs.assemble import Assembled

WORTH = 300.0
"""A run that takes about so many seconds, as reckoned from a few short rows, is timed before it begins. For a shorter
one that would cost too large a part of it."""
ANY = 2**40


@dataclass
class Estimator:
    """Prices runs of one assembled model on some rows (train, valid, test, and the pools `beside` that plans replay).
    `forward` is that of the run; `cache` and `identity` say where states and timings are kept, and what they depend on.
    `memory` is what there was before anything was tried, where that is known already."""

    parts: Assembled
    rows: Mapping[str, Part]
    settings: Settings
    forward: Forward
    cache: Path | None
    identity: str
    beside: Sequence[Beside] = ()
    memory: Machine | None = None
    states: dict[str, State | None] = field(default_factory=dict)

    def price(self, *, always: bool) -> Price:
        """The price of the plan. Where timings are lacking, they are made now: `always`, or if the run is long enough;
        but not where the run would not fit into the memory."""
        plan, anatomy = self.parts.plan, self.parts.anatomy
        work = self.work(plan, self.settings)
        found = price(plan, anatomy, work, Measured(self.machine, self.footprint, None, "the memory does not suffice"))
        if not found.fits:
            return found
        rates, timed = self.rates(work, always)
        return price(plan, anatomy, work, Measured(self.machine, self.footprint, rates, timed))

    def memory_mb(self, plan: Plan, settings: Settings) -> float:
        """The most memory that a run of another plan for this model, or with other settings, needs, in MiB."""
        measured = Measured(self.machine, self.footprint, None, "")
        return price(plan, self.parts.anatomy, self.work(plan, settings), measured).dearest.memory.total

    def work(self, plan: Plan, settings: Settings) -> Work:
        train, on = self.rows["train"].store, (self.cache, self.identity)
        expected = expected_budget(self.forward, train.lengths, settings.batch_size, *on)
        budget, to_time = (settings.token_budget, ()) if settings.token_budget else expected
        half = self.forward.precision in HALF
        stores = {name: part.store for name, part in self.rows.items()}
        states, model = self.states_for(plan) if settings.cut else {}, self.parts.built.model
        replayed = {replay.pool for phase in plan.phases for replay in phase.replay}
        beside = [one for one in self.beside if one.pool in replayed]
        return work_of(plan, stores, beside, settings, model, states, budget, half, to_time)

    def states_for(self, plan: Plan) -> dict[str, State]:
        """What arrives at the groups at which the model will be cut."""
        moved: frozenset[str] = frozenset()
        groups: dict[str, None] = {}
        for number, phase in enumerate(plan.phases):
            groups |= dict.fromkeys(boundaries(plan, self.parts.anatomy, number, moved))
            moved |= phase.train.on(self.parts.anatomy)
        return {group: state for group in groups if (state := self.state(group))}

    def state(self, group: str) -> State | None:
        """What arrives at a group; None where the model cannot be cut there."""
        if group not in self.states:
            self.states[group] = self.found_state(group)
        return self.states[group]

    def found_state(self, group: str) -> State | None:
        store = self.rows["train"].store
        cut = self.forward.find_cut(group, self.parts.anatomy, store)
        if cut is None:
            return None
        with torch.inference_mode():
            state = cut.capture(self.forward.inputs(store, np.arange(1)))
        wanted, stores = Wanted(cut, self.identity), [self.rows[part].store for part in ("train", "valid")]
        stores += [one.part.store for one in self.beside]
        cached = Captures(self.cache, Path(), 0).cached(wanted, stores, self.forward.passes)
        if of_tokens(state, store):
            size = state[0, 0].numel() * (2 if self.forward.precision in HALF else 4)
            return State(size=size, padded=True, cached=cached)
        return State(size=4 * state[0].numel(), padded=False, cached=cached)

    @cached_property
    def gradient(self) -> Gradient:
        """For trials: uncut, not compiled, all tokens at once."""
        forward = Forward(self.parts.built.model, self.forward.place, self.forward.precision, ANY)
        own = Source(0, forward, self.parts.task, self.rows["train"])
        return Gradient(own, self.parts.built.key, self.settings.seed)

    @cached_property
    def kept(self) -> Kept:
        return Kept(self.cache, self.key)

    @cached_property
    def known(self) -> Timings:
        """What is known from before, with the footprint in any case."""
        found = self.kept.read()
        if found.footprint is None:
            found.footprint = footprint(self.gradient, self.parts.anatomy)
            self.kept.write(found)
        return found

    @property
    def footprint(self) -> Footprint:
        assert self.known.footprint is not None
        return self.known.footprint

    @cached_property
    def per_token(self) -> float:
        return seconds_per_token(self.gradient)

    @cached_property
    def machine(self) -> Machine:
        """The memory as it stands once the model has been used: what a first pass leaves there stays."""
        if self.memory:
            return self.memory
        store, forward = self.rows["train"].store, self.gradient.own.forward
        with torch.inference_mode():
            forward(store, np.arange(min(2, len(store))))
        device = self.forward.device
        if device.type == "cuda":
            held = torch.cuda.memory_allocated(device)
            return Machine(resident=held, highest=held, free=free_device_memory(device), processor=False)
        highest = int(peak_memory_mb() * MEBI)
        return Machine(resident=psutil.Process().memory_info().rss, highest=highest, free=free_memory())

    def rates(self, work: Work, always: bool) -> tuple[Rates | None, str]:
        """The rates for this work, kept from before or found now, and which; or None and why not."""
        if self.forward.place.num_processes > 1:
            return None, "several processes are not timed before they run"
        if self.settings.compile:
            return None, "compiled steps are not timed before they run"
        known, optimizers = self.known, {p.optimizer.kind: p.optimizer for p in self.parts.plan.phases}
        if not known.lacks(work, optimizers):
            return known.rates(work), "timed before on this machine"
        if not always and self.roughly(work) < WORTH:
            return None, "too short a run to be timed before it begins; whet explain does"
        needed = work, tuple(optimizers.values())
        begun = time.monotonic()
        made = calibrated(self.gradient, self.parts.anatomy, *needed, known, self.per_token, self.cache)
        self.kept.write(made)
        self.known = made
        return made.rates(work), f"timed just now, in {time.monotonic() - begun:.1f} s"

    @property
    def key(self) -> str:
        """What timings depend on."""
        edits = [edit.model_dump(mode="json") for edit in self.parts.plan.edits]
        facts = [self.identity, self.forward.precision, edits, self.settings.gradient_checkpointing]
        return json.dumps([*facts, self.parts.task.outputs])

    def roughly(self, work: Work) -> float:
        """About how many seconds the run takes, reckoned from a few short rows."""
        groups, found = len(self.parts.anatomy.groups), 0.0
        for stretch in course(self.parts.plan, self.parts.anatomy, work):
            if stretch.steps is None:
                found += 60 * stretch.phase.length.amount
            elif stretch.padded:
                tokens = sum(batch.tokens * batch.times for batch in stretch.epoch.batches) / stretch.epoch.steps
                found += stretch.steps * self.per_token * tokens * len(stretch.above) / groups
        return found
