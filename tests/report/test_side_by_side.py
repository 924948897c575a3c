"""`comparison.html`: runs are only held against one another where their rows allow it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.pages import read_page
from report.run_folders import LABELS, change, make_run
from whet.errors import PathError, RunError, UsageError
from whet.report.run_files import read_run
from whet.report.side_by_side import Shared, accuracies, differences, holm, shared_rows, write_comparison


def rewrite(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    """Give a run folder these test rows: truth, prediction, text."""
    with (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["row", "truth", "prediction", "probability", "text"])
        writer.writerows([number + 2, truth, said, "0.5", text] for number, (truth, said, text) in enumerate(rows))
    return folder


def of_outcomes(first: str, other: str) -> Shared:
    """Rows of which each run predicts those marked 1 rightly."""
    said = [["card" if mark == "1" else "loan" for mark in marks] for marks in (first, other)]
    return Shared(["card"] * len(first), said)


def test_the_difference_is_tested_by_mcnemar() -> None:
    """Of 30 rows the other run alone is right on 10, the first alone on 2. By hand, p is twice the chance of at most 2
    of 12: 2 (1 + 12 + 66) / 2^12."""
    (found,) = differences(of_outcomes("1" * 18 + "0" * 10 + "1" * 2, "1" * 18 + "1" * 10 + "0" * 2))
    assert (found.found.only_ours_right, found.found.only_theirs_right) == (10, 2)
    assert found.found.difference == pytest.approx(8 / 30)
    assert found.found.p_value == pytest.approx(2 * (1 + 12 + 66) / 4096)
    assert found.adjusted == found.found.p_value
    assert found.found.low > 0
    assert found.outcome == "is better than"


def test_equal_runs_show_no_difference() -> None:
    (found,) = differences(of_outcomes("110", "110"))
    assert (
        found.found.difference,
        found.found.only_ours_right,
        found.found.only_theirs_right,
        found.found.p_value,
    ) == (0, 0, 0, 1)
    assert found.outcome == "shows no difference from"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_turning_the_runs_round_turns_the_sign_and_nothing_else(
    rows: list[tuple[bool, bool]],
) -> None:
    marks = ["".join("1" if pair[side] else "0" for pair in rows) for side in (0, 1)]
    (found,), (turned,) = differences(of_outcomes(*marks)), differences(of_outcomes(*reversed(marks)))
    assert found.found.p_value == found.adjusted
    assert found.found.difference == pytest.approx(-turned.found.difference)
    assert (found.found.low, found.found.high) == pytest.approx((-turned.found.high, -turned.found.low))
    assert found.found.p_value == pytest.approx(turned.found.p_value)


def test_holm_corrects_as_published() -> None:
    """Each p-value times the number of those not smaller, never below that of a smaller one."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == [0.02]


