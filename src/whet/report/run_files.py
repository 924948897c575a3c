"""A finished run as a reader finds it: the files of its folder, read and nothing else."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.errors import PathError, RunError


@dataclass(frozen=True)
class RunFiles:
    """The content of a run folder.

    `name` is the folder's own name, `asked` is run.json, `metrics` is metrics.json, `progress` and `events` are the
    lines of their files, `predictions` the rows of predictions.csv by column name (empty where there are no test
    rows), `plan` is the text of plan.yaml and `note` that of model/README.md ("" where a file is absent).
    """

    name: str
    asked: dict[str, Any]
    metrics: dict[str, Any]
    progress: list[dict[str, Any]]
    events: list[dict[str, Any]]
    predictions: list[dict[str, str]]
    plan: str
    note: str

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.asked["data"]["labels"])

    @property
    def task(self) -> dict[str, Any]:
        """What the run says of its task: `metrics` by name, the `metric` that chose, the one that is the `loss`."""
        found: dict[str, Any] = self.metrics["task"]
        return found

    @property
    def metric(self) -> str:
        """The score that chose the weights kept."""
        return str(self.task["metric"])

    @property
    def titles(self) -> dict[str, str]:
        """The scores in the order of the columns, as they stand above them."""
        return {name: one["title"] for name, one in self.task["metrics"].items()}

    def lower_is_better(self, metric: str) -> bool:
        return bool(self.task["metrics"][metric]["lower_is_better"])

    @property
    def part(self) -> str:
        """The part whose scores count: the test rows, or the validation rows where there are none."""
        return "test" if self.metrics["test"] else "valid"


def read_run(folder: Path) -> RunFiles:
    """The files of a finished run.

    Raises `PathError` where there is no run, and `RunError` where it is not finished or a file cannot be read.
    """
    if not (folder / "run.json").exists():
        what = "there is no run (no run.json) in" if folder.exists() else "there is no folder"
        raise PathError(f"{what} {folder}; give the folder that whet printed, for example runs/messages")
    if not (folder / "metrics.json").exists():
        raise RunError(f"the run in {folder} is not finished; go on with it: whet resume {folder}")
    try:
        return RunFiles(
            name=folder.resolve().name,
            asked=json.loads(_text(folder / "run.json")),
            metrics=json.loads(_text(folder / "metrics.json")),
            progress=_lines(folder / "progress.jsonl"),
            events=_lines(folder / "events.jsonl"),
            predictions=_table(folder / "predictions.csv"),
            plan=_text(folder / "plan.yaml"),
            note=_text(folder / "model" / "README.md"),
        )
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"cannot read the run in {folder}: {error}; is it whole, and as whet wrote it?") from error


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _text(path).split("\n") if line.strip()]


def _table(path: Path) -> list[dict[str, str]]:
    """The rows of predictions.csv. A text may be longer than the csv module's first limit of 128 KiB for a field."""
    if not path.exists():
        return []
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))
