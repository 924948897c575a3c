"""How the figures, titles and labels of a verdict are written."""

from __future__ import annotations

from collections.abc import Sequence

from whet.evaluate.facts import Metric, Paired


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def figure(metric: Metric, value: float) -> str:
    return percent(value) if metric.percent else f"{value:.4g}"


def bare(metric: Metric, value: float) -> str:
    """A difference or limit without its unit. One decimal of a point, or the first digit of one that is less, so that
    an interval that excludes zero is not printed as if it did not."""
    if not metric.percent:
        return f"{value + 0.0:.3g}"  # -0.0 becomes 0
    if abs(value) < 1e-6:
        return "0.0"
    return f"{100 * value:.1f}" if abs(value) >= 0.0005 else f"{100 * value:.1g}"


def points(metric: Metric, value: float) -> str:
    return f"{bare(metric, value)} points" if metric.percent else bare(metric, value)


def spread(metric: Metric, low: float, high: float) -> str:
    return f"95 %: {bare(metric, low)} to {bare(metric, high)}"


def gap_of(metric: Metric, paired: Paired, flipped: bool = False) -> tuple[str, str]:
    """The difference and its interval as text; flipped, of theirs minus ours."""
    if flipped:
        return points(metric, -paired.difference), spread(metric, -paired.high, -paired.low)
    return points(metric, paired.difference), spread(metric, paired.low, paired.high)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def short(text: str, most: int = 40) -> str:
    """A title or label on one line, cut where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def quoted(label: str) -> str:
    return f"'{short(label)}'"


def listed(names: Sequence[str], of: int, most: int = 3) -> str:
    """The first names, and how many more of how many classes."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more} (of {of:,} classes)"
