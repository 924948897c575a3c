"""What every strategy promises, for every task and every family of models. A new strategy or task joins by being
registered.

`make test` runs a fixed cover: of classification each strategy and each family, of every other task each strategy with
one of the families; `make test-all` runs all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import whet
from contracts.families import picture_job
from contracts.tasks import ROWS, write
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.errors import StrategyError
from whet.plan.explain import explain
from whet.plan.strategy import STRATEGIES
from whet.plan.values import Plan
from whet.tasks.registry import TASKS

FAMILIES = ("bert", "gpt2", "resnet")
REFUSED = {
    ("bitfit", "resnet"): "no biases",
    ("lora", "resnet"): "no linear layers",
    # What each family can be adapted with stands in test_adapters.py.
    **{(name, family): "head of the model's own" for name in ("prefix", "prompt") for family in ("gpt2", "resnet")},
}
"""Pairs that are refused before anything runs, each with what the refusal says. One that runs fails the test."""

PAIRS = [(name, family) for name in sorted(STRATEGIES) for family in FAMILIES]
COVER = {pair for number, pair in enumerate(PAIRS) if (number // 3 + number) % 3 == 0 or pair[1] == "bert"}
MARKED = [pair if pair in COVER else pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS]
OTHERS = [task for task in TASKS if task != "classification"]
TEXT_FAMILIES = ("bert", "gpt2")
"""Pictures have one label; the other tasks are of texts."""
TRIPLES = [(name, task, family) for name in sorted(STRATEGIES) for task in OTHERS for family in TEXT_FAMILIES]


def in_cover(name: str, task: str, family: str) -> bool:
    """Each strategy with each task once, the families taking turns; a pair that one family refuses with the other."""
    turn = (sorted(STRATEGIES).index(name) + OTHERS.index(task)) % 2
    return family == ("bert" if (name, "gpt2") in REFUSED else TEXT_FAMILIES[turn])


MARKED_TRIPLES = [one if in_cover(*one) else pytest.param(*one, marks=pytest.mark.slow) for one in TRIPLES]
STEPS = 3
ROWS_OF_A_TASK = 36

JobOf = Callable[..., Job]


class Crash(Exception):
    """Stands for the end of a process in the middle of a step's record."""


@dataclass
class Ran:
    """A finished run: its job, how it went, its weights and buffers before and after, its lines of progress."""

    job: Job
    outcome: Any
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    lines: list[dict[str, Any]]


def state(job: Job) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in job.built.model.state_dict().items()}


def lines_of(folder: Path) -> list[dict[str, Any]]:
    machine = ("seconds", "rows_per_second", "memory_mb")
    every = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in machine} for line in every]


