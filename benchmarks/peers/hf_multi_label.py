"""Any number of labels a text with transformers' Trainer: problem_type "multi_label_classification", all else as in
the text-classification example.

Rows are CSV with the columns text,labels (joined by ";", empty for none). After each epoch the validation rows are
scored; the weights of the best epoch are kept (--keep last: those of the last). Labels are given from the threshold,
one for all, whose micro-F1 on the validation rows is best; scores at 0.5 stand beside.
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
import csv
import json
import tempfile
import time
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def read_arguments() -> argparse.Namespace:
    parser = common.build_parser(__doc__)
    parser.add_argument("--keep", choices=("best", "last"), default="best", help="weights of which epoch")
    return parser.parse_args()


def read_rows(path: str) -> tuple[list[str], list[set[str]]]:
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return [row["text"] for row in rows], [set(row["labels"].split(";")) - {""} for row in rows]


def f1_of(truth: Any, given: Any) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "micro_f1": round(float(f1_score(truth, given, average="micro", zero_division=0)), 5),
        "macro_f1": round(float(f1_score(truth, given, average="macro", zero_division=0)), 5),
        "exact_match": round(float(accuracy_score(truth, given)), 5),
    }


def best_threshold(truth: Any, probabilities: Any) -> float:
    """The one with the best micro-F1, from scikit-learn's curve."""
    import numpy as np
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(truth.ravel(), probabilities.ravel())
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[f1[:-1].argmax()])


def probabilities_of(output: Any) -> Any:
    import numpy as np

    return 1 / (1 + np.exp(-np.asarray(output.predictions, dtype=float)))


def validation_scores(output: Any) -> dict[str, float]:
    probabilities = probabilities_of(output)
    truth = output.label_ids.astype(int)
    return f1_of(truth, probabilities >= best_threshold(truth, probabilities))


def trainer_of(args: argparse.Namespace, data: dict[str, Any], names: list[str], tokenizer: Any, folder: str) -> Any:
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

    model = AutoModelForSequenceClassification.from_pretrained(
        args.model, num_labels=len(names), problem_type="multi_label_classification"
    )
    epoch = "epoch" if args.keep == "best" else "no"
    grouped = {"train_sampling_strategy": "group_by_length"} if args.tuned else {}
    arguments = TrainingArguments(
        output_dir=folder,
        learning_rate=args.lr or 2e-5,
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=64,
        num_train_epochs=args.epochs,
        weight_decay=0.01,
        eval_strategy=epoch,
        save_strategy=epoch,
        save_total_limit=1,
        load_best_model_at_end=args.keep == "best",
        metric_for_best_model="micro_f1",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=args.seed,
        bf16=args.tuned,
        **grouped,
    )
    return Trainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data["dev"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer=tokenizer),
        compute_metrics=validation_scores,
    )


def encoded(rows: dict[str, Any], names: Any, tokenizer: Any) -> dict[str, Any]:
    """Each part as Trainer takes it."""
    from datasets import Dataset

    return {
        part: Dataset.from_dict({"text": texts, "labels": names.transform(sets).astype("float32").tolist()}).map(
            lambda some: tokenizer(some["text"], truncation=True), batched=True, remove_columns=["text"]
        )
        for part, (texts, sets) in rows.items()
    }


def scored(outputs: dict[str, Any]) -> dict[str, Any]:
    """Scores of validation and test rows at the threshold that suits the validation rows, and at 0.5."""
    truth = {part: output.label_ids.astype(int) for part, output in outputs.items()}
    found = {part: probabilities_of(output) for part, output in outputs.items()}
    threshold = best_threshold(truth["dev"], found["dev"])
    return {
        "threshold": round(threshold, 4),
        **{part: f1_of(truth[part], found[part] >= threshold) for part in ("dev", "test")},
        "test_at_0.5": f1_of(truth["test"], found["test"] >= 0.5),
    }


def main() -> None:
    args = read_arguments()
    import torch
    import transformers
    from datasets import disable_progress_bars
    from sklearn.preprocessing import MultiLabelBinarizer
    from transformers import AutoTokenizer

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    transformers.set_seed(args.seed)
    rows = {part: read_rows(getattr(args, part)) for part in ("train", "dev", "test")}
    if args.limit:
        rows["train"] = tuple(column[: args.limit] for column in rows["train"])
    names = MultiLabelBinarizer().fit(rows["train"][1])
    begun = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    data = encoded(rows, names, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(args, data, list(names.classes_), tokenizer, folder)
        prepared = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
        peak = common.peak_rss_mb()
        outputs = {part: trainer.predict(data[part]) for part in ("dev", "test")}
    result = {
        "peer": "hf_trainer_multi_label" + ("_tuned" if args.tuned else ""),
        "version": transformers.__version__,
        "train_seconds": round(trained - prepared, 3),
        "total_seconds": round(time.perf_counter() - common.START, 3),
        "examples_per_second": round(len(data["train"]) * args.epochs / (trained - prepared), 2),
        **scored(outputs),
        "train_peak_rss_mb": round(peak, 1),
    }
    print(json.dumps(result | {"settings": settings_of(args, torch) | {"prepare_seconds": round(prepared - begun, 3)}}))


def settings_of(args: argparse.Namespace, torch: Any) -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "learning_rate": args.lr or 2e-5,
        "seed": args.seed,
        "bf16_autocast": args.tuned,
        "sampling": "group_by_length" if args.tuned else "random",
        "keep": args.keep,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    main()
