"""A matplotlib figure as SVG that stands inside a page: text stays text, colours follow the page's theme, ids are its
own, and nothing points outside."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

THEME = {
    "ink": "#010101",
    "muted": "#010102",
    "line": "#010103",
    "accent": "#010104",
    "second": "#010105",
    "soft": "#010106",
    "paper": "#010107",
}
"""What stands for each colour while a figure is drawn. The page's style sheet has a variable of each name, light and
dark, that takes its place."""

WIDE, NARROW = 800, 340
"""Pixels across: a picture is drawn once for a desk and once for a telephone, so that its text is legible on both."""

WRITING = 12.5
"""Size of the text of a picture, in pixels."""

Draw = Callable[[Figure, bool], None]


def picture(key: str, label: str, draw: Draw, wide: tuple[int, int], narrow: tuple[int, int]) -> Markup:
    """A picture in both sizes (width and height in pixels), of which the style sheet shows one.

    `key` is a word that no other picture of the page has; `label` is the text alternative; `draw(figure, narrow)`
    draws into an empty figure.
    """
    both = (render(key, label, draw, wide, narrow=False), render(f"{key}-narrow", label, draw, narrow, narrow=True))
    return Markup("").join(both)


def render(key: str, label: str, draw: Draw, size: tuple[int, int], *, narrow: bool) -> Markup:
    width, height = size
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    draw(figure, narrow)
    made = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The salt makes the ids of clip paths: equal for equal figures, and different in the pictures of one page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        figure.savefig(made, format="svg", metadata=nothing)
    root = ElementTree.fromstring(made.getvalue())
    clean(root, key)
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    opening = '<svg class="plot {}" width="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    return Markup(opening).format("narrow" if narrow else "wide", width, width, height, label, Markup(body))


def clean(root: ElementTree.Element, key: str) -> None:
    """Plain names instead of namespaces (HTML knows svg), no style sheet, only ids that something refers to, and the
    attributes of `tidy`."""
    used = set(re.findall(r'(?:url\(#|href="#)([\w-]+)', ElementTree.tostring(root, encoding="unicode")))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}style", "}metadata")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.split("}")[-1]
        given = {name.split("}")[-1]: value for name, value in element.attrib.items()}
        element.attrib.clear()
        if given.get("id") in used:
            element.set("id", f"{key}-{given['id']}")
        for name, value in given.items():
            if name != "id" and "rotate(-0 " not in value:
                element.set(name, tidy(value, key))
        element.text = element.text if element.text and element.text.strip() else None
        element.tail = None


def tidy(value: str, key: str) -> str:
    """An attribute with colours as the page's variables, fonts left to the page, references to the ids of this
    picture, and coordinates without digits that no eye sees."""
    for name, colour in THEME.items():
        value = value.replace(colour, f"var(--{name})")
    value = re.sub(r"font-family: [^;]+(; )?", "", value)
    value = re.sub(r"(url\(#|^#)", rf"\g<1>{key}-", value)
    value = re.sub(r"-?\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value)
    return " ".join(value.split())


def area(figure: Figure, left: float, right: float, top: float, bottom: float) -> Axes:
    """Empty axes with these margins in pixels, without a frame."""
    width, height = figure.get_size_inches() * 72
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=12, labelcolor=THEME["muted"], pad=6)
    return axes