def run(job: Job) -> Ran:
    before = state(job)
    outcome = Loop(job).run()
    return Ran(job, outcome, before, state(job), lines_of(job.folder))


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def earlier_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 rows of the task's labels, of other texts, to be replayed."""
    path = tmp_path_factory.mktemp("earlier") / "earlier.csv"
    labels = ("card_problem", "loan_request", "order_status")
    rows = [(f"a text about the {label.replace('_', ' ')} number {n}", label) for n in range(10) for label in labels]
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def kept_heads(
    tiny_bert: Path, tiny_gpt2: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Results on the same rows, whose heads can be kept."""
    made = {}
    for family, model, head in (("bert", tiny_bert, "linear"), ("gpt2", tiny_gpt2, "native")):
        out = tmp_path_factory.mktemp("kept") / family
        options: dict[str, Any] = {"steps": 2, "threads": 1, "quiet": True, "baselines": False, "test": 0}
        made[family] = whet.fine_tune(rows_csv, model=str(model), head=head, out=out, **options).path / "model"
    return made


@pytest.fixture(scope="module")
def kept_of(tiny_bert: Path, tiny_gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Results on the rows of a task, whose heads can be kept; made when first asked for."""
    made: dict[tuple[str, str], Path] = {}

    def kept(task: str, family: str) -> Path:
        if (task, family) not in made:
            folder = tmp_path_factory.mktemp("kept")
            rows = write(folder / "rows.csv", ROWS[task](ROWS_OF_A_TASK, 0))
            model, head = (tiny_bert, "linear") if family == "bert" else (tiny_gpt2, "native")
            options: dict[str, Any] = {"steps": 2, "threads": 1, "quiet": True, "baselines": False, "test": 0}
            run = whet.fine_tune(rows, model=str(model), head=head, out=folder / "run", **options)
            made[task, family] = run.path / "model"
        return made[task, family]

    return kept


@pytest.fixture
def make_of(
    job_of: JobOf,
    tiny_gpt2: Path,
    kept_of: Callable[[str, str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Job]:
    """Makes a job of a strategy, a task and a family: two steps in each phase, checkpoints all the time."""
    tables = tmp_path_factory.mktemp("rows")

    def made(
        name: str, task: str, family: str, folder: Path | None = None, watch: Any = lambda line: None, **options: Any
    ) -> Job:
        folder = folder or tmp_path_factory.mktemp("contract")
        rows = write(tables / "rows.csv", ROWS[task](ROWS_OF_A_TASK, 0))
        earlier = write(tables / "earlier.csv", ROWS[task](ROWS_OF_A_TASK, 20))
        options = {"steps": 2, "batch_size": 12, "checkpoint_seconds": 0.05, **options}
        if family == "gpt2":
            options |= {"model": str(tiny_gpt2), "head": "native"}
        if name == "kl_to_base":
            options |= {"head": "kept", "model": str(kept_of(task, family))}
        return job_of(folder=folder, watch=watch, strategy=texts_of(earlier).get(name, name), data=rows, **options)

    return made


def texts_of(earlier: Path) -> dict[str, str]:
    """Strategies that need more than their name here."""
    return {
        "lp_ft": "then(probe(length='3 steps'), full)",  # its probe keeps its own 40 epochs
        "with_replay": f"with_replay(full, {str(earlier)!r})",
        "gradual_fine_tuning": f"gradual_fine_tuning(full, {str(earlier)!r})",
    }


@pytest.fixture
def make(
    job_of: JobOf,
    tiny_gpt2: Path,
    earlier_csv: Path,
    kept_heads: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Job]:
    """Makes a job of a strategy and a family: three steps in each phase, checkpoints all the time."""
    texts = texts_of(earlier_csv)

    def made(name: str, family: str, folder: Path | None = None, watch: Any = lambda line: None, **options: Any) -> Job:
        folder = folder or tmp_path_factory.mktemp("contract")
        options = {"steps": STEPS, "batch_size": 12, "checkpoint_seconds": 0.05, **options}
        if family == "gpt2":
            options |= {"model": str(tiny_gpt2), "head": "native"}
        if name == "kl_to_base":
            options |= {"head": "kept", **({"model": str(kept_heads[family])} if family in kept_heads else {})}
        text = texts.get(name, name)
        if family == "resnet":
            return picture_job(folder, watch, text, **options)
        return job_of(folder=folder, watch=watch, strategy=text, **options)

    return made


@pytest.mark.parametrize(("name", "family"), MARKED)
def test_a_strategy_keeps_its_contract(name: str, family: str, make: Callable[..., Job]) -> None:
    if (name, family) in REFUSED:
        with pytest.raises(StrategyError, match=REFUSED[name, family]):
            make(name, family)
        return
    whole = run(make(name, family))
    job, plan = whole.job, whole.job.plan
    assert Plan.model_validate(yaml.safe_load(yaml.safe_dump(plan.model_dump(mode="json")))) == plan
    what_is_said_is_what_moves(whole)
    a_killed_run_ends_with_the_same_bits(whole, name, family, make)
    every_parameter_is_in_one_group(job)


@pytest.mark.parametrize(("name", "task", "family"), MARKED_TRIPLES)
def test_a_strategy_keeps_its_contract_with_every_task(
    name: str, task: str, family: str, make_of: Callable[..., Job]
) -> None:
    if (name, family) in REFUSED:
        with pytest.raises(StrategyError, match=REFUSED[name, family]):
            make_of(name, task, family)
        return
    whole = run(make_of(name, task, family))
    what_is_said_is_what_moves(whole)
    losses = [line["loss"] for line in whole.lines if line["split"] == "train"]
    assert all(math.isfinite(loss) for loss in losses)
    total = whole.outcome.position.done

    def crash(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] > total // 2:
            raise Crash

    left = make_of(name, task, family, watch=crash)
    with pytest.raises(Crash):
        Loop(left).run()
    again = run(make_of(name, task, family, folder=left.folder))
    assert same(again.after, whole.after)
    assert again.lines == whole.lines
    every_parameter_is_in_one_group(whole.job)


def what_is_said_is_what_moves(whole: Ran) -> None:
    job = whole.job
    facts = explain(job.plan, job.anatomy, len(job.train.targets), job.settings.batch_size)
    assert [fact.steps for fact in facts] == whole.outcome.position.lengths
    may_move = frozenset().union(*(phase.train.on(job.anatomy) for phase in job.plan.phases))
    moved = {name for name, value in whole.after.items() if not torch.equal(value, whole.before[name])}
    assert moved <= may_move, "something moved that the plan does not train"
    assert moved & {p.name for p in job.anatomy.head.parameters}, "the head never moved"
    steps = [line for line in whole.lines if line["split"] == "train"]
    for phase, fact in zip(job.plan.phases, facts, strict=True):
        own = [line["rate"] for line in steps if line["phase"] == phase.name]
        assert len(own) == fact.steps or (phase.stop and len(own) < fact.steps)
        moving = phase.train.on(job.anatomy)
        shown = next(g.name for g in reversed(job.anatomy.groups) if any(p.name in moving for p in g.parameters))
        highest = phase.rate.base * phase.rate.factors.get(shown, 1.0)
        said = [highest * phase.rate.schedule.factor(step, fact.steps) for step in range(len(own))]
        assert own == pytest.approx(said)


def every_parameter_is_in_one_group(job: Job) -> None:
    names = [p.name for g in job.anatomy.groups for p in g.parameters] + [p.name for p in job.anatomy.idle]
    assert sorted(names) == sorted(name for name, _ in job.built.model.named_parameters())


def a_killed_run_ends_with_the_same_bits(whole: Ran, name: str, family: str, make: Callable[..., Job]) -> None:
    """Stopped in the first, a middle and the last phase, and taken up by a new job on the same folder."""
    total = whole.outcome.position.done
    stops = sorted({1, total // 2, total - 1})
    folder, job = None, None
    for stop in stops:

        def crash(line: dict[str, Any], stop: int = stop) -> None:
            if line.get("split") == "train" and line["step"] > stop:
                raise Crash

        job = make(name, family, folder=folder, watch=crash)
        folder = job.folder
        with pytest.raises(Crash):
            Loop(job).run()
    again = run(make(name, family, folder=folder))
    assert same(again.after, whole.after)
    assert again.lines == whole.lines
    assert again.outcome.kept == whole.outcome.kept


@pytest.mark.parametrize("name", ["probe", "top", "lift", "gradual_unfreezing"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_cache_changes_no_bit(name: str, family: str, make: Callable[..., Job], tmp_path: Path) -> None:
    off, cold, warm = (run(make(name, family, cache=where)) for where in ("off", str(tmp_path), str(tmp_path)))
    assert same(off.after, cold.after)
    assert same(off.after, warm.after)
    assert "the cache" in {fact["from"] for fact in warm.outcome.captures}
    assert "the cache" not in {fact["from"] for fact in cold.outcome.captures}


@pytest.mark.parametrize("name", ["probe", "top", "lift"])
@pytest.mark.parametrize("family", FAMILIES)
def test_cut_and_uncut_are_equal_up_to_rounding(name: str, family: str, make: Callable[..., Job]) -> None:
    cut, uncut = (run(make(name, family, cut=switch, batching="random")) for switch in (True, False))
    assert cut.outcome.captures
    assert not uncut.outcome.captures
    losses = [[line["loss"] for line in ran.lines if line["split"] == "train"] for ran in (cut, uncut)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_top_down_plan_is_fed_by_one_pass(make: Callable[..., Job]) -> None:
    ran = run(make("lift", "bert"))
    assert [fact["from"] for fact in ran.outcome.captures] == ["this pass"] + ["an earlier pass"] * 4


def test_a_bottom_up_plan_computes_again_what_has_moved(make: Callable[..., Job]) -> None:
    ran = run(make("lift(order='bottom-up')", "bert"))
    assert [fact["before"] for fact in ran.outcome.captures] == ["head", "block 0", "block 1", "block 2", "block 3"]
    assert [fact["from"] for fact in ran.outcome.captures] == ["this pass", "an earlier pass"] + ["this pass"] * 3
