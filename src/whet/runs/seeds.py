"""A run repeated with other seeds on the same split, to show what chance in training does to the scores."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from whet.config import Resolved, Settings
from whet.engine.precision import processes
from whet.models.given import GivenModule
from whet.plan.strategy import Strategy
from whet.runs.assemble import Watch
from whet.runs.execute import begin, go_on, report
from whet.runs.folder import Folder


def begin_all(resolved: Resolved, data: Any, watch: Watch, given: GivenModule | None = None) -> Folder:
    """A new run, and its repetitions where `seeds` asks for some."""
    return repeat(begin(resolved, data, watch, given), watch, given)


def go_on_all(path: str | Path, watch: Watch, given: GivenModule | None = None) -> Folder:
    """Finish what was interrupted: the run itself, or its repetitions."""
    folder = Folder.open(path)
    if not (folder.finished and awaits_repetitions(folder)):
        folder = go_on(path, watch, given)
    return repeat(folder, watch, given)


def awaits_repetitions(folder: Folder) -> bool:
    return folder.read_json("run.json")["settings"]["seeds"] > 1 and folder.metrics()["seeds"] is None


def repeat(folder: Folder, watch: Watch, given: GivenModule | None) -> Folder:
    """Run the same plan with the next seeds, each in `seeds/<seed>` of the run folder; metrics.json gets the spread.

    The split stays that of the first seed, so that the spread is of training alone.
    """
    if not awaits_repetitions(folder):
        return folder
    asked, metrics = folder.read_json("run.json"), folder.metrics()
    first = int(asked["settings"]["seed"])
    runs = [{"seed": first, "out": metrics["out"], "test": metrics["test"], "valid": metrics["valid"]}]
    for seed in range(first + 1, first + asked["settings"]["seeds"]):
        watch({"note": f"again with seed {seed} ({seed - first + 1} of {asked['settings']['seeds']})"})
        own = one_more(folder, asked, seed, watch, given).metrics()
        runs.append({"seed": seed, "out": own["out"], "test": own["test"], "valid": own["valid"]})
    if processes().is_main_process:
        folder.write_json("metrics.json", {**metrics, "seeds": {"runs": runs, "spread": spread(runs)}})
        report(folder)
    processes().wait_for_everyone()
    return folder


def one_more(folder: Folder, asked: dict[str, Any], seed: int, watch: Watch, given: GivenModule | None) -> Folder:
    """The repetition with one seed: begun, gone on with, or found finished."""
    path, settings = folder.path / "seeds" / str(seed), Settings.model_validate(asked["settings"])
    begun = (path / "run.json").exists()
    processes().wait_for_everyone()  # so that all have seen the same before the main process changes anything
    if begun:
        own = Folder.open(path)
        return own if own.finished else go_on(path, watch, given)
    if processes().is_main_process:
        shutil.rmtree(path, ignore_errors=True)
    split_seed = settings.seed if settings.split_seed is None else settings.split_seed
    changes = {"seed": seed, "seeds": 1, "split_seed": split_seed, "baselines": False, "out": str(path)}
    plan = folder.read_plan()
    resolved = Resolved(
        verb=asked["verb"],
        settings=settings.model_copy(update=changes),
        sources={**asked["sources"], **dict.fromkeys(changes, "seeds")},
        strategy=Strategy(str(settings.strategy), lambda *_: plan),
    )
    return begin(resolved, asked["data"]["source"], watch, given)


def spread(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Over the seeds, for each test score: mean, standard deviation, lowest and highest."""
    found = {}
    for name in runs[0]["test"]:
        values = [run["test"][name] for run in runs]
        found[name] = {"mean": fmean(values), "deviation": stdev(values), "low": min(values), "high": max(values)}
    return found
