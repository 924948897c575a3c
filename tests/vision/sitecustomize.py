"""Lets torchvision be imported beside a torch that its compiled operators were not built for.

The wheels on the package index are built for CUDA. Beside a CPU build of torch their library does not load, and then
`import torchvision` fails, and with it timm, where it describes two operators that nobody has defined. No model of
these tests uses them, so naming them is enough. Python imports this module at its start if its folder is on PYTHONPATH.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path


def loads(package: Path) -> bool:
    """Whether torchvision's own library of operators can be used here."""
    import torch

    for library in package.glob("_C*"):
        with suppress(OSError):
            torch.ops.load_library(str(library))
            return True
    return False


def declare() -> None:
    """Give the two operators that torchvision describes at import their names and arguments, and no code."""
    import torch

    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


found = find_spec("torchvision")
if found and found.origin and not loads(Path(found.origin).parent):
    declare()
