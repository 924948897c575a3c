"""The base of all values."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Immutable, comparable, and without unknown fields or numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
