"""Known populations of test rows, for simulations, and what is counted of the intervals that are drawn from them."""

from __future__ import annotations

import numpy as np

UNEQUAL_6 = (0.35, 0.29, 0.16, 0.11, 0.07, 0.02)
UNEQUAL_10 = (0.3, 0.2, 0.15, 0.1, 0.08, 0.06, 0.05, 0.03, 0.02, 0.01)
UNEQUAL_77 = tuple(rank**-0.7 for rank in range(1, 78))
SETS = {
    "2 equal": ((1, 1), 0.0),
    "2 unequal": ((0.9, 0.1), 0.0),
    "2 unequal, worse": ((0.9, 0.1), 0.3),
    "6 equal": ((1,) * 6, 0.0),
    "6 unequal": (UNEQUAL_6, 0.0),
    "6 unequal, worse": (UNEQUAL_6, 0.3),
    "10 unequal": (UNEQUAL_10, 0.0),
    "10 unequal, worse": (UNEQUAL_10, 0.3),
    "20 equal": ((1,) * 20, 0.0),
    "77 equal": ((1,) * 77, 0.0),
    "77 unequal": (UNEQUAL_77, 0.0),
}
DRAWS_OF_DRAWS = 1000
"""Simulated tests of a cell, where each draws at random itself."""
Ends = tuple[np.ndarray, np.ndarray]
"""Low and high ends of as many intervals."""


def population(name: str, accuracy: float) -> np.ndarray:
    """Shares of rows (C x C) by true and predicted label."""
    shares, fall = SETS[name]
    share = np.array(shares, dtype=float) / sum(shares)
    recall = np.maximum(accuracy - fall * (1 - share / share.max()), 0.3)
    others = np.tile(share, (len(share), 1)) * (1 - np.eye(len(share)))
    wrong = others / others.sum(1, keepdims=True) * (1 - recall)[:, None]
    return share[:, None] * (wrong + np.diag(recall))


def held(limits: tuple, true: np.ndarray | float) -> np.ndarray:
    return (limits[0] <= true) & (true <= limits[1])


def figures(limits: tuple, true: float) -> dict:
    low, high = np.asarray(limits[0]), np.asarray(limits[1])
    return {"coverage": float(held(limits, true).mean()), "width": round(float((high - low).mean()), 4)}
