"""What the speed benchmark measures: works, each with the contenders that take turns at it, and the rows of its table.

Both sides of a row have the same files, model, batch size and epochs. Rates: 1e-4 for full fine-tuning on both sides,
the rate that quality.py chose for the peer on the validation rows of both sets; the peer in its default settings keeps
its tutorial's 2e-5. Parts of the model (top, lift): 1.5e-4, and 3e-3 for the head's own phase of lift, on both sides;
whet's `top` gives a new head ten times the rate. Heads on a frozen body: each side's own rate.
Works in which a peer needs more than five minutes use 2,000 training, 200 development and 600 test rows, drawn with
seed 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from speed_sides import OWN_PEERS, Cached, Files, Peer, Probes, Side, Whet, sampled

TUNED_RATE = "1e-4"
PART = {"train": 2000, "dev": 200, "test": 600}
START_ROWS = 100
PROBES = 100


@dataclass(frozen=True)
class Row:
    """One row of the table: a peer's side held against ours, on one figure of their cells.

    The ratio is peer / whet for seconds, where more is better, and whet / peer for `memory_mb`, where less is.
    `least` and `aim` are None for what is only shown. `times`: how often the peer's work is done for ours once.
    """

    title: str
    peer: str
    ours: str
    least: float | None = None
    aim: float | None = None
    figure: str = "seconds"
    times: int = 1


@dataclass(frozen=True)
class Work:
    """Sides that take turns, repetition by repetition in this order, and the rows made from them.

    Sides of the same name are the same cells, whichever work measures them: they need the same files.
    """

    parts: Callable[[], Files]
    sides: dict[str, Side]
    rows: tuple[Row, ...]
    repetitions: int = 3


def works(peers: str, flair: str, limit: int | None) -> dict[str, Work]:
    """All works by name. `peers`, `flair`: interpreters; `limit`: for a trial, so many rows of SST-2 for all."""

    def data(name: str, sizes: dict[str, int] | None = None) -> Callable[[], Files]:
        if limit:
            return lambda: sampled(
                "sst2", dict.fromkeys(("train", "dev", "test"), limit)
            )  # BANKING77: too few per label
        return lambda: sampled(name, sizes or {})

    made = {
        **full(peers, data),
        **probes(peers, flair, data),
        **parts_of_the_model(peers, data),
    }
    small = lambda: sampled("sst2", dict.fromkeys(("train", "dev", "test"), START_ROWS))  # noqa: E731
    one_epoch = ("--epochs=1", "--batch-size=16")
    made["start"] = Work(
        small,
        {
            "start/hf": Peer(peers, "hf_trainer.py", one_epoch),
            "start/whet": Whet(one_epoch),
        },
        (Row("start, 100 rows", "start/hf", "start/whet", 1.5, 3, figure="start"),),
        repetitions=5,
    )
    return made


def full(peers: str, data: Callable[..., Callable[[], Files]]) -> dict[str, Work]:
    """Every weight, one epoch."""
    rate, tuned = f"--learning-rate={TUNED_RATE}", ("--tuned", f"--lr={TUNED_RATE}")
    sst2, banking = ("--epochs=1", "--batch-size=16"), ("--epochs=1", "--batch-size=32")
    ours = "full-sst2/whet"
    return {
        "full-sst2": Work(
            data("sst2"),
            {
                "full-sst2/hf": Peer(peers, "hf_trainer.py", sst2),
                ours: Whet((*sst2, rate)),
                "full-sst2/hf tuned": Peer(peers, "hf_trainer.py", (*sst2, *tuned)),
            },
            (
                Row("full, SST-2, batch 16", "full-sst2/hf", ours, 4.5, 8),
                Row("full, SST-2, batch 16", "full-sst2/hf tuned", ours, 1.5, 2.5),
                Row("peak memory, full", "full-sst2/hf tuned", ours, 0.8, 0.6, figure="memory_mb"),
            ),
        ),
        "full-banking77": Work(
            data("banking77"),
            {
                "full-banking77/hf tuned": Peer(peers, "hf_trainer.py", (*banking, *tuned)),
                "full-banking77/whet": Whet((*banking, rate)),
            },
            (Row("full, BANKING77, batch 32", "full-banking77/hf tuned", "full-banking77/whet", 1.5, 2.5),),
        ),
    }


def probes(peers: str, flair: str, data: Callable[..., Callable[[], Files]]) -> dict[str, Work]:
    """A head on the frozen body: ten epochs; once more with states kept; a hundred at once."""
    ten = ("--epochs=10", "--batch-size=16")
    ours = ("--strategy=probe", *ten)
    many = ("--depths", "2,3,4,5,6", "--poolings", "mean", "--penalties", "20")
    whet = Whet(ours)
    return {
        "probe-sst2": Work(
            data("sst2"),
            {
                "probe-sst2/flair": Peer(flair, "flair_runner.py", ("--probe", *ten)),
                "probe-sst2/whet": whet,
            },
            (Row("probe, 10 epochs, SST-2", "probe-sst2/flair", "probe-sst2/whet", 6, 15),),
        ),
        "probe-2000": Work(
            data("sst2", PART),
            {
                "probe-2000/hf frozen": Peer(peers, "hf_trainer.py", ("--freeze-encoder", *ten)),
                "probe-2000/whet": whet,
            },
            (Row("probe, 10 epochs, 2,000 rows", "probe-2000/hf frozen", "probe-2000/whet", 40, 80),),
        ),
        "warm": Work(
            data("sst2"),
            {"warm/first run": Cached(ours, first=True), "warm/second run": Cached(ours, first=False)},
            (Row("second run of the probe, SST-2", "warm/first run", "warm/second run", 5, 20),),
        ),
        "probes": Work(
            data("sst2"),
            {"probe-sst2/whet": whet, "probes/whet probe": Probes(many)},
            (Row("100 probes, SST-2", "probe-sst2/whet", "probes/whet probe", 50, 100, times=PROBES),),
        ),
    }


def parts_of_the_model(peers: str, data: Callable[..., Callable[[], Files]]) -> dict[str, Work]:
    """The top two of six blocks for three epochs; LIFT: the head, then block after block, an epoch each."""
    top, lift = ("--epochs=3", "--batch-size=16"), ("--batch-size=16",)

    def hf(*options: str) -> Peer:
        return Peer(peers, "hf_schedules.py", options, OWN_PEERS)

    return {
        "top-2000": Work(
            data("sst2", PART),
            {
                "top-2000/hf": hf("--top=2", *top),
                "top-2000/whet": Whet(("--strategy=top(2)", *top)),
                "top-2000/hf tuned": hf("--top=2", "--tuned", *top),
            },
            (
                Row("top 2 of 6, 3 epochs, 2,000 rows", "top-2000/hf", "top-2000/whet", 5, 10),
                Row("top 2 of 6, 3 epochs, 2,000 rows", "top-2000/hf tuned", "top-2000/whet"),
            ),
        ),
        "lift-2000": Work(
            data("sst2", PART),
            {
                "lift-2000/hf": hf("--lift", *lift),
                "lift-2000/whet": Whet(("--strategy=lift", *lift)),
                "lift-2000/hf tuned": hf("--lift", "--tuned", *lift),
            },
            (
                Row("LIFT, head + 6 phases of an epoch, 2,000 rows", "lift-2000/hf", "lift-2000/whet", 6, 10),
                Row("LIFT, head + 6 phases of an epoch, 2,000 rows", "lift-2000/hf tuned", "lift-2000/whet", 2, 3.5),
            ),
        ),
    }
