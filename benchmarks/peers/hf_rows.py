"""A class or a number for each text or pair of texts, with transformers' Trainer.

All weights move, as its guide does it: the sequence-classification class with the problem type of the task. The epoch
that is best on the dev rows is kept, by macro-F1 or Spearman correlation. --tuned is what the library itself offers for
speed on a CPU: bf16 autocast, and batches grouped by length. Files are CSV with the columns text, or text_a and text_b;
and label (a class) or score (a number).

Prints one JSON line: seconds, settings, and what the model says of the dev and test rows, labels or numbers, to be
scored like any other contender's.
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
from functools import partial
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
KINDS = {"label": "single_label_classification", "score": "regression"}
PARTS = ("train", "dev", "test")


def rows_of(path: str) -> tuple[list[dict[str, str]], str]:
    """The rows of a file, and the column that holds what is to be learnt."""
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return rows, next(name for name in KINDS if name in rows[0])


def prepared(args: argparse.Namespace, tokenizer: Any) -> tuple[dict[str, Any], str, list[str]]:
    """Tokenised parts with their targets, the column of the targets, and the labels."""
    from datasets import Dataset

    read = {part: rows_of(getattr(args, part)) for part in PARTS}
    column = read["train"][1]
    labels = sorted({row[column] for row in read["train"][0]}) if column == "label" else ["score"]
    made = {}
    for part, (rows, _) in read.items():
        names = [name for name in ("text", "text_a", "text_b") if name in rows[0]]
        encoded = tokenizer(*([row[name] for row in rows] for name in names), truncation=True)
        targets = [labels.index(row[column]) if column == "label" else float(row[column]) for row in rows]
        made[part] = Dataset.from_dict({**encoded, "labels": targets})
    return made, column, labels


def scored(column: str, found: Any) -> dict[str, float]:
    """What chooses the epoch."""
    from scipy.stats import spearmanr
    from sklearn.metrics import f1_score

    said, truth = found
    if column == "score":
        return {"main": float(spearmanr(said.squeeze(-1), truth).statistic)}
    return {"main": float(f1_score(truth, said.argmax(-1), average="macro"))}


def main() -> None:
    args = common.build_parser(__doc__).parse_args()

    import torch
    import transformers
    from datasets import disable_progress_bars

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    transformers.set_seed(args.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    data, column, labels = prepared(args, tokenizer)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        args.model, num_labels=len(labels), problem_type=KINDS[column]
    )
    with tempfile.TemporaryDirectory() as folder:
        options = {"train_sampling_strategy": "group_by_length"} if args.tuned else {}
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            learning_rate=args.lr or 2e-5,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=args.batch_size,
            num_train_epochs=args.epochs,
            weight_decay=0.01,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="main",
            greater_is_better=True,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=args.seed,
            bf16=args.tuned,
            **options,
        )
        trainer = transformers.Trainer(
            model=model,
            args=arguments,
            train_dataset=data["train"],
            eval_dataset=data["dev"],
            compute_metrics=partial(scored, column),
            processing_class=tokenizer,
            data_collator=transformers.DataCollatorWithPadding(tokenizer=tokenizer),
        )
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
        trainer.args.train_sampling_strategy = "random"  # grouping would reorder what is predicted
        said = {}
        for part in ("dev", "test"):
            output = trainer.predict(data[part])
            if output.label_ids.tolist() != torch.tensor(data[part]["labels"][:]).tolist():
                raise SystemExit(f"the {part} rows were predicted in another order")
            said[part] = output.predictions
    answers = {
        part: [labels[best] for best in found.argmax(-1)] if column == "label" else found.squeeze(-1).tolist()
        for part, found in said.items()
    }
    facts = {"torch": torch.__version__, "transformers": transformers.__version__, "threads": torch.get_num_threads()}
    settings = {"rate": args.lr or 2e-5, "epochs": args.epochs, "batch_size": args.batch_size, "tuned": args.tuned}
    print(json.dumps({"seconds": round(seconds, 3), "settings": {**settings, **facts}, "answers": answers}))


if __name__ == "__main__":
    main()
