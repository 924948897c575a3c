"""The pages in a real browser: nothing is fetched, nothing is complained of, nothing is cut off."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from report.run_folders import make_run
from whet.report.html import write_report
from whet.report.side_by_side import write_comparison

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "chrome-headless-shell")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser here: none of {', '.join(BROWSERS)}")

LABELS = tuple(f"a_rather_long_label_number_{number}" for number in range(30))

MEASURE = """<script>
addEventListener("load", () => {
  const scrolls = (one) => one && (/auto|scroll/.test(getComputedStyle(one).overflowX) || scrolls(one.parentElement));
  const hidden = (one) => one.closest(".sr, .skip") || !one.getClientRects().length;
  const out = [...document.querySelectorAll("main *")].filter((one) => !hidden(one) && !scrolls(one)
    && !one.closest("svg *") && one.getBoundingClientRect().right > innerWidth + 1);
  const pictures = [...document.querySelectorAll("svg")].filter((one) => one.getClientRects().length);
  const sizes = pictures.flatMap((one) => [...one.querySelectorAll("text")].map((text) =>
    parseFloat(getComputedStyle(text).fontSize) * one.getBoundingClientRect().width / one.viewBox.baseVal.width));
  parent.postMessage(JSON.stringify({width: innerWidth, wide: document.documentElement.scrollWidth,
    out: out.map((one) => one.tagName + " " + one.textContent.slice(0, 40)), pictures: pictures.length,
    smallest: Math.min(...sizes)}), "*");
});
</script>"""

FRAME = """<!doctype html><meta charset="utf-8">
<script>addEventListener("message", (said) => document.body.dataset.found = said.data)</script>
<body><iframe src="copy.html" style="width:{width}px;height:900px;border:0"></iframe>"""
"""A browser's own window may not be as narrow as a telephone; a frame may."""


@dataclass
class Visit:
    console: list[str]
    fetched: list[str]
    content: str


def visit(page: Path, folder: Path, *flags: str) -> Visit:
    """Open a page in a browser of its own, without a network."""
    log = folder / "net.json"
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", *flags]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"]
    command += ["--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom", page.as_uri()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    found = json.loads(log.read_text(encoding="utf-8"))
    start = found["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    told = [event["params"] for event in found["events"] if event["type"] == start and "params" in event]
    # The browser asks on its own account, too; what the page asks for is kept apart by where the page came from.
    own = [one["url"] for one in told if one.get("network_isolation_key", "").startswith("file://")]
    return Visit(re.findall(r"CONSOLE.*", ended.stderr), own, ended.stdout)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    texts = ("where is my parcel", "x" * 2000, "<script>console.error('ran')</script>")
    one = make_run(folder / "one", labels=LABELS, rows=300, right=0.7, phases=3, seeds=3, texts=texts)
    other = make_run(folder / ("a-long-name-" * 8), labels=LABELS, rows=300, right=0.9, seed=1, texts=texts)
    return {"report": write_report(one), "comparison": write_comparison([one, other], folder / "comparison.html")}


def test_a_visit_sees_what_a_page_fetches_and_says(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<img src='http://nowhere.invalid/a.png'><script>console.error('said')</script>", encoding="utf-8")
    found = visit(page, tmp_path)
    assert found.fetched == ["http://nowhere.invalid/a.png"]
    assert any("said" in line for line in found.console)


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_a_page_fetches_nothing_and_says_nothing(tmp_path: Path, pages: dict[str, Path], name: str) -> None:
    found = visit(pages[name], tmp_path)
    assert "</main>" in found.content
    assert not found.fetched
    assert not found.console


@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off_and_pictures_can_be_read(
    tmp_path: Path, pages: dict[str, Path], name: str, width: int
) -> None:
    """Measured by a script that only the copy for this test has; every collapsed part is open."""
    source = pages[name].read_text(encoding="utf-8")
    source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source)
    copy = tmp_path / "copy.html"
    copy.write_text(source.replace("<details", "<details open").replace("</head>", MEASURE + "</head>"), "utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    content = visit(frame, tmp_path, "--window-size=1600,1000").content
    found = json.loads(re.findall(r'data-found="([^"]*)"', content)[0].replace("&quot;", '"'))
    assert found["width"] == width
    assert found["out"] == []
    assert found["wide"] <= width
    assert found["pictures"] == (4 if name == "report" else 1)
    assert found["smallest"] >= 11
