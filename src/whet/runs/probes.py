"""A search among probes: the best depth, pooling and penalty for a linear head on a frozen model.

One pass over the training and validation rows gives the vectors of every depth and pooling; all penalties are fitted
on each; validation chooses. Only then are the test rows run, to the depth chosen, and scored once. Nothing is kept.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whet.config import Resolved, Settings
from whet.data.read import read
from whet.data.store import Part, TokenStore
from whet.engine.many_heads import ManyHeads, fit_heads
from whet.engine.precision import choose_precision, processes
from whet.engine.vectors import Place, pooled_vectors
from whet.errors import SettingsError
from whet.evaluate.metrics import classification
from whet.models.depths import Depths, find_depths
from whet.models.heads import Pooled
from whet.plan.strategies import probe
from whet.report.probes import probes_summary
from whet.runs.assemble import Assembled, assemble, use_attention_for
from whet.runs.execute import Stopwatch
from whet.runs.finish import row_counts, truncated
from whet.runs.probes_asked import ProbesAsked
from whet.runs.rows import read_rows
from whet.tasks.task import Task

TRIAL_ROWS = 4


@dataclass(frozen=True)
class Probe:
    """The best head on the vectors of one depth and pooling. `penalty` is its C, `valid` its scores on the validation
    rows, `scores` those of all penalties in the metric, and `unsettled` how many of these fits were given up."""

    depth: int
    pooling: str
    penalty: float
    valid: dict[str, float]
    scores: tuple[float, ...]
    unsettled: int


@dataclass(frozen=True)
class Probes:
    """What was found; print it for a table.

    `probes` holds one for each depth and pooling, the shallowest first; `best` is the one that scored best on the
    validation rows, `test` its scores on the test rows and `intervals` theirs, both empty without test rows. `command`
    trains a head on the same vectors. `metrics` is all of it as one mapping, as `--json` prints it.
    """

    probes: tuple[Probe, ...]
    penalties: tuple[float, ...]
    metric: str
    best: Probe
    blocks: int
    test: dict[str, float]
    intervals: dict[str, Any]
    command: str
    model: str
    precision: str
    rows: dict[str, int]
    dropped: dict[str, int]
    truncated: dict[str, int]
    notes: tuple[str, ...]
    seconds: dict[str, float]

    @property
    def metrics(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return probes_summary(self.metrics)


def search(asked: ProbesAsked, data: Any, say: Callable[[str], None]) -> Probes:
    """From the rows to the best probe. `say` is told in words what goes on."""
    clock, settings = Stopwatch(), asked.resolved.settings
    with clock.stage("read"):
        dataset = read_rows(settings, read(data))
    for note in dataset.findings.notes:
        say(f"note: {note}")
    with clock.stage("model"):
        parts = assemble(asked.resolved, dataset)
    weights = weights_of(parts.task)
    with clock.stage("tokenise"):
        rows = {name: parts.part(getattr(dataset, name)) for name in ("train", "valid", "test")}
    stores = {name: part.store for name, part in rows.items()}
    use_attention_for(parts.built.model, max(int(store.lengths.max(initial=0)) for store in stores.values()))
    view = View(parts, settings, asked.poolings or (str(parts.built.head.pooling),))
    with clock.stage("capture"):
        depths = view.depths(asked.depths, stores["train"])
        count = len(stores["train"]) + len(stores["valid"])
        say(f"vectors  of {count:,} rows after {', '.join(map(str, depths.depths))} blocks, {', '.join(view.poolings)}")
        train, valid = view.vectors(depths, stores["train"]), view.vectors(depths, stores["valid"])
    say(f"probes   {len(train)} kinds of vectors x {len(asked.penalties)} penalties")
    with clock.stage("fit"):
        found = [
            fitted(place, train[place], valid[place], rows, weights, parts.task.metric, asked)
            for place in sorted(train)
        ]
    best, heads = min(found, key=lambda one: rank(one[0].valid, parts.task.metric))
    with clock.stage("capture"):  # not before: what is not there cannot choose
        only = replace(view, poolings=(best.pooling,))
        last = only.vectors(only.depths((best.depth,), stores["train"]), stores["test"])
    with clock.stage("test"):
        head = asked.penalties.index(best.penalty)
        test, intervals = proved(
            heads, head, last[best.depth, best.pooling], class_numbers(rows["test"]), settings.seed
        )
    return Probes(
        probes=tuple(one for one, _ in found),
        penalties=asked.penalties,
        metric=parts.task.metric,
        best=best,
        blocks=len(parts.anatomy.blocks),
        test=test,
        intervals=intervals,
        command=command(asked.resolved, data, best),
        model=parts.source.reference,
        precision=view.precision,
        rows=row_counts(dataset),
        dropped=dict(dataset.findings.dropped),
        truncated=truncated(stores),
        notes=tuple(dataset.findings.notes),
        seconds={**clock.seconds, "total": round(time.monotonic() - clock.begun, 3)},
    )


def weights_of(task: Task) -> tuple[float, ...]:
    """Those of the labels in the loss. Raises `SettingsError` for a task that probes cannot be made of."""
    weights = task.class_weights()
    if weights is None:
        raise SettingsError(
            f"probes are logistic regressions of one label per text; the task here is {task.name}. "
            "Train a head instead: whet train"
        )
    return weights


@dataclass(frozen=True)
class View:
    """How rows are seen through the frozen model."""

    parts: Assembled
    settings: Settings
    poolings: tuple[str, ...]

    @property
    def precision(self) -> str:
        return choose_precision(self.settings.precision, processes().device)

    def depths(self, wanted: tuple[int, ...] | None, store: TokenStore) -> Depths:
        model, device = self.parts.built.model, processes().device
        assert isinstance(model, Pooled)  # other heads are refused before
        trial = store.batch(np.arange(min(TRIAL_ROWS, len(store))))
        inputs = {name: value.to(device) for name, value in trial.items()}
        return find_depths(model.to(device), self.parts.anatomy, wanted, inputs)

    def vectors(self, depths: Depths, store: TokenStore) -> dict[Place, Tensor]:
        budget = self.settings.tokens_at_once
        return pooled_vectors(depths, self.poolings, store, budget, self.precision, processes().device)


def class_numbers(part: Part) -> np.ndarray:
    """The targets of a part, which are numbers of labels here."""
    assert isinstance(part.targets, np.ndarray)
    return part.targets


def fitted(
    place: Place,
    train: Tensor,
    valid: Tensor,
    rows: dict[str, Part],
    weights: tuple[float, ...],
    metric: str,
    asked: ProbesAsked,
) -> tuple[Probe, ManyHeads]:
    """A head for each penalty on the vectors of one place, and the one of them that scores best on validation.
    `weights` are those of the labels in the loss."""
    truth, targets = class_numbers(rows["valid"]), torch.from_numpy(class_numbers(rows["train"]))
    device = processes().device
    heads = fit_heads(train.to(device), targets, len(weights), asked.penalties, torch.tensor(weights)[targets])
    made = [
        classification(truth, heads.probabilities(valid, head).cpu().numpy()) for head in range(len(asked.penalties))
    ]
    best = min(range(len(made)), key=lambda head: rank(made[head], metric))
    chosen = Probe(
        depth=place[0],
        pooling=place[1],
        penalty=asked.penalties[best],
        valid=made[best],
        scores=tuple(one[metric] for one in made),
        unsettled=int((~heads.settled).sum()),
    )
    return chosen, heads


def rank(found: dict[str, float], metric: str) -> tuple[float, float]:
    """Lower is better: the metric, and of equal ones the log-loss."""
    return (found[metric] if metric == "log_loss" else -found[metric], found["log_loss"])


def proved(
    heads: ManyHeads, head: int, vectors: Tensor, truth: np.ndarray, seed: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """The test rows scored once, by one head: scores and their 95 % intervals; both empty without test rows."""
    if not len(truth):
        return {}, {}
    from whet.evaluate.intervals import score_intervals  # statistics are slow to import

    probabilities = heads.probabilities(vectors, head).cpu().numpy()
    known = score_intervals(probabilities, truth, seed=seed)
    return classification(truth, probabilities), {name: asdict(one) for name, one in known.scores.items()}


def command(resolved: Resolved, data: Any, best: Probe) -> str:
    """What to type to train a head on the same vectors of the same rows, with the options that were given."""
    words = ["whet", "train", str(data) if isinstance(data, str | Path) else "DATA"]
    for name, origin in resolved.sources.items():
        value = getattr(resolved.settings, name)
        if origin == "default" or value is None or value is False:
            continue
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return " ".join(map(quoted, [*words, "--strategy", str(probe(depth=best.depth, pooling=best.pooling))]))


def quoted(word: str) -> str:
    """A word for a shell; one that holds single quotes stands in double ones where that is safe, and easier to read."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)
