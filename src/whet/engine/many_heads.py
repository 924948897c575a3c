"""Linear heads of many penalties, fitted at once on vectors that do not move: multinomial logistic regression.

Of each head the objective is that of scikit-learn's LogisticRegression(C): the sum of the rows' (weighted) losses
plus |W|² / (2 C), the intercepts free of it. Two classes have one column of weights there, and so here.

What makes it quick: the penalty is the same from every side, so the vectors are turned once into the axes of their
own covariance. There the curvature is nearly diagonal, for every penalty and class a different diagonal of known
form, and L-BFGS (Nocedal and Wright 2006, Numerical Optimization, algorithm 7.4) starts from it. Each step is one
product for all directions and one for all gradients; along a direction the logits are linear, so the search for a
step's length needs none. Heads that are done leave the batch.

N rows, H features (F: and a column of ones), P penalties, A of them still at work, C classes, O columns of weights
per head (C, or 1 for two classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whet.errors import NonFiniteError

TOLERANCE, ROUNDING = 1e-7, 1e-10
"""A head is done when its next step promises less than this share of what it has gained so far over a head that knows
the classes' shares alone, or of its objective if that is less; or less than `ROUNDING` of the objective."""
MOST_STEPS = 1000
KEPT_STEPS = 5
"""Steps from which L-BFGS learns the curvature."""
MOST_TRIALS = 12
"""Lengths tried along one direction."""
LOGITS_AT_ONCE = 2**26
"""Heads are fitted in groups of so many logits (rows x penalties x columns): 256 MiB in fp32, times about six."""


@dataclass(frozen=True)
class ManyHeads:
    """Heads for vectors that are standardised first: `mean` and `scale` H, `weights` H x P x O, `intercepts` P x O.

    `steps` taken by each, its `objective`, and whether it has `settled` (P each).
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor
    intercepts: Tensor
    steps: Tensor
    objective: Tensor
    settled: Tensor

    def probabilities(self, vectors: Tensor, head: int) -> Tensor:
        """Those that one of the heads gives, N x C."""
        standard = (vectors.to(self.mean.device) - self.mean) / self.scale
        logits = standard @ self.weights[:, head] + self.intercepts[head]
        return (torch.cat((-logits / 2, logits / 2), 1) if logits.shape[1] == 1 else logits).softmax(1)


def fit_heads(
    vectors: Tensor, targets: Tensor, classes: int, penalties: Sequence[float], row_weights: Tensor | None = None
) -> ManyHeads:
    """One head for each penalty, scikit-learn's C. `vectors` N x H in fp32, `targets` N class numbers from 0, each
    class with a row; `row_weights` N (1 each when not given).

    Columns are standardised to mean 0 and variance 1, and penalties are of such weights; a constant column counts
    nothing. Raises `NonFiniteError` for vectors that are no numbers.
    """
    if not torch.isfinite(vectors).all():
        raise NonFiniteError("the model's vectors hold values that are not finite; try --precision fp32")
    mean, scale = standard(vectors)
    turned, axes, spread = principal((vectors - mean) / scale)
    weights = torch.ones(len(vectors), device=vectors.device) if row_weights is None else row_weights.to(turned)
    outputs = 1 if classes == 2 else classes
    size = max(1, LOGITS_AT_ONCE // (len(vectors) * outputs))
    made = [
        _Batch(turned, spread, targets, weights, outputs, torch.tensor(penalties[at : at + size])).fit()
        for at in range(0, len(penalties), size)
    ]
    found = torch.cat([weights for weights, *_ in made], 1)
    steps, objective, settled = (torch.cat(parts) for parts in list(zip(*made, strict=True))[1:])
    back = (axes @ found[:-1].flatten(1)).unflatten(1, found.shape[1:])
    return ManyHeads(mean, scale, back, found[-1], steps, objective, settled)


def standard(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column (H); 1 for a column that is constant up to rounding."""
    variance, mean = torch.var_mean(vectors.double(), 0, correction=0)
    scale = variance.sqrt()
    constant = scale <= 1e-6 * mean.abs()
    return mean.float(), torch.where(constant | (scale == 0), 1.0, scale).float()


