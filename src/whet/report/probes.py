"""What a person sees of a search among probes."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from whet.report.terminal import MOST_LINES, left_out, render, wrapped

NAMES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "mcc": "MCC", "log_loss": "log-loss"}
"""Probes have one label per row."""


def probes_summary(found: dict[str, Any]) -> str:
    """The best probe with its scores, one line for each depth and pooling (the best of them where they are many), and
    the command that trains it. At most 25 lines, at most 80 columns wide but for the command."""
    best, seconds, metric = found["best"], found["seconds"], found["metric"]
    count = len(found["probes"]) * len(found["penalties"])
    top = [
        f"best     after {best['depth']} of {found['blocks']} blocks, pooling {best['pooling']}, C {best['penalty']:g}",
        "",
        *scores_lines(found),
        "",
    ]
    many = f"{count:,} {'probe' if count == 1 else 'probes'}"
    said = [f"The best of {count:,} on validation was chosen for its luck there as well: expect less of it."] * (
        count > 1
    )
    said += ["The test rows were scored once, by it alone."] if found["test"] else []
    cut = found["truncated"]
    end = [
        *wrapped(" ".join(said), "note     "),
        *([f"tokens   {cut['rows']} rows cut at {cut['max_length']} tokens"] if cut["rows"] else []),
        *unsettled(found),
        *at_the_end(found),
        *left_out(found["dropped"]),
        f"time     {seconds['capture']:.1f} s for the vectors, {seconds['fit']:.1f} s for {many}, "
        f"{seconds['total']:.1f} s in all",
        f"train it {found['command']}",
    ]
    room = MOST_LINES - len(top) - len(end)
    return "\n".join([*top, *places_lines(found["probes"], metric, room), *end])


def scores_lines(found: dict[str, Any]) -> list[str]:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    rows = found["rows"]
    for name in ("", f"validation ({rows['valid']} rows)", f"test ({rows['test']} rows)", "95 % interval"):
        table.add_column(name, justify="right" if name else "left")
    for name, shown in NAMES.items():
        test = f"{found['test'][name]:.4f}" if found["test"] else "-"
        limits = found["intervals"].get(name)
        interval = f"{limits['low']:.3f} to {limits['high']:.3f}{'*' if limits['warning'] else ' '}" if limits else "-"
        table.add_row(shown, f"{found['best']['valid'][name]:.4f}", test, interval)
    star = any(limits["warning"] for limits in found["intervals"].values())
    return [*render(table).splitlines(), *(["* may be too narrow for so few rows"] if star else [])]


def places_lines(probes: list[dict[str, Any]], metric: str, room: int) -> list[str]:
    """A table of depths and poolings in their order; where there is no room for all, those that scored best."""
    sign = 1 if metric == "log_loss" else -1
    shown = probes
    if len(probes) > room - 1:
        least = sorted(sign * probe["valid"][metric] for probe in probes)[room - 3]
        shown = [probe for probe in probes if sign * probe["valid"][metric] <= least][: room - 2]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shows = dict.fromkeys((metric, "log_loss"))
    for name in ("depth", "pooling", "best C", *(NAMES[one] for one in shows)):
        table.add_column(name, justify="left" if name == "pooling" else "right")
    for probe in shown:
        figures = (f"{probe['valid'][one]:.4f}" for one in shows)
        table.add_row(str(probe["depth"]), probe["pooling"], f"{probe['penalty']:g}", *figures)
    hidden = len(probes) - len(shown)
    return [*render(table).splitlines(), *([f"and {hidden} more that scored less"] if hidden else [])]


def unsettled(found: dict[str, Any]) -> list[str]:
    count = sum(probe["unsettled"] for probe in found["probes"])
    return [f"note     {count} fits were given up before they had settled"] if count else []


def at_the_end(found: dict[str, Any]) -> list[str]:
    """Where the best penalty is the first or the last of several, the best may lie beyond."""
    tried, own = found["penalties"], found["best"]["penalty"]
    if len(tried) < 2 or own not in (tried[0], tried[-1]):
        return []
    way = "stronger" if own == tried[0] else "weaker"
    return wrapped(
        f"No {way} penalty was tried than the best: give --penalties values of C around {own:g}.", "note     "
    )
