"""What is written down of a run before it begins: all that a resume needs, and all that a reader asks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

from whet.config import Resolved, Settings
from whet.data.split import Dataset
from whet.engine.precision import choose_precision, processes
from whet.models.given import GivenModule
from whet.runs.assemble import Assembled
from whet.runs.finish import kept_task, row_counts
from whet.runs.folder import FORMAT, Folder


def record_start(folder: Folder, resolved: Resolved, source: str, dataset: Dataset, parts: Assembled) -> None:
    """Write plan.yaml and run.json: all that a resume needs, and all that a reader asks. The second is written last:
    where it is, a run can be resumed."""
    settings = resolved.settings
    taken = {name: value for name, value in dataset.columns.given().items() if getattr(settings, name) is None}
    # A run may be taken up from another folder than it was started in.
    named = {name: getattr(settings, name) for name in ("model", "valid", "test", "remember")}
    paths = {name: str(Path(value).resolve()) for name, value in named.items() if Path(str(value)).exists()}
    origin = parts.built.origin
    folder.write_plan(parts.plan)
    folder.write_json(
        "run.json",
        {
            "format": FORMAT,
            "whet": importlib.metadata.version("whet"),
            "verb": resolved.verb,
            "settings": settings.model_copy(update={**taken, **paths}).model_dump(mode="json"),
            "sources": {**resolved.sources, **dict.fromkeys(taken, "data")},
            "data": {
                "source": source,
                "fingerprints": dataset.fingerprints,
                "rows": row_counts(dataset),
                "labels": list(dataset.labels),
                "notes": dataset.findings.notes,
                "dropped": dict(dataset.findings.dropped),
                "replay": [pool.facts(parts.others) for pool in parts.pools],
            },
            "model": {
                "reference": parts.source.reference,
                "handed_over": isinstance(parts.source, GivenModule),
                "sha256": parts.source.sha256,
                "licence": parts.source.licence,
                "head": parts.built.head.model_dump(mode="json"),
                "max_length": parts.max_length,
                "weights_loaded": origin.loaded,
                "weights_new": list(origin.new),
                "weights_left_over": list(origin.left_over),
            },
            "task": kept_task(parts.task),
            "anatomy": groups_and_moves(parts),
            "machine": here(settings),
        },
    )
    folder.event("started", process=os.getpid())


def groups_and_moves(parts: Assembled) -> list[dict[str, Any]]:
    """The groups from the input to the output: parameters, and how many of them move in each phase."""
    moving = [phase.train.on(parts.anatomy) for phase in parts.plan.phases]
    return [
        {
            "group": group.name,
            "kind": group.kind,
            "parameters": group.size,
            "moves": [sum(p.size for p in group.parameters if p.name in names) for names in moving],
        }
        for group in parts.anatomy.groups
    ]


def here(settings: Settings) -> dict[str, Any]:
    """What the bits of a run depend on beside its inputs."""
    place = processes()
    names = ("torch", "transformers", "numpy")
    return {
        "processor": platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": str(place.device.type),
        "precision": choose_precision(settings.precision, place.device),
        "threads": torch.get_num_threads(),
        "processes": place.num_processes,
        **{name: importlib.metadata.version(name) for name in names},
    }
