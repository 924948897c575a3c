"""What a run was made of: data, settings, machine, time; and how its model is used."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from whet.report.run_files import RunFiles

FILES = ("model", "strategy", "plan", "valid", "test", "remember", "cache", "out")
"""Options that may hold a path of the machine that the run was made on. A report is made to be sent: it names only the
end of such a path."""


def settings(run: RunFiles) -> list[tuple[str, str, str]]:
    """(option, value, where it came from); those that someone chose come first."""
    sources = run.asked["sources"]
    rows = [(name, shown(name, value), end_of(sources[name])) for name, value in run.asked["settings"].items()]
    return sorted(rows, key=lambda row: row[2] == "default")


def shown(name: str, value: Any) -> str:
    if value is None:
        return "settled by strategy or model"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return end_of(str(value)) if name in FILES else str(value)


def end_of(path: str) -> str:
    """The last part of an absolute path; anything else as it is. The word before a path stays: `file /a/b.yaml` is a
    source, `of /a/b.yaml` a strategy."""
    word, space, rest = path.partition(" ")
    if word in ("file", "of") and rest:
        return f"{word}{space}{end_of(rest)}"
    absolute = path.startswith("/") or re.match(r"[A-Za-z]:[\\/]", path)
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] if absolute else path


def data(run: RunFiles) -> dict[str, Any]:
    found = run.asked["data"]
    return {
        "source": end_of(str(found["source"])),
        "rows": run.metrics["rows"],
        "labels": len(found["labels"]),
        "notes": found["notes"],
        "dropped": run.metrics["dropped"],
        "truncated": run.metrics["truncated"],
        "fingerprints": found["fingerprints"],
    }


MACHINE = {
    "processor": "Processor",
    "instructions": "Instruction set",
    "device": "Device",
    "precision": "Precision of training",
    "threads": "Threads",
    "processes": "Processes",
}


def machine(run: RunFiles) -> list[tuple[str, str]]:
    """The machine and the versions, in words."""
    rows = [(MACHINE.get(key, key), str(value)) for key, value in run.asked["machine"].items()]
    return [("whet", run.asked["whet"]), *rows]


def model(run: RunFiles) -> list[tuple[str, str]]:
    found = run.asked["model"]
    rows = [
        ("Pretrained model", end_of(found["reference"])),
        ("Licence", found["licence"]),
        ("Longest text, in tokens", str(found["max_length"])),
        ("Tensors loaded", str(found["weights_loaded"])),
        ("New tensors", len(found["weights_new"])),
        ("Tensors of the file left over", len(found["weights_left_over"])),
        ("SHA-256 of the weights", found["sha256"]),
    ]
    return [(name, str(value)) for name, value in rows if value]


def seconds(run: RunFiles) -> list[tuple[str, float, float]]:
    """(stage, seconds, share of the total), in the order in which they ran."""
    found = run.metrics["seconds"]
    return [(stage, value, value / found["total"]) for stage, value in found.items() if stage != "total"]


def captured(run: RunFiles) -> list[dict[str, Any]]:
    """Phases whose frozen layers were computed once, with what that saved."""
    return [fact for fact in run.asked["captures"] if "saved_seconds" in fact]


def finished(run: RunFiles) -> str:
    """The day on which the run ended, e.g. 2026-01-31; "" where events.jsonl does not say."""
    ends = [event["time"] for event in run.events if event["event"] == "finished"]
    return str(ends[-1])[:10] if ends else ""


def handed_over(run: RunFiles) -> bool:
    """Whether the model was a torch module of the person's own, whose class whet does not have."""
    return bool(run.asked["model"]["handed_over"])


def command(run: RunFiles) -> str:
    """Shell lines that label two texts, to be run where the run folder lies."""
    settings = run.asked["settings"]
    columns = [settings[name] for name in ("text", "text_b") if settings.get(name) is not None]
    header = ",".join(
        name if re.fullmatch(r"[\w ]+", name) else '"' + name.replace('"', '""') + '"' for name in columns
    )
    rows = "".join(",".join(row) + "\n" for row in run.task["use"]["rows"])
    lines = shlex.quote(f"{header}\n{rows}")
    return f"printf %s {lines} > new.csv\nwhet predict {shlex.quote(run.name)} new.csv"


def with_whet(run: RunFiles) -> str:
    return (
        "import whet\n\n"
        f"run = whet.load({run.name!r}{', model=module' if handed_over(run) else ''})\n"
        f"{run.task['use']['assign']}\n"
        f"{run.task['use']['call']}"
    )


def libraries(run: RunFiles) -> str:
    """What the lines without whet need."""
    words = [
        "torch",
        "transformers",
        *(name for name in ("peft", "torchao", "bitsandbytes") if f"from {name}" in run.note),
    ]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def without_whet(run: RunFiles) -> str:
    """The lines of model/README.md with their inputs given and their result printed; "" where it has none."""
    code = re.search(r"^```python\n(.*?)^```", run.note, re.DOTALL | re.MULTILINE)
    if code is None:
        return ""
    folder = str(Path(run.name, "model").as_posix())
    use = run.task["use"]
    return f"folder = {folder!r}\n{use['assign']}\n\n{code[1]}print({use['result']})"
