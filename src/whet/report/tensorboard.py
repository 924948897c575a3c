"""Progress for TensorBoard. It is an extra: whatever goes wrong in it is said once and never touches the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Watch = Callable[[dict[str, Any]], None]


class Board:
    """Hands every line of progress on to `watch`, and writes its numbers as scalars into `folder`."""

    def __init__(self, folder: Path, watch: Watch) -> None:
        self.watch = watch
        self.writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder))
        except Exception as error:  # an extra that is broken is not a reason to stop
            self.gave_up(error)

    def __call__(self, line: dict[str, Any]) -> None:
        self.watch(line)
        if self.writer is None or "split" not in line:
            return
        try:
            for name, value in line.items():
                if name not in ("step", "of", "in_phase", "best") and isinstance(value, int | float):
                    self.writer.add_scalar(f"{line['split']}/{name}", value, line["step"])
        except Exception as error:
            self.gave_up(error)

    def close(self) -> None:
        if self.writer is not None:
            try:
                self.writer.close()
            except Exception as error:
                self.gave_up(error)

    def gave_up(self, error: Exception) -> None:
        self.writer = None
        missing = isinstance(error, ImportError)
        cure = "install it with: pip install 'whet[tensorboard]'" if missing else "the run goes on without it"
        self.watch({"note": f"nothing is written for TensorBoard ({type(error).__name__}: {error}); {cure}"})
