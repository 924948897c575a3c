"""Write the tables of docs/guide/options.md from the code.

python docs/make_options.py            write them
python docs/make_options.py --check    change nothing; exit code 1 where the page is stale
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from whet.config import Settings
from whet.plan.schedules import SCHEDULES
from whet.plan.values import OPTIMIZERS

PAGE = Path(__file__).parent / "guide" / "options.md"


def main(words: list[str]) -> int:
    written = PAGE.read_text(encoding="utf-8")
    made = filled(written)
    if "--check" in words:
        if made != written:
            print(f"{PAGE.name} is stale: run python docs/make_options.py", file=sys.stderr)
        return int(made != written)
    PAGE.write_text(made, encoding="utf-8")
    return 0


def filled(page: str) -> str:
    """The page with each generated part made again. A part stands between `<!-- name: begin -->` and `... end -->`."""
    for name, part in (("options", options()), ("optimizers", fields(OPTIMIZERS)), ("schedules", fields(SCHEDULES))):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{PAGE.name} lacks {begin} or {end}")
        page = f"{before}{begin}\n{part}\n{end}{after}"
    return page


def options() -> str:
    """One line per option of Settings, in the order of the code."""
    defaults = Settings().model_dump(mode="json")
    rows = []
    for name, field in Settings.model_fields.items():
        extra: Any = field.json_schema_extra
        rows.append((f"`{name}`", shown(defaults[name]), extra["expects"], str(field.description)))
    return table(("option", "default", "accepts", "meaning"), rows)


def fields(makers: Mapping[str, type[BaseModel]]) -> str:
    """One line per optimizer or schedule: its own fields with their defaults, and what it is."""
    rows = []
    for name, maker in makers.items():
        own = {key: field.default for key, field in maker.model_fields.items() if key not in ("kind", "warmup")}
        listed = ", ".join(f"`{key}={value}`" for key, value in own.items()) or "none"
        rows.append((f"`{name}`", listed, " ".join((maker.__doc__ or "").split())))
    return table(("name", "fields and defaults", "meaning"), rows)


def shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"`{value}`" if not isinstance(value, bool) else ("yes" if value else "no")


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
