"""What tuning made the body forget: what it knew before the run held against what it knows after, measured alike.

What was known before is kept in the run folder while it trains, so that a resumed run is held against the same.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel

from whet.config import Settings
from whet.data.earlier import Earlier
from whet.data.split import Dataset
from whet.engine.job import Job
from whet.engine.precision import processes
from whet.evaluate.facts import Lost
from whet.evaluate.forgetting import accuracy_change, agreement, alignment, loss_change, spearman_change
from whet.evaluate.general_text import pairs
from whet.models.given import GivenModule
from whet.models.heads import Pooled
from whet.models.load import length_limit
from whet.plan.strategy import STRATEGIES
from whet.runs.assemble import Assembled
from whet.runs.known import Body, Known, Language, Task, divided, numbered

FILE = "forgetting.safetensors"
KEEPING_MORE = ("lp_ft", "interpolate", "with_replay", "pull_to_base", "lora", "lift", "top")
"""Strategies named against forgetting, where they are registered. The first was measured to keep much at no clear loss
of score (docs/guide/strategies.md); of the others it is what they are made for."""
MOST_NAMED = 3


def known_before(job: Job, parts: Assembled, dataset: Dataset) -> Known | None:
    """What the run folder holds of the pretrained body, else the cache of all runs, else what is measured now; kept in
    both. None where nothing is to be measured, and in all processes but the main one."""
    settings = job.settings
    if not settings.forgetting or unmeasured(parts) or not processes().is_main_process:
        return None
    found = Known.kept(job.folder / FILE)
    if found is not None:
        return found
    body, seed = body_of(parts, settings), split_seed(settings)
    # Where states are kept, so that what was used longest ago goes with the oldest of them.
    cached = job.cache / f"{body.asked(job.identity, dataset.earlier, seed)}.states" if job.cache else None
    found = Known.kept(cached)
    if found is None:
        found = body.knows(dataset.earlier, seed)
        if cached is not None:
            with suppress(OSError, SafetensorError):  # a cache that cannot be written changes no result
                found.keep(cached)
    found.keep(job.folder / FILE)
    return found


def discard(folder: Path) -> None:
    """Remove what was kept in a run folder, and what a kill may have left half-written."""
    for path in folder.glob(f"{Path(FILE).stem}.*"):
        path.unlink()


def forgotten(before: Known | None, parts: Assembled, dataset: Dataset, settings: Settings) -> dict[str, Any] | None:
    """The part of metrics.json on forgetting: `before` held against the body as it is now. None with
    `--no-forgetting`."""
    if not settings.forgetting:
        return None
    if before is None:
        return {**unmeasured(parts), **dict.fromkeys(("pooling", "sentences", "language", "remembered"))}
    body, seed, general = body_of(parts, settings), split_seed(settings), pairs()
    after = body.knows(dataset.earlier, seed)
    return {
        "moved": True,
        "absent": None,
        "pooling": body.pooling,
        "sentences": {
            "pairs": len(general.scores),
            "spearman": asdict(spearman_change(before.sentences, after.sentences, general.scores)),
            "agreement": asdict(agreement(before.sentences, after.sentences)),
            "alignment": asdict(alignment(before.sentences, after.sentences)),
        },
        "language": of_language(before.language, after.language),
        "remembered": of_earlier(before.earlier, after.earlier, dataset.earlier, body, seed),
    }


def of_language(before: Language | str, after: Language | str) -> dict[str, Any]:
    """The loss of the next token or of masked ones, or why there is none."""
    if isinstance(before, str) or isinstance(after, str):
        return {"absent": before if isinstance(before, str) else after}
    tokens = before.losses.tokens
    change = loss_change(before.losses.sums, after.losses.sums, tokens)
    return {"kind": before.kind, "texts": len(tokens), "tokens": int(tokens.sum()), "loss": asdict(change)}


def of_earlier(
    before: Task | None, after: Task | None, earlier: Earlier | None, body: Body, seed: int
) -> dict[str, Any] | None:
    """The held-out accuracy on the rows to remember, if there are any: of a probe, or why there is none; and of the
    head that came with the model, if one did."""
    if earlier is None or before is None or after is None:
        return None
    had, has = before.probe, after.probe
    if isinstance(had, str) or isinstance(has, str):
        return {"absent": had if isinstance(had, str) else has}
    rows = divided(earlier, seed)
    truth = numbered(rows, body.labels(earlier)).test
    own = None
    if before.own is not None and after.own is not None:
        own = asdict(accuracy_change(before.own, after.own, truth, seed))
    change = accuracy_change(had.probabilities, has.probabilities, truth, seed)
    return {
        "name": earlier.rows.name,
        "labels": len(earlier.labels),
        "rows": {"found": earlier.found, "train": len(rows.train), "valid": len(rows.valid), "test": len(rows.test)},
        "penalties": {"before": had.penalty, "after": has.penalty},
        "accuracy": asdict(change),
        "own_head": own,
    }


def unmeasured(parts: Assembled) -> dict[str, Any]:
    """What there is to say where nothing is measured; empty where something is."""
    body = {parameter.name for group in parts.anatomy.body for parameter in group.parameters}
    if not any(phase.train.on(parts.anatomy) & body for phase in parts.plan.phases):
        return {"moved": False, "absent": "the body did not move: nothing was forgotten"}
    if isinstance(parts.source, GivenModule):
        return {"moved": True, "absent": "of a module that was handed over it is not known where its vectors come from"}
    return {}


def body_of(parts: Assembled, settings: Settings) -> Body:
    """The body as it is now, with the pooling of its head; with a native head, which has none, the mean."""
    model, source = parts.built.model, parts.source
    assert not isinstance(source, GivenModule)  # left out before
    assert isinstance(model, Pooled | PreTrainedModel)
    pooled = isinstance(model, Pooled)
    return Body(
        source=source,
        module=model.body if pooled else model.base_model,
        pooling=model.pooling if pooled else "mean",
        tokenizer=parts.tokenizer,
        left_over=parts.built.origin.left_over,
        depth=parts.built.head.depth,
        limit=length_limit(source, parts.tokenizer),
        max_length=parts.max_length,
        token_budget=settings.tokens_at_once,
    )


def split_seed(settings: Settings) -> int:
    return settings.seed if settings.split_seed is None else settings.split_seed


def lost(found: dict[str, Any] | None) -> tuple[Lost, ...]:
    """What was measured, as the verdict reads it: losses above 0, gains below."""
    if found is None or found["sentences"] is None:
        return ()
    own, language, remembered = found["sentences"], found["language"], found["remembered"] or {}
    tokens = {"next token": "the next token", "masked": "masked tokens"}.get(language.get("kind"))
    said = [
        (f"Spearman on {own['pairs']} general sentence pairs", own["spearman"], -1, 0.02),
        (f"the loss of {tokens} on general text", language.get("loss"), 1, 0.05),
        ("accuracy on the task to remember", remembered.get("accuracy"), -1, 0.02),
        ("accuracy on it by the head that came with the model", remembered.get("own_head"), -1, 0.02),
    ]
    made = []
    for what, change, sign, least in said:
        if change:
            low, high = sorted((sign * change["low"], sign * change["high"]))
            made.append(Lost(what, change["before"], change["after"], low, high, least))
    return tuple(made)


def keeping_more(strategy: str | None) -> tuple[str, ...]:
    """Registered strategies that forget less, those that the run has used left out."""
    used = strategy or ""
    return tuple(name for name in KEEPING_MORE if name in STRATEGIES and name not in used)[:MOST_NAMED]
