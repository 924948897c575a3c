"""`report.html`: one file without scripts that says whether tuning helped and shows why, from the run folder alone."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from whet.errors import PathError
from whet.report import cases, facts, forgetting, panels, scores, training
from whet.report.run_files import RunFiles, read_run
from whet.report.terminal import count

NAME = "report.html"


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of the finished run in `folder` to `out` (by default `report.html` in that folder), and return
    its path.

    Raises `PathError` where there is no run, `RunError` where it is not finished or a file of it cannot be read.
    """
    path = out or folder / NAME
    save(path, page("report.html", report_values(read_run(folder))))
    return path


def save(path: Path, text: str) -> None:
    """Write a page whole, or not at all. Raises `PathError` where its folder is not there."""
    if not path.parent.is_dir():
        raise PathError(f"cannot write {path}: there is no folder {path.parent}; make it, or choose another --out")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    temporary.replace(path)


def report_values(run: RunFiles) -> dict[str, Any]:
    """Everything that the template shows, by the names it uses."""
    part, table = run.part, scores.table(run, run.part)
    return {
        "run": run,
        "verdict": run.metrics["verdict"],
        "finished": facts.finished(run),
        "part": part,
        "metric": run.metric,
        "titles": run.titles,
        "lower": run.lower_is_better(run.metric),
        "loss": run.task["loss"],
        "best_at": scores.best_at(run),
        "table": table,
        "score_picture": scores.drawing(table, run),
        "paired": scores.paired(run),
        "warnings": scores.warnings(run),
        "methods": scores.methods(run),
        "seeds": scores.seeds(run),
        "curves": training.curves(run),
        "validations": training.validations(run),
        "phases": training.phases(run),
        "plan_picture": training.plan_picture(run),
        "plan_edits": training.before_and_after(run),
        "valid_table": scores.table(run, "valid"),
        "panels": panels.of(run),
        **panels.values(run),
        **forgetting.values(run),
        "data": facts.data(run),
        "settings": facts.settings(run),
        "machine": facts.machine(run),
        "model": facts.model(run),
        "seconds": facts.seconds(run),
        "captured": facts.captured(run),
        "handed_over": facts.handed_over(run),
        "command": facts.command(run),
        "with_whet": facts.with_whet(run),
        "without_whet": facts.without_whet(run),
        "libraries": facts.libraries(run),
        "use": run.task["use"],
    }


def page(template: str, values: dict[str, Any]) -> str:
    """A page from its template. Every value is escaped but the pictures, which are made here."""
    return templates().get_template(template).render(values)


@cache
def templates() -> Environment:
    loader = PackageLoader("whet.report", "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    words = (figure, short, signed, count, grouped, percent, p_value, chance, label, cases.readable)
    made.filters |= {word.__name__: word for word in words}
    return made


def figure(value: float | None, digits: int = 3) -> str:
    return "\u2013" if value is None else f"{value:.{digits}f}".replace("-", "\u2212")


def short(value: float) -> str:
    """A number of any size, to four digits that matter."""
    return f"{value:.4g}".replace("-", "\u2212")


def signed(value: float, digits: int = 3) -> str:
    """With its sign, and a minus as long as a plus."""
    return f"{value:+.{digits}f}".replace("-", "\u2212")


def grouped(value: int) -> str:
    """12,345."""
    return f"{value:,}"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def label(name: str) -> Markup:
    """A label that may be broken after an underscore and the like, where it is too long for its column."""
    return Markup(re.sub(r"([_/.:-])", r"\1<wbr>", str(escape(cases.readable(name)))))


def chance(value: float) -> str:
    """A probability: what is not quite certain is not written as if it were."""
    if 0.995 <= value < 1:
        return "> 0.99"
    return "< 0.01" if 0 < value < 0.005 else f"{value:.2f}"


def p_value(value: float) -> str:
    """Two digits that matter; nothing smaller than 0.0001 is told apart."""
    if value < 0.0001:
        return "< 0.0001"
    return f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"
