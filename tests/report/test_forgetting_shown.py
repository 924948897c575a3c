"""What the body forgot is on the page, in the terminal and beside other runs, as far as it was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from report.pages import Page, read_page
from report.run_folders import FORGOTTEN, change, make_run, read
from whet.report.html import write_report
from whet.report.side_by_side import write_comparison
from whet.report.terminal import summary

UNMOVED = {
    "moved": False,
    "absent": "the body did not move: nothing was forgotten",
    **dict.fromkeys(("pooling", "sentences", "language", "remembered")),
}
TITLE = "What the body forgot"


def page(folder: Path) -> Page:
    return read_page(write_report(folder))


def printed(folder: Path) -> list[str]:
    return summary(read(folder, "metrics.json"), read(folder, "run.json")).splitlines()


def with_forgetting(folder: Path, **keys: Any) -> Path:
    return change(make_run(folder), "metrics.json", forgetting=FORGOTTEN | keys)


def cells(found: Page) -> list[list[str]]:
    """The rows of the tables of a page, cell by cell."""
    rows: list[list[str]] = []
    for one in found.all("tr", "th", "td"):
        if one.tag == "tr":
            rows.append([])
        else:
            rows[-1].append(" ".join(one.text.split()))
    return rows


def test_every_figure_stands_with_what_it_was_before_and_its_interval(tmp_path: Path) -> None:
    found = page(make_run(tmp_path / "run"))
    rows = cells(found)
    assert TITLE in [one.text for one in found.all("h2")]
    less = "\u2212"
    for row in (
        ["Sentence pairsSpearman", "0.820", "0.744", f"{less}0.077{less}0.112 to {less}0.041"],
        ["General textnext-token loss", "3.412", "3.518", "+0.106+0.080 to +0.132"],
        ["Earlier taskaccuracy", "0.900", "0.850", f"{less}0.050{less}0.098 to {less}0.002"],
        ["Earlier taskby its own head", "0.925", "0.600", f"{less}0.325{less}0.410 to {less}0.240"],
        ["Mean cosine between before and after", "0.7710.762 to 0.781"],
        ["Alignment, whatever their rotation and scale (CKA)", "0.8120.790 to 0.833"],
    ):
        assert row in rows
    assert "fitted on 280 rows and scored on 120 others, 4 labels; p = 0.031" in found.text
    assert "earlier.csv" in found.text
    assert "their-place" not in found.source


def test_the_terminal_has_one_line_for_each_figure(tmp_path: Path) -> None:
    lines = printed(make_run(tmp_path / "run", baselines=False))
    place = lines.index("forgot   sentence pairs: Spearman 0.820 -> 0.744 (-0.077, -0.112 to -0.041)")
    assert lines[place + 1 : place + 4] == [
        "         general text: next-token loss 3.412 -> 3.518 (+0.106, +0.080 to +0.132)",
        "         earlier task: accuracy 0.900 -> 0.850 (-0.050, -0.098 to -0.002)",
        "         earlier task: by its own head 0.925 -> 0.600 (-0.325, -0.410 to -0.240)",
    ]


@pytest.mark.parametrize("kind", [{}, {"rows": 0}, {"phases": 3, "seeds": 3}])
def test_the_terminal_always_has_room_for_what_was_forgotten(kind: dict[str, Any], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", **kind)
    change(folder, "metrics.json", forgetting=FORGOTTEN | {"language": {"absent": "why"}, "remembered": None})
    assert [line[:9] for line in printed(folder)].count("forgot   ") == 1


def test_where_the_body_did_not_move_that_is_all_that_is_said(tmp_path: Path) -> None:
    folder = with_forgetting(tmp_path / "run", **UNMOVED)
    assert "The body did not move: nothing was forgotten." in page(folder).text
    assert "forgot   the body did not move: nothing was forgotten" in printed(folder)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"language": {"absent": "no head"}, "remembered": None}, "Not measured on general text: no head."),
        ({"remembered": {"absent": "one label"}}, "Not measured on the earlier task: one label."),
        ({**UNMOVED, "moved": True, "absent": "it was handed over"}, "Not measured: it was handed over."),
    ],
)
def test_what_was_not_measured_is_said_with_the_reason(keys: dict[str, Any], says: str, tmp_path: Path) -> None:
    assert says in page(with_forgetting(tmp_path / "run", **keys)).text


@pytest.mark.parametrize("given", ["null", "absent"])
def test_a_run_without_it_says_nothing_of_it(given: str, tmp_path: Path) -> None:
    """Left out with an option, or made before it was measured."""
    folder = make_run(tmp_path / "run")
    metrics = read(folder, "metrics.json")
    metrics["forgetting"] = None
    if given == "absent":
        del metrics["forgetting"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert TITLE not in page(folder).text
    assert not [line for line in printed(folder) if line.startswith("forgot")]


def test_runs_side_by_side_show_what_each_forgot(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "one"), with_forgetting(tmp_path / "other", **UNMOVED)]
    rows = cells(read_page(write_comparison(folders, tmp_path / "both.html")))
    assert rows[0][-1] == "General sentences"
    assert [row[-1] for row in rows[1:3]] == ["0.744before 0.820", "\u2013"]
    change(folders[0], "metrics.json", forgetting=FORGOTTEN | UNMOVED)
    assert "Spearman" not in read_page(write_comparison(folders, tmp_path / "neither.html")).text
