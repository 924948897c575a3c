"""Scores of predicted labels. Those that every validation needs come from counts; tables from scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from whet.evaluate.counts import macro_f1, margins, mcc, tally


def classification(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """`accuracy`, `macro_f1`, `mcc` (each 1 at best) and `log_loss` (nats per row, 0 at best).

    `truth` holds label numbers (N), `probabilities` N x labels. Macro-F1 is the mean over the labels that occur
    in truth or prediction; a label never predicted counts 0. The values are scikit-learn's, whose import would take
    longer than a small head takes to train.
    """
    rows = margins(tally(truth, probabilities.argmax(1), probabilities.shape[1]))
    return {
        "accuracy": float(rows.right.sum() / len(truth)),
        "macro_f1": float(macro_f1(rows)),
        "mcc": float(mcc(rows)),
        "log_loss": log_loss(truth, probabilities),
    }


def better(truth: np.ndarray, probabilities: np.ndarray, metric: str) -> float:
    """A metric of `classification`, turned so that higher is better."""
    score = classification(truth, probabilities)[metric]
    return -score if metric == "log_loss" else score


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -log of the probability given to the true label, in nats; probabilities below 1e-12 count as that."""
    given = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(given, 1e-12)).mean())


def per_label(truth: np.ndarray, predicted: np.ndarray, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support (rows) of each label, in the labels' order."""
    from sklearn.metrics import precision_recall_fscore_support

    numbers = np.arange(len(labels))
    columns = precision_recall_fscore_support(truth, predicted, labels=numbers, zero_division=0)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for label, p, r, f, s in zip(labels, *columns, strict=True)
    ]


def confusion(truth: np.ndarray, predicted: np.ndarray, count: int) -> list[list[int]]:
    """Rows: true label; columns: predicted label."""
    from sklearn.metrics import confusion_matrix

    matrix: list[list[int]] = confusion_matrix(truth, predicted, labels=np.arange(count)).tolist()
    return matrix


def overfitting(losses: list[tuple[int, float, float]]) -> int | None:
    """The step since which the run overfits: after it validation loss stayed above its lowest value while training
    loss went on falling. None where it did not, or rose by less than 5 %.

    `losses` holds (step, training loss, validation loss) of each validation, in order.
    """
    if len(losses) < 2:
        return None
    best = min(range(len(losses)), key=lambda number: losses[number][2])
    step, train, valid = losses[best]
    later = losses[best + 1 :]
    if later and later[-1][2] > 1.05 * valid and later[-1][1] < train:
        return step
    return None
