"""What lies below the lowest group that moves: computed once for all rows of a run, phase by phase."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from whet.data.store import TokenStore
from whet.engine.capture import Captures, States, Wanted
from whet.engine.forward import Boundary, Forward
from whet.engine.job import Job
from whet.engine.precision import free_memory
from whet.plan.explain import boundaries


class Below:
    """Sets the boundary of `forward`, and of the `others` that replayed rows go through, for each phase. `facts` tells,
    phase by phase, what was computed and saved."""

    def __init__(self, job: Job, forward: Forward, others: Sequence[Forward] = ()) -> None:
        self.job, self.forward, self.others = job, forward, others
        self.captures = Captures(job.cache, job.folder / "states", free_memory() // 4)
        self.facts: list[dict[str, Any]] = []

    def before_head(self, store: TokenStore) -> States | None:
        """What arrives at the head for the rows of `store`, from the weights that the run starts with; None where the
        model cannot be cut there. For rows of this job, the same pass keeps what the first phase will need."""
        job = self.job
        own = any(store is one for one in (job.train.store, job.valid.store))
        needed = boundaries(job.plan, job.anatomy, 0, frozenset()) if own and job.settings.cut else {}
        groups = dict.fromkeys((job.anatomy.head.name, *needed))
        cuts = [self.forward.find_cut(group, job.anatomy, job.train.store) for group in groups]
        if cuts[0] is None:
            return None
        wanted = [Wanted(cut, job.identity) for cut in cuts if cut]
        found, _ = self.captures.provide(wanted, [store], self.forward.passes)
        return found[id(store)]

    def compute(self, phase: int, own: str, before: frozenset[str]) -> None:
        """Compute what lies below group `own`, the lowest that moves in phase number `phase`, for all rows, and with
        it, in the same pass, what later phases will need; say what was done, or why the model runs whole. `before` is
        what moved in earlier phases."""
        job, name = self.job, self.job.plan.phases[phase].name
        for one in (self.forward, *self.others):
            one.boundary = None
        needed = boundaries(job.plan, job.anatomy, phase, before)
        self.captures.release(list(needed))
        if own not in needed or not job.settings.cut:
            return
        cuts = {group: self.forward.find_cut(group, job.anatomy, job.train.store) for group in needed}
        cut = cuts[own]
        if cut is None:
            why = "not cut: a trial gave other outputs, so the model runs whole"
            self.facts.append({"phase": name, "before": own, "from": why})
            return
        wanted = [Wanted(c, job.identity if needed[g] else None) for g, c in cuts.items() if c]
        wanted.sort(key=lambda w: w.cut is not cut)
        stores = (job.train.store, job.valid.store, *(one.part.store for one in job.beside))
        states, found = self.captures.provide(wanted, stores, self.forward.passes)
        near = {key: state.near(self.forward.device) for key, state in states.items()}
        self.forward.boundary = Boundary(cut, near)
        for beside, forward in zip(job.beside, self.others, strict=True):
            theirs = forward.find_cut(own, job.anatomy, beside.part.store)
            forward.boundary = Boundary(theirs, near) if theirs else None
        self.facts.append({"phase": name, **found})

    def account(self) -> None:
        """Note, at the end of a phase, what computing the rows it used in every step would have cost."""
        if self.forward.boundary:
            fact = self.facts[-1]
            uncut = self.forward.boundary.served * fact["below_seconds"] / fact["rows"]
            fact["saved_seconds"] = round(uncut - fact["seconds"], 2)

    def forget(self) -> None:
        """Let go of all states: where a run is taken up, they were made with other weights than now stand below."""
        self.captures.release(())

    def clear(self) -> None:
        """Remove what was written into the run folder."""
        shutil.rmtree(self.captures.spill, ignore_errors=True)
