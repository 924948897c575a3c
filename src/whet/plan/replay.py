"""Rows of other data in the batches of a phase. A pure value."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from whet.plan.base import Value


class Replay(Value):
    """Of each batch, the `share` that comes from the labelled rows of the file `source`.

    `keep` is "all" of its rows, or a "reservoir": so many `rows` of them, drawn once by the run's seed.
    """

    source: str = Field(min_length=1)
    share: float = Field(gt=0, lt=1)
    keep: Literal["all", "reservoir"] = "all"
    rows: int = Field(500, ge=1)

    @property
    def pool(self) -> tuple[str, str, int]:
        """What its rows are, whatever the share: phases with one pool draw from the same rows."""
        return self.source, self.keep, self.rows

    def __str__(self) -> str:
        rows = f"{self.rows} rows of " if self.keep == "reservoir" else ""
        return f"{self.share:.0%} of each batch from {rows}{self.source}"
