"""`report.html`: whatever a run folder holds, the page can be sent, read and trusted."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import whet
from report.pages import Page, read_page
from report.run_folders import change, make_run, read, write
from whet.errors import PathError, RunError
from whet.plan.edits import Average
from whet.report.classes import matrix
from whet.report.html import write_report

MANY = tuple(f"a_label_of_banking_number_{number}" for number in range(77))
NASTY = (
    "<script>alert(1)</script>",
    "</p></main><img src=x onerror=alert(2)>",
    "\"double\" and 'single' & &amp; {{ 7 * 7 }} {% raw %}",
    "\U0001f642 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u0645\u0631\u062d\u0628\u0627\u060c \u0623\u064a\u0646 \u0637\u0644\u0628\u064a\u061f",
    "\u202eright to left from here",
    "x" * 3000,
    "two\nlines\tand a tab",
    "$\\frac{1}{2}$ and $",
    "a bell \x07 and an escape \x1b[31m",
)
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "two classes": {"labels": ("one", "other")},
    "one test row": {"rows": 1},
    "77 classes": {"labels": MANY, "rows": 770},
    "no test rows": {"rows": 0},
    "many classes without test rows": {"labels": tuple(f"label {number}" for number in range(101)), "rows": 0},
    "no baselines": {"baselines": False},
    "nothing wrong": {"right": 1.0},
    "three phases, seeds, a mean of weights": {"phases": 3, "seeds": 4, "finish": (Average(best=2),)},
    "seeds without test rows": {"rows": 0, "seeds": 3},
    "nasty texts and labels": {"labels": NASTY, "rows": 100, "texts": NASTY, "right": 0.3},
}


def report(folder: Path) -> Page:
    return read_page(write_report(folder))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_run_makes_a_page_that_loads_nothing_and_is_in_order(tmp_path: Path, shape: str) -> None:
    page = report(make_run(tmp_path / "run", **SHAPES[shape]))
    assert page.one("h1").text == "Helped: accuracy 85.0 %, 15.0 points better than TF-IDF"


def test_a_run_folder_without_its_model_and_texts_makes_a_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", right=0.5)
    (folder / "model" / "README.md").unlink()
    (folder / "predictions.csv").unlink()
    page = report(folder)
    assert "The text of this row is not in the run folder" in page.text
    assert "Without whet" not in page.text


def test_without_baselines_the_page_says_that_nothing_was_compared(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", baselines=False))
    assert "nothing here says what tuning added" in page.text
    assert "by every baseline" not in page.text


def test_a_model_without_mistakes_is_said_to_have_none(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", right=1.0))
    assert "No test row was predicted wrongly" in page.text


def test_the_verdict_comes_first_and_the_use_of_the_model_last(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run"))
    assert page.all("h1", "h2")[0].tag == "h1"
    assert page.text.index("After step 30 validation loss rose.") < page.text.index("Scores against baselines")
    titles = [one.text for one in page.all("h2")]
    assert titles[0] == "Scores against baselines"
    assert titles[-1] == "How to use the model"
    assert [one.text for one in page.all("a")[1:]] == titles


def test_scores_stand_with_their_intervals_beside_the_baselines(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    metrics = read(folder, "metrics.json")
    page, ends = report(folder), metrics["intervals"]["test"]["accuracy"]
    shown = f"{metrics['test']['accuracy']:.3f} ({ends['low']:.3f} to {ends['high']:.3f})"
    picture = next(one for one in page.all("svg") if one.attributes["aria-label"].startswith("Accuracy"))
    assert f"This model {shown}" in picture.attributes["aria-label"]
    assert shown in picture.text
    for one in metrics["baselines"][:2]:
        assert f"{one['test']['log_loss']:.3f}" in page.text
        alone = one["comparison"]["only_ours_right"], one["comparison"]["only_theirs_right"]
        assert re.search(rf"{re.escape(one['title'])}.*{alone[0]}\s*{alone[1]}\s*McNemar", page.text)
    assert "Not made: the model was handed over" in page.text


def test_an_interval_that_may_be_too_narrow_is_said_to_be(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", right=1.0)
    why = read(folder, "metrics.json")["intervals"]["test"]["log_loss"]["warning"]
    assert f"Log-loss: {why}" in report(folder).text


def test_the_best_baseline_is_the_one_that_the_headline_figures_name(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run"))
    assert "Difference to TF-IDF + logistic regression" in page.one("dl").text


def test_the_difference_says_on_which_side_of_0_this_model_is_better(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", settings={"metric": "log_loss"}))
    assert "below 0, this model is better" in page.text
    assert "lower is better" in page.text
    assert "above 0, this model is better" in report(make_run(tmp_path / "other")).text


def test_the_baseline_that_settled_the_verdict_is_the_one_shown_first(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    verdict = read(folder, "metrics.json")["verdict"] | {"against": "majority"}
    page = report(change(folder, "metrics.json", verdict=verdict))
    assert "Difference to majority class" in page.one("dl").text


def test_without_test_rows_the_page_says_that_the_scores_flatter(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", rows=0))
    assert "There are no test rows" in page.text
    assert "on 50 validation rows" in page.text
    assert "0.810" in page.text


def test_the_spread_over_seeds_is_kept_apart_from_the_intervals(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", seeds=4)
    spread = read(folder, "metrics.json")["seeds"]["spread"]["accuracy"]
    page = report(folder)
    (table,) = [one for one in page.all("table") if "Spread over 4 seeds" in one.text]
    assert f"{spread['mean']:.3f}{spread['deviation']:.3f}{spread['low']:.3f}{spread['high']:.3f}" in table.text
    assert "about the test rows" in page.text


def test_curves_tell_phases_and_the_step_kept(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", phases=3))
    (label,) = {one.attributes["aria-label"] for one in page.all("svg") if "curves" in one.attributes["aria-label"]}
    assert "weights kept: those of step 30" in label
    assert "phases end at steps 40, 80, 120" in label
    assert "overfitting since step 30" in label
    assert "Training loss from 1.940 at step 1" in label


def test_a_long_training_makes_no_large_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    lines = "".join(
        f'{{"step": {step}, "phase": "all groups", "split": "train", "loss": 0.5, "rate": 0.1}}\n'
        f'{{"step": {step}, "phase": "all groups", "split": "valid", "train_loss": 0.5, "accuracy": 0.5, '
        f'"macro_f1": 0.5, "mcc": 0.5, "log_loss": 0.5}}\n'
        for step in range(1, 20_001)
    )
    (folder / "progress.jsonl").write_text(lines, encoding="utf-8")
    report(folder)
    assert (folder / "report.html").stat().st_size < 200_000


def test_the_plan_is_drawn_from_what_moves_in_each_phase(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", phases=3))
    (label,) = {one.attributes["aria-label"] for one in page.all("svg") if "The plan" in one.attributes["aria-label"]}
    assert "phase 1, phase 1, 40 steps: moves head (1 of 8 groups), 7 groups below computed once" in label
    assert "phase 2, phase 2, 40 steps: moves block 4 to head (3 of 8 groups);" in label
    assert "phase 3, phase 3, 40 steps: moves embeddings to head (8 of 8 groups)." in label


def test_77_classes_stay_readable_and_the_page_small(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", labels=MANY, rows=3080, right=0.9, texts=("word " * 100,), phases=3, seeds=3)
    page = report(folder)
    assert (folder / "report.html").stat().st_size < 500_000
    counts = read(folder, "metrics.json")["confusion"]
    (small,) = [one for one in page.all("table") if one.attributes.get("class") == "heat"]
    assert "all others (65)" in small.text
    (whole,) = [one for one in page.all("table") if one.attributes.get("class") == "dense"]
    found = "".join(str(number or "") for row in counts for number in row)
    assert re.sub(r"\s", "", whole.text).endswith(re.sub(r"\D", "", "".join(str(n or "") for n in counts[-1])))
    assert len(re.findall(r"<td>", (folder / "report.html").read_text("utf-8"))) >= 77 * 77
    assert len(found) > 77


def test_many_more_classes_and_the_longest_texts_stay_below_the_limit(tmp_path: Path) -> None:
    labels = tuple(f"{number} {'a rather long name of a label ' * 3}" for number in range(600))
    folder = make_run(tmp_path / "run", labels=labels, rows=1800, right=0.2, texts=("<&>" * 2000,))
    page = report(folder)
    assert (folder / "report.html").stat().st_size < 500_000
    assert "Every figure is in metrics.json" in page.text


def test_a_folded_matrix_keeps_every_row() -> None:
    counts = [[(3 * row + 7 * column) % 5 for column in range(30)] for row in range(30)]
    folded = matrix([str(number) for number in range(30)], counts)
    assert folded.folded == 18
    assert sum(map(sum, folded.counts)) == sum(map(sum, counts))
    own = int(folded.labels[0])
    assert sum(folded.counts[0]) == sum(counts[own])
    assert folded.counts[0][0] == counts[own][own]


def test_classes_come_by_what_they_cost(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", labels=MANY, rows=770)
    costs = {row["label"]: row["cost"] for row in read(folder, "metrics.json")["per_label"]}
    page = report(folder)
    shown = [
        one.text.strip()
        for one in page.all("th")
        if one.text.strip() in costs and "label" in one.attributes.get("class", "")
    ]
    per_class = shown[-77:]
    assert set(per_class) == set(costs)
    assert [costs[label] for label in per_class] == sorted(costs.values(), reverse=True)


def test_texts_of_mistakes_are_found_by_their_row_and_stay_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rows=100, texts=NASTY, right=0.3)
    sure = read(folder, "metrics.json")["mistakes"]["confident"][:15]
    page = report(folder)
    said = [one.text for one in page.with_class("said")]
    for place, one in enumerate(sure):
        text = f"{NASTY[(one['row'] - 2) % len(NASTY)]} {one['row'] - 2}"
        begin = text.replace("\x07", "\ufffd").replace("\x1b", "\ufffd")[:400]
        assert said[place].startswith(begin)
        assert page.with_class("what")[place].text.strip().startswith(f"predicted {one['prediction']} with")
    assert all(one.attributes["dir"] == "auto" for one in page.with_class("said"))
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", page.source)


def test_a_cut_text_says_how_much_is_left_out(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", texts=("y" * 3000,), right=0.5))
    assert "more characters)" in page.with_class("said")[0].text


def test_a_doubted_row_is_shown_once(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rows=300, right=0.6)
    found = read(folder, "metrics.json")["mistakes"]
    page = report(folder)
    rows = [int(number.replace(",", "")) for number in re.findall(r", row ([\d,]+)", page.text)]
    assert len(rows) == len(set(rows)) == 30
    marked = [one for one in page.with_class("what") if "Is the label right?" in one.text]
    above = {one["row"] for one in found["confident"][:15]}
    assert len(marked) == len([one for one in found["doubted"] if one["row"] in above])


def test_the_page_names_no_folder_of_the_machine(tmp_path: Path) -> None:
    paths = {
        "model": "/home/someone/models/mine",
        "strategy": "of /home/someone/my plans/plan.yaml",
        "cache": "/home/c",
    }
    folder = make_run(tmp_path / "run", settings=paths)
    asked = read(folder, "run.json")
    asked["sources"]["seed"] = "file /home/someone/config.yaml"
    asked["model"]["reference"] = "/home/someone/models/mine"
    write(folder, "run.json", asked)
    text = report(folder).source
    assert "/home" not in text
    assert str(tmp_path) not in text
    assert "messages.csv" in text
    assert "of plan.yaml" in text
    assert "file config.yaml" in text


def test_equal_run_folders_make_equal_pages(tmp_path: Path) -> None:
    pages = [write_report(make_run(tmp_path / part / "run", phases=2)).read_bytes() for part in ("a", "b")]
    assert pages[0] == pages[1]


def test_the_page_can_be_written_elsewhere_and_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert write_report(folder) == folder / "report.html"
    before = sorted(path.name for path in folder.iterdir())
    assert write_report(folder, tmp_path / "mine.html") == tmp_path / "mine.html"
    assert (tmp_path / "mine.html").read_bytes() == (folder / "report.html").read_bytes()
    assert write_report(folder).exists()
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (lambda folder: (folder / "run.json").unlink(), PathError, "no run.json"),
        (lambda folder: (folder / "metrics.json").unlink(), RunError, "whet resume"),
        (lambda folder: (folder / "metrics.json").write_text("{", "utf-8"), RunError, "cannot read"),
        (lambda folder: (folder / "predictions.csv").write_bytes(b"\xff\xfe\x00"), RunError, "cannot read"),
    ],
)
def test_a_folder_that_is_no_finished_run_is_refused(
    tmp_path: Path, spoil: Callable[[Path], Any], error: type[Exception], says: str
) -> None:
    folder = make_run(tmp_path / "run")
    spoil(folder)
    with pytest.raises(error, match=says):
        write_report(folder)
    assert not (folder / "report.html").exists()


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (#rrggbb) by WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "raised"])
@pytest.mark.parametrize("text", ["ink", "muted", "accent", "second"])
def test_every_colour_of_text_can_be_read(tmp_path: Path, theme: int, ground: str, text: str) -> None:
    style = report(make_run(tmp_path / "run", rows=6)).one("style").text
    colours = [dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in re.findall(r":root \{([^}]*)\}", style)]
    assert contrast(colours[theme][text], colours[theme][ground]) >= 4.5


FRESH = """
import sys
import whet, whet.cli, whet.report.terminal
assert not {{"jinja2", "matplotlib"}} & set(sys.modules)
from pathlib import Path
from whet.report.html import write_report
import matplotlib
before = matplotlib.rcParams.copy()
write_report(Path({folder!r}))
assert dict.__eq__(before, matplotlib.rcParams)
assert "matplotlib.pyplot" not in sys.modules
"""


def test_pictures_are_drawn_without_touching_what_others_draw(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    subprocess.run([sys.executable, "-c", FRESH.format(folder=str(folder))], check=True)


def test_the_lines_on_how_to_use_the_model_run_as_they_stand(
    tmp_path: Path,
    tiny_bert: Path,
    rows_csv: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "it's mine"
    whet.train(rows_csv, model=tiny_bert, steps=2, quiet=True, threads=1, precision="fp32", cache="off", out=out)
    codes = [one.text for one in report(out).all("code") if "a first text" in one.text]
    command, with_whet, without = codes
    assert "whet predict" in command
    script = command.replace("whet predict", f"{shlex.quote(sys.executable)} -m whet predict")
    labelled = subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    rows = [line.split(",", 2) for line in labelled.splitlines()]
    assert [row[2] for row in rows] == ["text", "a first text", "and another one"]
    monkeypatch.chdir(tmp_path)
    for code in (with_whet, without):
        exec(compile(code, "the report", "exec"), {})
        assert capsys.readouterr().out.splitlines()[0] == str([row[0] for row in rows[1:]])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with pytest.raises(PathError, match="there is no folder"):
        write_report(folder, tmp_path / "nowhere" / "page.html")


def test_the_estimate_stands_beside_what_came(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", phases=3)
    shown = report(folder).text
    assert "Estimated before the run, and what came" in shown
    for line in (
        "Training and test 11.0 s 14.6 s 1.33",
        "Phase phase 2 3.0 s 3.2 s 1.07",
        "Most memory 406 MiB 812 MiB",
    ):
        assert line.replace(" ", "") in shown.replace(" ", "")


def test_a_run_that_was_not_timed_shows_its_memory_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    estimate = read(folder, "metrics.json")["estimate"] | {"seconds": None, "test_seconds": None}
    shown = report(change(folder, "metrics.json", estimate=estimate)).text
    assert "Most memory406 MiB" in shown
    assert "Training and test" not in shown


def test_a_run_without_an_estimate_is_reported_as_before(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert "Estimated before" not in report(change(folder, "metrics.json", estimate=None)).text
