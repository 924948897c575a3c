"""Part of the model at a time, with transformers' Trainer: the top blocks only, or LIFT's schedule.

--top K: the K topmost blocks and what stands above them (pooler and classifier) move for --epochs epochs; the rest
has requires_grad False, so autograd stops below it. --lift: first pooler and classifier alone, then from the topmost
block down one block alone per phase, one epoch each with a Trainer, an optimizer and a linear decay of its own.
Rates, warm-up and weight decay are those of whet's strategies `top` and `lift`, but Trainer has one rate for all that
moves in a phase. `train_seconds` is the sum of the train() calls; making the Trainers is outside it.
Default: fp32, random batches. --tuned: bf16 autocast and batches grouped by length.

Prints one JSON line with the keys of the other peer runners, whose `common` it takes from the folder `peers` in
WHET_SHARED (default: `shared` beside this repository).
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(os.environ.get("WHET_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "peers"))
import common  # starts the clock, so it comes before the slow imports

# isort: split

import argparse
import tempfile
import time
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


@dataclass(frozen=True)
class Phase:
    """What moves, by the beginnings of parameter names, and how: peak rate, decay, share of warm-up, epochs."""

    moves: tuple[str, ...]
    rate: float
    weight_decay: float
    warmup: float
    epochs: int


def read_arguments() -> argparse.Namespace:
    parser = common.build_parser(__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--top", type=int, metavar="K", help="train the K topmost blocks, pooler and classifier")
    which.add_argument("--lift", action="store_true", help="head, then one block a phase from the top down")
    return parser.parse_args()


def phases(args: argparse.Namespace, blocks: int) -> list[Phase]:
    above, rate = ("bert.pooler.", "classifier."), args.lr or 1.5e-4
    names = [f"bert.encoder.layer.{number}." for number in reversed(range(blocks))]
    if not args.lift:
        return [Phase((*names[: args.top], *above), rate, 0.01, 0.06, args.epochs)]
    return [Phase(above, 3e-3, 0.0, 0.0, 1)] + [Phase((name,), rate, 0.01, 0.06, 1) for name in names]


def train(args: argparse.Namespace, parts: dict[str, Any], phase: Phase, number: int, folder: str) -> tuple[Any, float]:
    """Run one phase; returns its Trainer and the seconds of the train() call."""
    from transformers import Trainer, TrainingArguments

    for name, parameter in parts["model"].named_parameters():
        parameter.requires_grad = name.startswith(phase.moves)
    trainer = Trainer(
        args=TrainingArguments(
            output_dir=folder,
            learning_rate=phase.rate,
            weight_decay=phase.weight_decay,
            warmup_steps=phase.warmup,  # below 1: a share of the steps
            num_train_epochs=phase.epochs,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=args.batch_size,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=1000 * number + args.seed,  # every phase sees another order of the rows
            bf16=args.tuned,
            train_sampling_strategy="group_by_length" if args.tuned else "random",
        ),
        **parts,
    )
    begun = time.perf_counter()
    trainer.train()
    return trainer, time.perf_counter() - begun


def load(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows as Trainer takes them, and what every phase's Trainer is made with."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

    splits, names = common.load_splits(args)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    data = {
        split: Dataset.from_dict({"text": texts, "label": labels}).map(
            lambda batch: tokenizer(batch["text"], truncation=True), batched=True
        )
        for split, (texts, labels) in splits.items()
    }
    return data, {
        "model": AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=len(names)),
        "train_dataset": data["train"],
        "processing_class": tokenizer,
        "data_collator": DataCollatorWithPadding(tokenizer=tokenizer),
    }


def main() -> None:
    args = read_arguments()
    import torch
    import transformers
    from datasets import disable_progress_bars

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    transformers.set_seed(args.seed)
    begun = time.perf_counter()
    data, parts = load(args)
    schedule = phases(args, parts["model"].config.num_hidden_layers)
    prepare_seconds = time.perf_counter() - begun

    with tempfile.TemporaryDirectory() as folder:
        seconds = []
        for number, phase in enumerate(schedule):
            trainer, took = train(args, parts, phase, number, folder)
            seconds.append(round(took, 3))
        peak = common.peak_rss_mb()
        begun = time.perf_counter()
        found = {split: trainer.predict(data[split]) for split in ("dev", "test")}
        eval_seconds = time.perf_counter() - begun

    common.report(
        ("hf_lift" if args.lift else f"hf_top{args.top}") + ("_tuned" if args.tuned else ""),
        transformers.__version__,
        sum(seconds),
        len(data["train"]) * sum(phase.epochs for phase in schedule),
        # group_by_length also reorders evaluation, so take the labels that came along.
        {split: (one.label_ids.tolist(), one.predictions.argmax(-1).tolist()) for split, one in found.items()},
        {
            "torch": torch.__version__,
            "phases": [{"moves": phase.moves, "rate": phase.rate, "epochs": phase.epochs} for phase in schedule],
            "phase_seconds": seconds,
            "batch_size": args.batch_size,
            "seed": args.seed,
            "bf16_autocast": args.tuned,
            "sampling": "group_by_length" if args.tuned else "random",
            "optimizer": str(getattr(trainer.args.optim, "value", trainer.args.optim)),
            "attention": parts["model"].config._attn_implementation,
            "threads": torch.get_num_threads(),
            "prepare_seconds": round(prepare_seconds, 3),
            "eval_seconds": round(eval_seconds, 3),
        },
        peak,
    )


if __name__ == "__main__":
    main()
