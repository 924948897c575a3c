"""What a person sees in the terminal: a progress bar while it runs, a table when it is done."""

from __future__ import annotations

import io
import os
import sys
import textwrap
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from whet.plan.explain import Explained, PhaseFacts
from whet.report import forgetting

PLAIN_SECONDS = 10.0
"""Between two lines of progress where there is no terminal to draw a bar on."""


class Screen:
    """Shows a run's progress on standard error: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet or os.environ.get("RANK", "0") != "0"
        self.console = Console(stderr=True, highlight=False)
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.phase = ""
        self.scores: list[str] = []
        self.shown = time.monotonic()

    def __call__(self, line: dict[str, Any]) -> None:
        if "note" in line:
            self.say(f"note: {line['note']}")
        elif "begins" in line:
            self.say(line["begins"])
        elif self.quiet:
            return
        elif "tokenised" in line:
            self.tokenised(line["tokenised"], line["of"])
        elif "baselines" in line:
            self.before(line["baselines"])
        elif "ready" in line:
            self.scores = line["scores"]
            self.ready(line["ready"], line["truncated"])
        elif line["split"] == "train":
            self.step(line)
        elif not self.console.is_terminal:
            self.validated(line)

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(text, soft_wrap=True, markup=False)

    def tokenised(self, done: int, of: int) -> None:
        """Where tokenising takes long enough for a person to wonder."""
        if time.monotonic() - self.shown > PLAIN_SECONDS:
            self.shown = time.monotonic()
            self.say(f"tokens   {done:,} of {of:,} rows")

    def ready(self, phases: tuple[PhaseFacts, ...], truncated: dict[str, int]) -> None:
        cut = f"{truncated['rows']} rows cut" if truncated["rows"] else "no row cut"
        self.say(f"tokens   {cut} at {truncated['max_length']} tokens")
        for number, phase in enumerate(phases, start=1):
            self.say(f"phase {number}  {describe(phase)}")

    def before(self, scores: dict[str, float | str]) -> None:
        """What simple methods reach on the validation rows. Training begins now, and its first line can wait."""
        self.shown = time.monotonic()
        shown = [f"{name} {score if isinstance(score, str) else f'{score:.4f}'}" for name, score in scores.items()]
        self.say(f"before   on validation: {', '.join(shown)}")

    def step(self, line: dict[str, Any]) -> None:
        left = (line["of"] - line["in_phase"]) * line["seconds"] / max(line["step"], 1)
        best = f"best {line['best'].score:.4f}" if line["best"] else "best -"
        loss = "-" if line["loss"] is None else f"{line['loss']:.4f}"
        facts = f"loss {loss}  {line['rows_per_second']:.0f} rows/s  {left:.0f} s left  {best}"
        if self.console.is_terminal:
            self.draw(line, facts)
        elif time.monotonic() - self.shown > PLAIN_SECONDS:
            self.shown = time.monotonic()
            self.say(f"{line['phase']}  step {line['in_phase']} of {line['of']}  {facts}")

    def draw(self, line: dict[str, Any], facts: str) -> None:
        if self.bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[facts]}"))
            self.bar = Progress(*columns, console=self.console, refresh_per_second=4)
            self.bar.start()
        if self.task is None or self.phase != line["phase"]:
            self.phase = line["phase"]
            self.task = self.bar.add_task(self.phase, total=line["of"], facts=facts)
        self.bar.update(self.task, completed=line["in_phase"], facts=facts)

    def validated(self, line: dict[str, Any]) -> None:
        scores = "  ".join(f"{name} {line[name]:.4f}" for name in self.scores)
        training = f"  (training loss {line['train_loss']:.4f})" if "train_loss" in line else ""
        self.say(f"validation after step {line['step']}: {scores}{training}")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def describe(phase: PhaseFacts) -> str:
    """One line on what a phase does."""
    rates = sorted(set(phase.rates.values()))
    rate = f"{rates[0]:g}" if len(rates) == 1 else f"{rates[0]:g} to {rates[-1]:g}"
    steps = "" if phase.steps is None else f" = {phase.steps} steps"
    below = f", all below {phase.frozen_below} computed once" if phase.frozen_below else ""
    more = "".join(f", {one}" for one in phase.beside)
    return f"{phase.name}: moves {count(phase.moves)} parameters, rate {rate}, {phase.length}{steps}{below}{more}"


def count(number: int) -> str:
    """12.3 M, 4.5 k or 678."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


MOST_LINES = 25


