"""What `import whet` gives and costs, and the levels of the package: each imports only from levels below its own."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import whet
from whet import config
from whet.plan import strategies  # noqa: F401 (registers them)
from whet.plan.strategy import STRATEGIES

ROOT = Path(whet.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if path not in (ROOT / "__init__.py", ROOT / "__main__.py"))
LEVELS = (
    "errors",
    "plan",
    "config",
    "data models",
    "evaluate",
    "tasks",
    "engine",
    "report",
    "runs",
    "compare adapt export serve",
    "flags",
    "cli",
)
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names.split()}
HEAVY = {
    "torch",
    "transformers",
    "numpy",
    "sklearn",
    "scipy",
    "accelerate",
    "pyarrow",
    "pandas",
    "safetensors",
    "jinja2",
    "matplotlib",
}


def part_of(path: Path) -> str:
    """The level's name that a module of whet stands under: its folder, else its own name."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[str]:
    """Everything that a module imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively; the levels are read from whole names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_level_imports_only_levels_below(path: Path) -> None:
    own = part_of(path)
    for name in imported(path):
        if name.split(".")[0] != "whet":
            continue
        other = name.split(".")[1]
        assert other in LEVEL, f"{other} has no level: add it to LEVELS, or import a module of whet by its whole name"
        assert other == own or LEVEL[other] < LEVEL[own], f"{path} imports {name}"


def test_the_registry_holds_the_tasks_and_scores_that_settings_name() -> None:
    from whet.tasks.registry import SPECIAL, TASKS

    assert set(TASKS) == set(get_args(config.Task))
    assert {metric for kind in TASKS.values() for metric in kind.metrics} == set(get_args(config.Score))
    for kind in TASKS.values():
        assert kind.loss_metric in kind.metrics
        assert kind.options <= set(SPECIAL) <= set(config.Settings.model_fields)


@pytest.mark.parametrize(
    "path", [path for path in MODULES if part_of(path) != "tasks"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_nothing_outside_tasks_asks_which_task_it_is(path: Path) -> None:
    names = set(get_args(config.Task))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        asked: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            asked = [node.value]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            asked = [node.args[1]]
        for part in asked:
            for inner in ast.walk(part):
                assert getattr(inner, "value", None) not in names, f"{path}:{node.lineno} compares a task's name"
                assert getattr(inner, "id", "") not in kinds(), f"{path}:{node.lineno} asks for a task's class"


def kinds() -> set[str]:
    from whet.tasks.registry import TASKS

    return {kind.__name__ for kind in TASKS.values()}


def test_every_module_has_a_level() -> None:
    assert {part_of(path) for path in MODULES} <= set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_is_named_after_nothing(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "misc", "manager", "common", "util", "helper"}


@pytest.mark.parametrize("level", ["errors", "plan", "config"])
def test_what_is_pure_imports_nothing_heavy(level: str) -> None:
    names = {name.split(".")[0] for path in MODULES if part_of(path) == level for name in imported(path)}
    assert not names & HEAVY


QUICK = """
import sys
sys.argv = ["whet", *{words!r}]
import whet
if {words!r}:
    from whet.cli import main
    try:
        main()
    except SystemExit as end:
        assert end.code == {code}, end.code
print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 0, ""),
        (["--help"], 0, "Usage: whet"),
        (["fine-tune", "--help"], 0, "Usage: whet fine-tune"),
        (["train", "rows.csv", "--learning-rat", "1"], 2, "did you mean learning_rate?"),
        (["train", "no/rows.csv"], 2, "there is no file no/rows.csv"),
        (["probe", "rows.csv", "--depths", "x"], 2, "depths"),
        (["explain", "no/rows.csv"], 2, "there is no file no/rows.csv"),
        (["predict", "no/run"], 2, "there is no folder no/run"),
        (["eval", "no/run", "rows.csv"], 2, "there is no folder no/run"),
        (["resume", "no/run"], 2, "there is no folder no/run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_heavy_is_imported_before_it_is_needed(words: list[str], code: int, says: str) -> None:
    """Help, and what is wrong with a call, come at once."""
    script = QUICK.format(words=words, code=code, heavy=HEAVY)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == "[]"
    assert says in ended.stdout + ended.stderr


def test_all_names_what_is_there() -> None:
    assert len(whet.__all__) == len(set(whet.__all__))
    assert dir(whet) == list(whet.__all__)
    assert set(STRATEGIES) <= set(whet.__all__)
    for name in whet.__all__:
        assert getattr(whet, name) is not None


def test_what_is_not_there_is_an_attribute_error_that_says_what_is() -> None:
    with pytest.raises(AttributeError, match=r"'finetune'.*fine_tune"):
        _ = whet.finetune  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", whet.__all__)
def test_everything_public_has_a_docstring(name: str) -> None:
    thing = getattr(whet, name)
    documented = [thing]
    if inspect.isclass(thing):
        documented += [
            member for key, member in vars(thing).items() if not key.startswith("_") and inspect.isfunction(member)
        ]
    for part in documented:
        assert (part.__doc__ or "").strip(), f"{part} of whet.{name} has no docstring"


def test_public_errors_say_what_they_mean_and_how_a_command_ends() -> None:
    errors = [thing for thing in vars(whet.errors).values() if inspect.isclass(thing) and issubclass(thing, Exception)]
    assert whet.errors.WhetError in errors
    for error in errors:
        assert issubclass(error, whet.errors.WhetError)
        assert error.__name__ in (whet.errors.__doc__ or "")
        wrong_call = issubclass(error, whet.errors.UsageError)
        assert error.exit_code == 2 if wrong_call else error.exit_code in (1, 130)
