"""The sections of a report where rows may have any number of labels."""

from __future__ import annotations

from pathlib import Path

import pytest

import whet
from report.pages import check, read_page
from whet.evaluate.thresholds import curve
from whet.report.threshold_plots import threshold_curve

TICKETS = Path(__file__).parent.parent.parent / "examples" / "tickets.csv"


@pytest.fixture(scope="module")
def run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> whet.Run:
    options = {"steps": 20, "learning_rate": 0.01, "threads": 1, "quiet": True, "forgetting": False}
    return whet.fine_tune(TICKETS, model=tiny_bert, out=tmp_path_factory.mktemp("shown") / "run", **options)


def test_the_page_is_sound_and_has_the_sections_of_label_sets_alone(run: whet.Run) -> None:
    page = read_page(run.report)
    check(page)
    headings = [one.text.strip() for one in page.elements if one.tag == "h2"]
    assert [one for one in headings if one in ("Labels", "Thresholds", "Mistakes")] == [
        "Labels",
        "Thresholds",
        "Mistakes",
    ]
    assert not {"Confusions", "Classes", "Confidence"} & set(headings)


def test_every_label_has_its_figures_and_its_curve(run: whet.Run) -> None:
    page = read_page(run.report)
    captions = [one.text for one in page.elements if one.tag == "figcaption"]
    for row in run.metrics["per_label"]:
        assert any(caption.strip().startswith(f"{row['label']}: given from") for caption in captions)
    tables = [one.text for one in page.elements if one.tag == "table" and "Labels by their mistakes" in one.text]
    assert len(tables) == 1
    assert all(label in tables[0] for label in run.labels)


def test_mistakes_are_shown_with_their_texts(run: whet.Run) -> None:
    page = run.report.read_text(encoding="utf-8")
    kinds = {one["missed"] for one in run.metrics["slips"]}
    assert ("Surest missed labels" in page) == (True in kinds)
    assert ("Surest spurious labels" in page) == (False in kinds)
    assert "The text of this row is not in the run folder" not in page


def test_the_picture_says_what_it_shows_and_marks_what_was_chosen() -> None:
    import numpy as np

    truth, probabilities = np.array([1, 1, 0, 0, 1]), np.array([0.9, 0.35, 0.6, 0.1, 0.2])
    drawn = threshold_curve("one", curve(truth, probabilities), 0.15)
    assert "Chosen: 0.15, with F1 0.86, precision 0.75, recall 1.00." in drawn
    assert drawn.count("chosen: 0.15") == 2, "once for a desk and once for a telephone"
