"""A page as its reader gets it: parsed by the standard library, with the checks that hold for every page."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

VOID = {"meta", "link", "br", "hr", "img", "input", "col", "wbr"}
FETCHES = {"src", "srcset", "data", "action", "poster", "background", "formaction", "ping", "cite", "manifest"}


@dataclass
class Element:
    """A tag with its attributes, what it stands in, and the text inside it."""

    tag: str
    attributes: dict[str, str]
    above: list[str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Every element of a page, in order. Parsing fails where an element is not closed in its place."""

    source: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[Element] = []
        self.feed(self.source)
        self.close()
        assert not self.open, f"not closed: {[one.tag for one in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (
            f"an attribute stands twice in {self.get_starttag_text()}"
        )
        made = Element(tag, {name: value or "" for name, value in attrs}, [one.tag for one in self.open])
        self.elements.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop().tag == tag, f"</{tag}> closes something else, line {self.getpos()[0]}"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        return [one for one in self.elements if one.tag in tags]

    def one(self, tag: str) -> Element:
        found = self.all(tag)
        assert len(found) == 1, f"{len(found)} elements {tag}"
        return found[0]

    def with_class(self, name: str) -> list[Element]:
        return [one for one in self.elements if name in one.attributes.get("class", "").split()]

    @property
    def text(self) -> str:
        """What a person reads, with white space as one space."""
        return " ".join(self.one("body").text.split())


def read_page(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    check(page)
    return page


def check(page: Page) -> None:
    """All that holds for every page: it loads nothing, every link leads somewhere, a screen reader finds its way."""
    loads_nothing(page)
    links_lead_somewhere(page)
    headings_are_in_order(page)
    tables_are_described(page)
    pictures_have_a_text(page)
    assert page.one("html").attributes["lang"] == "en"
    assert page.one("title").text.strip()
    assert page.all("meta")[0].attributes == {"charset": "utf-8"}
    skip = page.all("a")[0]
    assert skip.attributes["href"].startswith("#")
    assert "Skip" in skip.text


def loads_nothing(page: Page) -> None:
    assert not page.all("script", "iframe", "object", "embed", "base", "img", "image", "video", "audio", "form")
    policy = [one.attributes for one in page.all("meta") if one.attributes.get("http-equiv")]
    assert policy[0]["http-equiv"] == "Content-Security-Policy"
    assert policy[0]["content"].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    for one in page.elements:
        assert not FETCHES & set(one.attributes), f"{one.tag} {one.attributes}"
        assert not [name for name in one.attributes if name.startswith("on")], f"{one.tag} {one.attributes}"
        target = one.attributes.get("href", "#")
        assert target.startswith("#") or (one.tag == "link" and target == "data:,"), target
        assert not re.search(r"url\((?!#)", one.attributes.get("style", ""))
    style = page.one("style").text
    assert "@import" not in style
    assert "url(" not in style


def links_lead_somewhere(page: Page) -> None:
    ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(ids) == len(set(ids)), "an id stands twice"
    for one in page.elements:
        named = [one.attributes["href"][1:]] if one.attributes.get("href", "").startswith("#") else []
        named += one.attributes.get("aria-labelledby", "").split()
        for value in (one.attributes.get("style", ""), one.attributes.get("clip-path", "")):
            named += re.findall(r"url\(#([^)]+)\)", value)
        assert set(named) <= set(ids), f"{one.tag} {one.attributes}"


def headings_are_in_order(page: Page) -> None:
    levels = [int(one.tag[1]) for one in page.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert all(one.text.strip() for one in page.all("h1", "h2", "h3"))


def tables_are_described(page: Page) -> None:
    tables, captions = page.all("table"), page.all("caption")
    assert len(tables) == len(captions)
    assert all(one.text.strip() for one in captions)
    for one in page.all("th"):
        assert one.attributes.get("scope") in ("col", "row"), one.text
        assert one.text.strip(), "a heading of a table says nothing"


def pictures_have_a_text(page: Page) -> None:
    for one in page.all("svg"):
        assert one.attributes["role"] == "img"
        assert re.search(r"\d", one.attributes["aria-label"]), "a text alternative without a figure"
