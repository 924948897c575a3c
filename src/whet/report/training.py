"""How training went: the curves, the phases and the picture of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from markupsafe import Markup

from whet.plan.edits import (
    Average,
    Edit,
    Finish,
    Interpolate,
    LowRank,
    NewHead,
    Prefix,
    Prompt,
    QuantizeBody,
    SetDropout,
)
from whet.plan.values import Plan
from whet.report import training_plots as plots
from whet.report.facts import captured
from whet.report.run_files import RunFiles

POINTS = 150
"""Of a line in the picture: more would lie closer than an eye can tell."""


def validations(run: RunFiles) -> list[dict[str, Any]]:
    return [line for line in run.progress if line["split"] == "valid"]


def curves(run: RunFiles) -> Markup:
    """The picture of the learning curves."""
    steps = [
        (line["step"], line["loss"]) for line in run.progress if line["split"] == "train" and line["loss"] is not None
    ]
    # The mean of weights that ends some runs is no point of the course: its line has no training loss.
    course = [line for line in validations(run) if "train_loss" in line]
    found = plots.Curves(
        training=binned(steps),
        losses=binned([(line["step"], line[run.task["loss"]]) for line in course]),
        scores=binned([(line["step"], line[run.metric]) for line in course]),
        score=run.task["metrics"][run.metric]["name"],
        borders=list(accumulate(phase["steps"] for phase in run.metrics["phases"])),
        kept=run.metrics["kept"]["step"],
        overfitting=run.metrics["overfitting_since"],
    )
    return plots.curves(found)


def binned(points: list[tuple[int, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """Neighbouring points as their mean, so that at most `most` remain; a few points stay as they are."""
    size = -(-len(points) // most) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(step for step, _ in group) / len(group), sum(loss for _, loss in group) / len(group)) for group in groups
    ]


@dataclass(frozen=True)
class PhaseFacts:
    """A phase as planned and as it went. `moves` counts parameters."""

    name: str
    trains: str
    moves: int
    rate: str
    schedule: str
    optimizer: str
    length: str
    steps: int
    seconds: float
    why: str


def phases(run: RunFiles) -> list[PhaseFacts]:
    plan = Plan.model_validate(run.metrics["plan"])
    facts = []
    for number, (phase, went) in enumerate(zip(plan.phases, run.metrics["phases"], strict=True)):
        rates = sorted({phase.rate.base, *(phase.rate.base * factor for factor in phase.rate.factors.values())})
        facts.append(
            PhaseFacts(
                name=phase.name,
                trains=str(phase.train),
                moves=sum(group["moves"][number] for group in run.asked["anatomy"]),
                rate=f"{rates[0]:.3g}" if len(rates) == 1 else f"{rates[0]:.3g} to {rates[-1]:.3g}",
                schedule=phase.rate.schedule.kind,
                optimizer=phase.optimizer.kind,
                length=str(phase.length),
                steps=went["steps"],
                seconds=went["seconds"],
                why=went["why"],
            )
        )
    return facts


def plan_picture(run: RunFiles) -> Markup:
    """Groups against time."""
    ended, groups = run.metrics["phases"], run.asked["anatomy"]
    cut = {fact["phase"] for fact in captured(run)}
    lowest = [
        next((place for place, group in enumerate(groups) if group["moves"][number]), 0) for number in range(len(ended))
    ]
    bands = [
        plots.Band(
            str(group["group"]),
            tuple(
                "moves"
                if group["moves"][number]
                else "once"
                if place < lowest[number] and phase["phase"] in cut
                else "passed"
                for number, phase in enumerate(ended)
            ),
        )
        for place, group in enumerate(groups)
    ]
    return plots.plan(bands, [phase["steps"] for phase in ended], [phase["phase"] for phase in ended])


def before_and_after(run: RunFiles) -> list[str]:
    """What the plan changes in the model before training, what stands beside the task's own rows and loss, and what is
    done with the result, in words."""
    plan = Plan.model_validate(run.metrics["plan"])
    said = [f"{changed(edit)}." for edit in plan.edits]
    beside: dict[str, list[str]] = {}
    for phase in plan.phases:
        for one in (*phase.pulls, *phase.replay):
            beside.setdefault(str(one), []).append(phase.name)
    for text, names in beside.items():
        where = "every phase" if len(names) == len(plan.phases) else ", ".join(names)
        said.append(f"In {where}: {text}.")
    return [*said, *(f"After: {done(one, run.metrics.get('merge'))}." for one in plan.finish)]


def changed(edit: Edit) -> str:
    """What an edit changes before training."""
    match edit:
        case NewHead():
            layers = f"hidden layers {', '.join(map(str, edit.hidden))}" if edit.hidden else "one linear layer"
            own = "the model's own class brings it" if edit.kind == "native" else layers
            new = f"Before: a new head ({own}, dropout {edit.dropout:g})"
            return "The head that came with the model is kept" if edit.kind == "kept" else new
        case SetDropout():
            return f"Before: dropout of the body set to {edit.share:g}"
        case QuantizeBody():
            return f"Before: the frozen weights of the body's linear layers rounded to {edit.to}"
        case LowRank():
            kind = "DoRA adapters" if edit.dora else "low-rank adapters"
            where = f"the layers {', '.join(edit.targets)}" if edit.targets else "linear layers"
            return f"Before: {kind} of rank {edit.rank} (alpha {edit.alpha:g}, dropout {edit.dropout:g}) beside {where}"
        case Prefix():
            return f"Before: {edit.tokens} virtual tokens put before every text, as keys and values in each block"
        case Prompt():
            return f"Before: {edit.tokens} virtual tokens put before every text, as embeddings"


def done(edit: Finish, merged: dict[str, Any] | None) -> str:
    """What is done with the weights after training; `merged` is what merging adapters changed."""
    if isinstance(edit, Average):
        return f"the mean of the weights of the {edit.best} best validations"
    if isinstance(edit, Interpolate):
        share = "the share that was best on validation" if edit.share is None else f"{edit.share:g}"
        return f"weights between the pretrained ones and the tuned ones, {share} of the way"
    if merged is None:
        return "the adapters merged into the weights"
    share = f"{100 * merged['largest_difference'] / merged['largest_output']:.2g} %"
    return (
        f"the adapters merged into the weights: the outputs for {merged['rows']} validation rows changed by at most "
        f"{merged['largest_difference']:.2g} in fp32, {share} of the largest"
    )
