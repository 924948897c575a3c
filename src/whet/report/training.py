"""How training went: the curves, the phases and the picture of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from markupsafe import Markup

from whet.plan.values import Plan
from whet.report import training_plots as plots
from whet.report.run_files import RunFiles
from whet.report.terminal import NAMES

POINTS = 150
"""Of a line in the picture: more would lie closer than an eye can tell."""


def validations(run: RunFiles) -> list[dict[str, Any]]:
    return [line for line in run.progress if line.get("split") == "valid"]


def curves(run: RunFiles) -> Markup:
    """The picture of the learning curves; nothing where progress.jsonl is absent."""
    steps = [(line["step"], line["loss"]) for line in run.progress if line.get("split") == "train"]
    # The mean of weights that ends some runs is no point of the course: its line has no training loss.
    course = [line for line in validations(run) if "train_loss" in line]
    if not steps and not course:
        return Markup("")
    found = plots.Curves(
        training=binned(steps),
        losses=binned([(line["step"], line["log_loss"]) for line in course]),
        scores=binned([(line["step"], line[run.metric]) for line in course]),
        score=NAMES[run.metric],
        borders=list(accumulate(phase["steps"] for phase in run.metrics.get("phases") or [])),
        kept=run.metrics["kept"]["step"],
        overfitting=run.metrics.get("overfitting_since"),
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
    """A phase as planned and as it went. `moves` counts parameters; None where run.json does not tell."""

    name: str
    trains: str
    moves: int | None
    rate: str
    schedule: str
    optimizer: str
    length: str
    steps: int | None
    seconds: float | None
    why: str


def phases(run: RunFiles) -> list[PhaseFacts]:
    plan, ended = Plan.model_validate(run.metrics["plan"]), run.metrics.get("phases") or []
    facts = []
    for number, phase in enumerate(plan.phases):
        went = ended[number] if number < len(ended) else {}
        rates = sorted({phase.rate.base, *(phase.rate.base * factor for factor in phase.rate.factors.values())})
        facts.append(
            PhaseFacts(
                name=phase.name,
                trains=str(phase.train),
                moves=sum(group["moves"][number] for group in groups(run)) if groups(run) else None,
                rate=f"{rates[0]:.3g}" if len(rates) == 1 else f"{rates[0]:.3g} to {rates[-1]:.3g}",
                schedule=phase.rate.schedule.kind,
                optimizer=phase.optimizer.kind,
                length=str(phase.length),
                steps=went.get("steps"),
                seconds=went.get("seconds"),
                why=str(went.get("why") or ""),
            )
        )
    return facts


def groups(run: RunFiles) -> list[dict[str, Any]]:
    """The groups of the model from the input to the output, with how many of their parameters move in each phase."""
    found = run.asked.get("anatomy") or []
    return found if all("moves" in group for group in found) else []


def plan_picture(run: RunFiles) -> Markup:
    """Groups against time; nothing where run.json has no anatomy."""
    ended = run.metrics.get("phases") or []
    if not groups(run) or not ended:
        return Markup("")
    cut = {fact["phase"] for fact in run.asked.get("captures") or [] if "saved_seconds" in fact}
    lowest = [_lowest(run, number) for number in range(len(ended))]
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
        for place, group in enumerate(groups(run))
    ]
    return plots.plan(bands, [phase["steps"] for phase in ended], [phase["phase"] for phase in ended])


def _lowest(run: RunFiles, number: int) -> int:
    """The place of the lowest group that moves in a phase."""
    return next((place for place, group in enumerate(groups(run)) if group["moves"][number]), 0)


def before_and_after(run: RunFiles) -> list[str]:
    """What the plan changes in the model before training, and what it does with the result, in words."""
    plan = Plan.model_validate(run.metrics["plan"])
    said = []
    for edit in plan.edits:
        if edit.edit == "new head":
            layers = f"hidden layers {', '.join(map(str, edit.hidden))}" if edit.hidden else "one linear layer"
            own = "the model's own class brings it" if edit.kind == "native" else layers
            said.append(f"Before: a new head ({own}, dropout {edit.dropout:g}).")
        else:
            said.append(f"Before: dropout of the body set to {edit.share:g}.")
    said += [f"After: the mean of the weights of the {one.best} best validations." for one in plan.finish]
    return said