def summary(metrics: dict[str, Any], asked: dict[str, Any]) -> str:
    """The result of a run as text: the verdict, scores with intervals, what they are held against, what was kept and
    where. At most 25 lines, at most 80 columns wide but for paths and reasons; the report has the rest."""
    verdict, kept, seconds, out = metrics["verdict"], metrics["kept"], metrics["seconds"], metrics["out"]
    held = [*baselines_table(metrics["baselines"], metrics["task"]).splitlines(), ""] if metrics["baselines"] else []
    top = [*wrapped(verdict["headline"]), "", *scores_with_intervals(metrics).splitlines(), "", *held]
    end = [
        f"kept     step {kept['step']} of {kept['of']} ({kept['phase']}): {kept['reason']}",
        *left_out(metrics["dropped"]),
        f"time     {seconds['train']:.1f} s training, {seconds['total']:.1f} s in all, "
        f"{metrics['peak_memory_mb']:.0f} MB",
        f"report   {out}/report.html",
        f"use it   whet predict {out} FILE",
    ]
    more: list[str] = []
    findings = [wrapped(finding["text"], "note     ") for finding in verdict["findings"]]
    forgot = labelled("forgot", forgetting.lines(metrics.get("forgetting")))
    for piece in (forgot, *findings[:3], weak_labels(metrics), captured(asked["captures"])):
        if len(top) + len(end) + len(more) + len(piece) <= MOST_LINES:
            more += piece
    return "\n".join([*top, *more, *end])


def left_out(dropped: dict[str, int]) -> list[str]:
    """Rows left out by reason; many reasons share a line."""
    lines = [f"left out {count} {'row' if count == 1 else 'rows'}: {reason}" for reason, count in dropped.items()]
    if len(lines) <= 3:
        return lines
    return [*lines[:2], f"left out {sum(list(dropped.values())[2:])} rows more for {len(lines) - 2} other reasons"]


def labelled(label: str, lines: list[str]) -> list[str]:
    """Each at most 80 columns wide, the label before the first."""
    return [part for n, line in enumerate(lines) for part in wrapped(line, f"{'' if n else label:9}")]


def wrapped(text: str, label: str = "") -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=label, subsequent_indent=" " * len(label))


def scores_with_intervals(metrics: dict[str, Any]) -> str:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column(f"validation ({metrics['rows']['valid']} rows)", justify="right")
    table.add_column(f"test ({metrics['rows']['test']} rows)", justify="right")
    table.add_column("95 % interval", justify="right")
    seeds = metrics["seeds"]
    if seeds:
        table.add_column(f"{len(seeds['runs'])} seeds", justify="right")
    for name, shown in names_of(metrics["task"]).items():
        cells = [f"{metrics[part][name]:.4f}" if metrics[part] else "-" for part in ("valid", "test")]
        found = metrics["intervals"]["test"].get(name)
        cells.append(f"{found['low']:.3f} to {found['high']:.3f}{'*' if found['warning'] else ' '}" if found else "-")
        if seeds and seeds["spread"]:
            own = seeds["spread"][name]
            cells.append(f"{own['mean']:.4f} ± {own['deviation']:.4f}")
        table.add_row(shown, *cells)
    star = any(one["warning"] for one in metrics["intervals"]["test"].values())
    return render(table) + ("\n* may be too narrow: see the report" if star else "")


def names_of(task: dict[str, Any]) -> dict[str, str]:
    """The scores of a run's task in their order, as people read them."""
    return {name: one["name"] for name, one in task["metrics"].items()}


