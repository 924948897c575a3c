"""The run folder: what was asked, the plan, how far training came, the result. Everything is read back from here."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import yaml

from whet.errors import PathError, RunError
from whet.plan.values import Plan

FORMAT = 1


class Folder:
    """A run folder on the disk. `metrics.json` is written last: a run that has it is finished."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def claim(out: str | None, name: str) -> Folder:
        """Create a new run folder: `out`, or `runs/<name>` with the first free number.

        Raises `PathError` when it exists already or cannot be written.
        """
        path = Path(out) if out else _free(Path("runs"), name)
        if path.exists():
            resumable = (path / "run.json").exists()
            cure = f"go on with it: whet resume {path}, or " if resumable else ""
            raise PathError(f"--out {path} exists already; {cure}choose another --out")
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise PathError(f"cannot create the run folder {path}: {error.strerror}; choose another --out") from error
        return Folder(path)

    @staticmethod
    def open(path: str | Path) -> Folder:
        """An existing run folder. Raises `PathError` where there is none."""
        folder = Folder(Path(path))
        if not (folder.path / "run.json").exists():
            what = "there is no folder" if not folder.path.exists() else "there is no run (no run.json) in"
            raise PathError(f"{what} {path}; give the folder that whet printed, for example runs/messages")
        return folder

    @property
    def finished(self) -> bool:
        return (self.path / "metrics.json").exists()

    def discard(self) -> None:
        """Remove a run that failed before training: nothing half-written stays that looks like a result."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.parent == Path("runs") and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()

    def write_json(self, name: str, content: Any) -> None:
        temporary = self.path / f".{name}.tmp"
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(self.path / name)

    def read_json(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {self.path / name}: {error}") from error
        return content

    def metrics(self) -> dict[str, Any]:
        """The finished run's result. Raises `RunError` when there is none yet."""
        if not self.finished:
            raise RunError(f"the run in {self.path} is not finished; go on with it: whet resume {self.path}")
        return self.read_json("metrics.json")

    def write_plan(self, plan: Plan) -> None:
        (self.path / "plan.yaml").write_text(plan_text(plan), encoding="utf-8")

    def read_plan(self) -> Plan:
        return Plan.model_validate(yaml.safe_load((self.path / "plan.yaml").read_text(encoding="utf-8")))

    def event(self, what: str, **facts: Any) -> None:
        """Add a line to events.jsonl: starts, stops, resumes, warnings."""
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": what, **facts}
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")


def plan_text(plan: Plan) -> str:
    """A plan as YAML."""
    return yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _free(parent: Path, name: str) -> Path:
    path, number = parent / name, 1
    while path.exists():
        number += 1
        path = parent / f"{name}-{number}"
    return path
