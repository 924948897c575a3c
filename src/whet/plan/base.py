"""The base of all values."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Immutable, comparable, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