def test_accuracy_on_shared_rows_has_wilsons_interval() -> None:
    cell = accuracies(of_outcomes("1" * 8 + "00", "1" * 10))[0]
    assert cell.value == 0.8
    # (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = 0.8, n = 10, z = 1.96
    assert (cell.low, cell.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_rows_are_matched_by_text_and_truth_whatever_their_order(tmp_path: Path) -> None:
    one = rewrite(
        make_run(tmp_path / "one"),
        [("card", "card", "a"), ("card", "loan", "twice"), ("card", "card", "twice"), ("loan", "loan", "mine")],
    )
    other = rewrite(
        make_run(tmp_path / "other"), [("card", "card", "twice"), ("loan", "card", "mine, too"), ("card", "loan", "a")]
    )
    third = rewrite(make_run(tmp_path / "third"), [("loan", "card", "twice"), *[("card", "card", "a")] * 2])
    shared = shared_rows([read_run(one), read_run(other)])
    assert sorted(zip(shared.truth, *shared.predictions, strict=True)) == [
        ("card", "card", "loan"),
        ("card", "loan", "card"),
    ]
    # In the third the text "twice" has another label, so it is another row.
    assert shared_rows([read_run(one), read_run(third)]).predictions == [["card"], ["card"]]
    page = read_page(write_comparison([one, other], tmp_path / "page.html"))
    assert "The runs share 2 test rows" in page.text
    assert "They are few" in page.text
    assert "do not have the same test rows" in page.text


def test_a_page_says_which_run_is_better_and_what_differs(tmp_path: Path) -> None:
    folders = [
        make_run(tmp_path / name, rows=600, right=right, seed=seed, settings={"strategy": name, "out": name})
        for seed, (name, right) in enumerate((("probe", 0.7), ("full", 0.9), ("also", 0.71), ("bad", 0.4)))
    ]
    page = read_page(write_comparison(folders, tmp_path / "page.html"))
    assert page.one("h1").text == (
        "B (full) is better than A (probe), D (bad) is worse than A (probe) on the 600 test rows that they share"
    )
    assert "C also shows no difference from A" in page.text
    assert page.text.count("after Holm's correction") == 3
    (table,) = [one for one in page.all("table") if "not the same in all runs" in one.text]
    assert "strategyprobefullalsobad" in re.sub(r"\s", "", table.text)
    assert "batch_size" not in table.text
    assert not re.search(r"\bout\b", table.text)
    (label,) = {one.attributes["aria-label"] for one in page.all("svg")}
    assert all(f"Run {mark} 0." in label for mark in "ABCD")
    assert "22.6 M" in page.text


def test_two_runs_need_no_correction(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, rows=60) for name in ("one", "two")]
    page = read_page(write_comparison(folders, tmp_path / "page.html"))
    assert page.one("h1").text == ("B (two) shows no difference from A (one) on the 60 test rows that they share")
    assert "Holm" not in page.text
    assert "Nothing: options, rows, model and machine are the same" in page.text


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / part / "run") for part in ("monday", "tuesday")]
    page = read_page(write_comparison(folders, tmp_path / "page.html"))
    assert "monday/run" in page.one("h1").text
    assert str(tmp_path) not in page.source


def test_texts_and_names_stay_text(tmp_path: Path) -> None:
    labels = ("<script>alert(1)</script>", "b")
    folders = [make_run(tmp_path / f"<i>{part}&", labels=labels) for part in "ab"]
    page = read_page(write_comparison(folders, tmp_path / "page.html"))
    assert "<i>a&" in page.one("h1").text


def test_labels_in_another_order_are_the_same_labels(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "one"), make_run(tmp_path / "two")]
    run = read_run(folders[1])
    change(folders[1], "run.json", data=run.asked["data"] | {"labels": list(reversed(LABELS))})
    assert write_comparison(folders, tmp_path / "page.html").exists()


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one")
    out = tmp_path / "page.html"
    with pytest.raises(UsageError, match="two or more"):
        write_comparison([one], out)
    with pytest.raises(PathError, match="there is no folder"):
        write_comparison([one, tmp_path / "none"], out)
    with pytest.raises(RunError, match="one and fees do not have the same labels: only one has 'fees', 'order'"):
        write_comparison([one, make_run(tmp_path / "fees", labels=("card", "loan", "fees"))], out)
    with pytest.raises(RunError, match="the run untested has no test rows"):
        write_comparison([one, make_run(tmp_path / "untested", rows=0)], out)
    with pytest.raises(RunError, match="share no test row"):
        write_comparison([one, make_run(tmp_path / "elsewhere", texts=("another text",))], out)
    assert not out.exists()


def test_the_size_of_a_run_without_any_difference_is_not_a_matter_of_chance() -> None:
    """Where both runs guess alike at random, few comparisons say otherwise: at most 5 % of them, by the test."""
    chance = np.random.default_rng(3)
    said = [
        differences(of_outcomes(*("".join(map(str, chance.integers(0, 2, 80))) for _ in range(2))))[0].adjusted < 0.05
        for _ in range(300)
    ]
    assert np.mean(said) < 0.06
