"""Where a run stands: everything but weights and optimizer state that it needs to go on as if never stopped."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Best(BaseModel):
    """A validation whose weights were kept: at which step of the run, in which phase, how good by each metric."""

    model_config = ConfigDict(frozen=True)

    step: int
    phase: int
    score: float
    loss: float
    scores: dict[str, float] = {}

    def beats(self, other: Best | None, lower_is_better: bool) -> bool:
        """A better score, or an equal one with a lower validation loss."""
        if other is None:
            return True
        sign = -1 if lower_is_better else 1
        return (sign * self.score, -self.loss) > (sign * other.score, -other.loss)

    @property
    def folder(self) -> str:
        return f"best-{self.step:06d}"


class Ended(BaseModel):
    """A finished phase: its steps, its seconds (capture and validations counted), and why it ended. `validating` and
    `saving` are the seconds among them that went into validations and checkpoints."""

    model_config = ConfigDict(frozen=True)

    steps: int
    seconds: float
    validating: float
    saving: float
    why: str


class Position(BaseModel):
    """`phase` and `step` say what comes next; `done` counts the steps of all phases.

    `lengths` holds the steps of each phase entered so far; `ended` how each finished phase went.
    `ranked` holds the best validations of the run that are kept, the best first; `phase_best` that of this phase.
    `losses` is (sum, steps) of the training loss since the last validation; `history` the step, training
    and validation loss of each validation. `progress` is the length of progress.jsonl in bytes.
    `beside` are the seconds that went into validations and checkpoints of this phase. `loss_scale` is the state of
    the loss scale where products are in fp16, `tokens_at_once` the token budget that was timed.
    """

    phase: int = 0
    step: int = 0
    done: int = 0
    lengths: list[int] = []
    ended: list[Ended] = []
    ranked: list[Best] = []
    phase_best: Best | None = None
    without_progress: int = 0
    losses: tuple[float, int] = (0.0, 0)
    history: list[tuple[int, float, float]] = []
    progress: int = 0
    seconds: float = 0.0
    beside: dict[str, float] = {}
    loss_scale: tuple[float, int] | None = None
    tokens_at_once: int | None = None

    @property
    def best(self) -> Best | None:
        return self.ranked[0] if self.ranked else None

    def rank(self, found: Best, keep: int, lower_is_better: bool) -> None:
        """Put a validation where it belongs among the best, and let go of those beyond `keep`."""
        place = next((n for n, one in enumerate(self.ranked) if found.beats(one, lower_is_better)), len(self.ranked))
        self.ranked = [*self.ranked[:place], found, *self.ranked[place:]][:keep]
