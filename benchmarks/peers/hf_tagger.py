"""Tagging with transformers' Trainer, as its token classification guide does it: words split by the tokenizer, the
first sub-word of each carries its tag, the rest is left out of the loss.

Default: fp32, random batches, learning rate 2e-5, weight decay 0.01, linear decay. --tuned: bf16 autocast and batches
grouped by length. --eval-each-epoch: the weights of the epoch that is best on validation (strict entity F1, or token
accuracy where no tag begins with B-); the time then holds these validations.

--train, --dev and --test are JSONL files with `tokens` and `tags`. Prints one JSON line; --predictions FILE gets the
sentences of dev and test with true and predicted tags, in whatever order they came, for whoever scores them.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(os.environ.get("WHET_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "peers"))
import common  # starts the clock, so it comes before the slow imports

# isort: split

import argparse
import json
import tempfile
import time
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

LEFT_OUT = -100


def read_arguments() -> argparse.Namespace:
    parser = common.build_parser(__doc__)
    parser.add_argument("--predictions", required=True, metavar="FILE")
    parser.add_argument("--eval-each-epoch", action="store_true")
    return parser.parse_args()


def read(path: str, limit: int | None = None) -> list[dict[str, list[str]]]:
    with open(path, encoding="utf-8") as handle:
        return [json.loads(line) for line in handle][:limit]


def encoded(rows: list[dict[str, list[str]]], tokenizer: Any, numbers: dict[str, int]) -> Any:
    from datasets import Dataset

    made = tokenizer([row["tokens"] for row in rows], is_split_into_words=True, truncation=True)
    labels = []
    for place, row in enumerate(rows):
        before, own = None, []
        for word in made.word_ids(place):
            own.append(LEFT_OUT if word is None or word == before else numbers[row["tags"][word]])
            before = word
        labels.append(own)
    return Dataset.from_dict({**made, "labels": labels})


def spans(tags: list[str]) -> set[tuple[int, int, str]]:
    """Entities of BIO tags; an I- that goes on with nothing begins one."""
    found, start, kind = set(), 0, ""
    for place, tag in enumerate([*tags, "O"]):
        if kind and (tag[:2] != "I-" or tag[2:] != kind):
            found.add((start, place, kind))
            kind = ""
        if tag[:2] in ("B-", "I-") and not kind:
            start, kind = place, tag[2:]
    return found


def sentences(labels: Any, outputs: Any, names: list[str]) -> list[dict[str, list[str]]]:
    """True and predicted tags of the words that have a sub-word."""
    best, made = outputs.argmax(-1), []
    for truth, own in zip(labels, best, strict=True):
        kept = [place for place, label in enumerate(truth) if label != LEFT_OUT]
        made.append({"tags": [names[truth[p]] for p in kept], "predicted": [names[own[p]] for p in kept]})
    return made


def score(rows: list[dict[str, list[str]]]) -> dict[str, float]:
    pairs = [(t, p) for row in rows for t, p in zip(row["tags"], row["predicted"], strict=True)]
    truth, own = ([spans(row[key]) for row in rows] for key in ("tags", "predicted"))
    right = sum(len(a & b) for a, b in zip(truth, own, strict=True))
    both = sum(map(len, truth)) + sum(map(len, own))
    return {"entity_f1": 2 * right / max(both, 1), "accuracy": sum(t == p for t, p in pairs) / len(pairs)}


def main() -> None:
    args = read_arguments()
    import torch
    import transformers
    from datasets import disable_progress_bars
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
    )

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    transformers.set_seed(args.seed)
    begun = time.perf_counter()
    rows = {"train": read(args.train, args.limit), "dev": read(args.dev), "test": read(args.test)}
    names = sorted({tag for row in rows["train"] for tag in row["tags"]})
    numbers = {name: number for number, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    data = {part: encoded(own, tokenizer, numbers) for part, own in rows.items()}
    model = AutoModelForTokenClassification.from_pretrained(args.model, num_labels=len(names))
    prepare_seconds = time.perf_counter() - begun
    chosen_by = "entity_f1" if any(name.startswith("B-") for name in names) else "accuracy"
    with tempfile.TemporaryDirectory() as folder:
        epoch = "epoch" if args.eval_each_epoch else "no"
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                learning_rate=args.lr or 2e-5,
                per_device_train_batch_size=args.batch_size,
                per_device_eval_batch_size=args.batch_size,
                num_train_epochs=args.epochs,
                weight_decay=0.01,
                eval_strategy=epoch,
                save_strategy=epoch,
                save_total_limit=2,
                load_best_model_at_end=args.eval_each_epoch,
                metric_for_best_model=chosen_by,
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                seed=args.seed,
                bf16=args.tuned,
                train_sampling_strategy="group_by_length" if args.tuned else "random",
            ),
            train_dataset=data["train"],
            eval_dataset=data["dev"],
            processing_class=tokenizer,
            data_collator=DataCollatorForTokenClassification(tokenizer=tokenizer),
            compute_metrics=lambda found: score(sentences(found.label_ids, found.predictions, names)),
        )
        begun = time.perf_counter()
        trainer.train()
        train_seconds, peak = time.perf_counter() - begun, common.peak_rss_mb()
        made = {}
        for part in ("dev", "test"):
            found = trainer.predict(data[part])
            made[part] = sentences(found.label_ids, found.predictions, names)
    Path(args.predictions).write_text(json.dumps(made), encoding="utf-8")
    words = {part: sum(len(row["tags"]) for row in rows[part]) for part in made}
    result = {
        "peer": "hf_tagger" + ("_tuned" if args.tuned else ""),
        "version": transformers.__version__,
        "train_seconds": round(train_seconds, 3),
        "total_seconds": round(time.perf_counter() - common.START, 3),
        "train_peak_rss_mb": round(peak, 1),
        "words_without_prediction": {
            part: words[part] - sum(len(row["tags"]) for row in own) for part, own in made.items()
        },
        "dev": score(made["dev"]),
        "test": score(made["test"]),
        "settings": {
            "epochs": args.epochs,
            "batch_size": args.batch_size,
            "learning_rate": args.lr or 2e-5,
            "seed": args.seed,
            "bf16_autocast": args.tuned,
            "sampling": "group_by_length" if args.tuned else "random",
            "eval_each_epoch": args.eval_each_epoch,
            "threads": torch.get_num_threads(),
            "prepare_seconds": round(prepare_seconds, 3),
        },
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