def baselines_table(baselines: list[dict[str, Any]], task: dict[str, Any]) -> str:
    """What the run is held against: scores in its metric, and by how much the run is better."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    metric = task["metric"]
    table.add_column("held against")
    for name in (names_of(task)[metric], "difference", "95 % interval", "p"):
        table.add_column(name, justify="right")
    for one in baselines:
        short = one["title"].partition(" + ")[0]
        if "absent" in one:
            table.add_row(short, "none", "", "", "")
            continue
        own = one["comparison"]
        interval = f"{own['low']:+.3f} to {own['high']:+.3f}"
        p = f"{own['p_value']:.3f}" if own["p_value"] >= 0.001 else "< 0.001"
        table.add_row(
            short + ("*" if one["cuts"] else ""), f"{one['test'][metric]:.4f}", f"{own['difference']:+.4f}", interval, p
        )
    cuts = [f"{one['title'].partition(' + ')[0]}: {', '.join(one['cuts'])}" for one in baselines if one.get("cuts")]
    return "\n".join([render(table), *(wrapped(f"* {'; '.join(cuts)}") if cuts else ())])


def captured(facts: list[dict[str, Any]]) -> list[str]:
    """What computing frozen layers once was worth."""
    cut = [fact for fact in facts if "saved_seconds" in fact]
    if not cut:
        return []
    size, saved = max(fact["megabytes"] for fact in cut), sum(fact["saved_seconds"] for fact in cut)
    cached = " from an earlier run" if all(fact["from"] == "the cache" for fact in cut) else ""
    gain = f"about {saved:.1f} s saved" if saved > 0 else "no time saved"
    return [f"frozen   computed once{cached}, up to {size:.1f} MB kept, {gain}"]


def weak_labels(metrics: dict[str, Any]) -> list[str]:
    """The three labels with the lowest F1 on the test rows."""
    known = [row for row in metrics.get("per_label", []) if row["support"]]
    weakest = sorted(known, key=lambda row: row["f1"])[:3]
    return wrapped(", ".join(f"{row['label']} (F1 {row['f1']:.2f})" for row in weakest), "weakest  ")


def scores_table(found: dict[str, Any], task: dict[str, Any]) -> str:
    """Scores on some rows, then one line per label where there are any."""
    scores = "  ".join(f"{shown} {found['scores'][name]:.4f}" for name, shown in names_of(task).items())
    left_out = "".join(f"; {count} left out: {reason}" for reason, count in found["dropped"].items())
    cut = f"; {found['truncated']} cut" if found["truncated"] else ""
    lines = [f"{found['rows']} rows{left_out}{cut}", scores]
    return "\n".join([*lines, *([labels_table(found["per_label"])] if "per_label" in found else [])])


def labels_table(per_label: list[dict[str, Any]]) -> str:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("label", "precision", "recall", "F1", "rows"):
        table.add_column(name, justify="left" if name == "label" else "right")
    for row in per_label:
        figures = [f"{row[name]:.3f}" for name in ("precision", "recall", "f1")]
        table.add_row(row["label"], *figures, str(row["support"]))
    return render(table)


def explanation(found: Explained) -> str:
    """What `whet explain` prints: data, model, phases, settings."""
    lines = [f"note: {note}" for note in found.notes]
    if found.rows:
        lines.insert(0, "rows: " + ", ".join(f"{size} {part}" for part, size in found.rows.items()))
    lines += ["", f"hidden size {found.hidden_size or 'unknown'}", groups_table(found)]
    for number, phase in enumerate(found.phases, start=1):
        kept = f", keeps {phase.captured_mb:.1f} MB" if phase.captured_mb else ""
        lines += ["", f"phase {number}  {describe(phase)}{kept}"]
        if len(set(phase.rates.values())) > 1:
            lines.append("  rates  " + ", ".join(f"{names} {rate:.3g}" for names, rate in folded(phase.rates)))
        lines.append("  moves  " + ", ".join(f"{name} {count(size)}" for name, size in phase.groups.items()))
    if not found.rows:
        return "\n".join(lines).strip()
    lines += ["", *found.picture, "           dark moves, light stands still, empty is computed once"]
    options = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("option", "value", "from"):
        options.add_column(name, overflow="fold")
    for name, value in found.settings.items():
        options.add_row(name, "-" if value is None else str(value), found.sources[name])
    return "\n".join([*lines, "", render(options)]).strip()


def folded(rates: dict[str, float]) -> list[tuple[str, float]]:
    """Neighbouring groups of one rate as one entry: `embeddings to block 5`."""
    runs: list[tuple[list[str], float]] = []
    for name, rate in rates.items():
        if runs and runs[-1][1] == rate:
            runs[-1][0].append(name)
        else:
            runs.append(([name], rate))
    return [(names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}", rate) for names, rate in runs]


def groups_table(found: Explained) -> str:
    """The groups from the input to the output, with parameters, share, and whether the model can be cut there."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("group", "parameters", "share", "can be cut before it"):
        table.add_column(name, justify="left" if name == "group" else "right")
    whole = sum(group.parameters for group in found.groups)
    for group in found.groups:
        cut = "yes" if group.cut else "no"
        table.add_row(group.name, count(group.parameters), f"{100 * group.parameters / whole:.1f} %", cut)
    return render(table)


def render(table: Table) -> str:
    """A table as plain text; colour only where standard output is a terminal."""
    console = Console(file=io.StringIO(), width=80, force_terminal=sys.stdout.isatty(), highlight=False)
    console.print(table)
    made = console.file
    assert isinstance(made, io.StringIO)
    return "\n".join(line.rstrip() for line in made.getvalue().rstrip().splitlines())