def principal(standard: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows in the axes of their covariance with a last column of ones (N x F), the axes (H x H), and the mean square of
    each column (F)."""
    spread, axes = torch.linalg.eigh((standard.T @ standard).double() / len(standard))
    axes, ones = axes.float(), standard.new_ones(len(standard), 1)
    return torch.cat((standard @ axes, ones), 1), axes, torch.cat((spread.clamp_min(0).float(), ones[0]))


class _Batch:
    """Heads that are fitted together. What carries an A belongs to those still at work."""

    def __init__(
        self, rows: Tensor, spread: Tensor, targets: Tensor, weights: Tensor, outputs: int, penalties: Tensor
    ) -> None:
        self.rows, self.spread, self.weights = rows, spread, weights
        self.truth = targets.to(rows.device)
        self.sign = (1 - 2 * targets.to(rows))[:, None, None]  # of two classes: turns logits towards the wrong one
        count = len(penalties)
        self.heads = torch.arange(count, device=rows.device)
        self.shrink = torch.zeros(len(spread), count, 1, device=rows.device) + (1 / penalties.to(rows))[:, None]
        self.shrink[-1] = 0  # the intercepts
        self.at = torch.zeros(len(spread), count, outputs, device=rows.device)
        shares = torch.zeros(max(outputs, 2), device=rows.device).index_add_(0, self.truth, weights).log()
        self.at[-1] = shares if outputs > 1 else shares[1] - shares[0]  # what is best without a vector
        self.past: list[tuple[Tensor, Tensor, Tensor]] = []

    def fit(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights F x P x O, steps, objectives and whether each head has settled (P each)."""
        found, steps = self.at.clone(), torch.full_like(self.heads, MOST_STEPS)
        objectives, settled = torch.zeros_like(self.heads).double(), torch.zeros_like(self.heads).bool()
        logits = self.product(self.rows, self.at)
        value, pulls, curve = self.losses(logits)
        begun = value
        gradient = self.gradient(pulls)
        for step in range(MOST_STEPS):
            way = self.direction(gradient, curve)
            slope = (way * gradient).sum((0, 2)).double()
            gained = torch.minimum(value, begun - value)
            done = -slope <= 2 * torch.maximum(TOLERANCE * gained, ROUNDING * value)
            if done.any():
                ended = self.heads[done]
                found[:, ended], steps[ended] = self.at[:, done], step
                objectives[ended], settled[ended] = value[done], True
                left = torch.nonzero(~done).flatten()
                if not len(left):
                    return found, steps, objectives, settled
                self.keep(left)
                value, slope, begun = value[left], slope[left], begun[left]
                gradient, way, logits = gradient[:, left], way[:, left], logits[:, left]
            change = self.product(self.rows, way)
            length, value, pulls, curve = self.search(logits, way, change, value, slope)
            logits = torch.addcmul(logits, change, length[:, None])
            self.at = torch.addcmul(self.at, way, length[:, None])
            before, gradient = gradient, self.gradient(pulls)
            self.learn(length[:, None] * way, gradient - before)
        found[:, self.heads], objectives[self.heads] = self.at, value
        return found, steps, objectives, settled

    def keep(self, left: Tensor) -> None:
        self.heads, self.at, self.shrink = self.heads[left], self.at[:, left], self.shrink[:, left]
        self.past = [(moved[:, left], turned[:, left], share[left]) for moved, turned, share in self.past]

    def product(self, one: Tensor, many: Tensor) -> Tensor:
        return (one @ many.flatten(1)).unflatten(1, many.shape[1:])

    def gradient(self, pulls: Tensor) -> Tensor:
        """F x A x O, from the losses' derivatives by the logits (N x A x O)."""
        return torch.addcmul(self.product(self.rows.T, pulls), self.shrink, self.at)

    def losses(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The sum of the losses (A, fp64), its derivatives by the logits (N x A x O), and the mean of its second
        derivatives by them (A x O).

        Told by how far the others are from the true class: where that is far, a loss is a small number with all its
        digits, and not the difference of two large ones. Heads of weak penalties live there.
        """
        weights = self.weights[:, None, None]
        if logits.shape[2] == 1:
            others = logits * self.sign
            wrong = others.sigmoid()
            losses = torch.nn.functional.softplus(others) * weights
            curve = (wrong - wrong * wrong) * weights
            return losses.sum((0, 2), dtype=torch.float64), wrong.mul_(self.sign * weights), curve.mean(0)
        truth = self.truth[:, None, None].expand(-1, logits.shape[1], 1)
        ahead = logits - logits.gather(2, truth)
        most = ahead.amax(2, keepdim=True)  # 0 where the true class is ahead
        parts = ahead.sub_(most).exp_()
        parts.scatter_(2, truth, 0.0)
        wrong = parts.sum(2, keepdim=True)
        whole = wrong + (-most).exp()
        losses = (most + (wrong + (-most).expm1()).log1p_())[..., 0] * self.weights[:, None]
        pulls = parts.div_(whole)
        wrong = wrong / whole
        pulls.scatter_(2, truth, -wrong)
        curve = torch.einsum("nao,n->ao", pulls.abs() - pulls.square(), self.weights)
        return losses.sum(0, dtype=torch.float64), pulls.mul_(weights), curve / len(logits)

    def direction(self, gradient: Tensor, curve: Tensor) -> Tensor:
        """Where to go: L-BFGS's two loops around the curvature that the rows' spread and the present losses tell."""
        way, shares = -gradient, []
        for moved, turned, share in reversed(self.past):
            shares.append(share * (moved * way).sum((0, 2)))
            way = torch.addcmul(way, turned, shares[-1][:, None], value=-1)
        way = way / (len(self.rows) * self.spread[:, None, None] * curve.clamp_min(1e-6) + self.shrink)
        for (moved, turned, share), own in zip(self.past, reversed(shares), strict=True):
            way = torch.addcmul(way, moved, (own - share * (turned * way).sum((0, 2)))[:, None])
        return way

    def learn(self, moved: Tensor, turned: Tensor) -> None:
        """Keep a step and what it did to the gradient. Of heads where rounding hides that, the step counts nothing."""
        product = (moved * turned).sum((0, 2))
        sure = product > 1e-10 * turned.square().sum((0, 2))
        share = torch.where(sure, 1 / product, 0.0)
        self.past = [*self.past, (moved, turned, share)][-KEPT_STEPS:]

    def search(
        self, logits: Tensor, way: Tensor, change: Tensor, value: Tensor, slope: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """How far to go, for each head its own: to where the objective is lower and its slope much flatter (the weak
        Wolfe conditions). Returns lengths (A), and objective, derivatives and curvature there.

        Of a convex function the slope alone tells on which side of the lowest point one is.
        """
        length = torch.ones_like(value)
        low, high = torch.zeros_like(value), torch.full_like(value, float("inf"))
        low_slope, high_slope = slope.clone(), torch.zeros_like(slope)
        pulled = (self.shrink * self.at * way).sum((0, 2)).double()
        bent = (self.shrink * way * way).sum((0, 2)).double()
        size = (self.shrink * self.at * self.at).sum((0, 2)).double() / 2
        for _ in range(MOST_TRIALS):
            losses, pulls, curve = self.losses(torch.addcmul(logits, change, length[:, None].float()))
            here = losses + size + length * pulled + length * length * bent / 2
            slope_here = (pulls * change).sum((0, 2), dtype=torch.float64) + pulled + length * bent
            too_far = here > value + 1e-4 * length * slope + 1e-7 * value.abs()
            too_near = ~too_far & (slope_here < 0.9 * slope)
            if not (too_far | too_near).any():
                break
            past = slope_here > 0
            low, low_slope = torch.where(past, low, length), torch.where(past, low_slope, slope_here)
            high, high_slope = torch.where(past, length, high), torch.where(past, slope_here, high_slope)
            between = low + (high - low) * (low_slope / (low_slope - high_slope)).clamp(0.1, 0.9)
            length = torch.where(too_far | too_near, torch.where(high.isinf(), 4 * length, between), length)
        return length.float(), here, pulls, curve
