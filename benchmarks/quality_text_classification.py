"""Quality of the default text classifier against a strong, simple baseline, by cross-validation.

    noria run                                                  # makes data/cleaned
    python -m benchmarks.quality_text_classification           # about 25 minutes on two cores
    python -m benchmarks.quality_text_classification --folds 0,1

The rows are those of the workspace's `data/cleaned`, made by the product's own cleaner. Five folds
by hash of the row's id: every row is judged once, by a model that has not seen it. The baseline is
TF-IDF over character 1-3-grams and logistic regression (C = 10). Both see the same rows; ours goes
through the product's encoder, trainer and checkpoint. Its epochs, blend and temperature come from
rows of the training folds. A fold that is done is kept under `.noria/` and not trained again; one that
was interrupted starts anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.results import Row, write_results
from noria.artifacts import read_artifact, write_artifact
from noria.config import Config
from noria.data.rows import ShardWriter, content_id, read_rows, row_schema
from noria.evaluation.inference import logits_of, outputs_of
from noria.evaluation.torch_run import torch_run
from noria.scenarios.base import Scenario
from noria.training.checkpoint import load_trained
from noria.training.train import train_model
from noria.workspace import Workspace

NUM_FOLDS = 5
RESAMPLES = 10_000
BAR_S = 240.0
VARIANTS: Mapping[str, Mapping[str, object]] = {
    "default": {},
    "clauses in order": {"train": {"clause_shuffle": 0.0}},
    "augmented": {"augment": {"share": 1.0}},
    "no pretraining": {"train": {"pretrain": {"epochs": 0.0}}},
}
TextRow = Mapping[str, object]


@dataclass(frozen=True)
class Fold:
    """Which rows of one fold each model got right, and what it took.

    `correct` maps a model ("ours", "wide alone", "deep alone", "baseline") to row ids.
    """

    number: int
    ids: list[str]
    correct: dict[str, list[str]]
    train_s: float
    baseline_s: float


def main() -> None:
    args = _arguments()
    workspace = Workspace.at(args.directory)
    folds = [
        _fold(number, workspace=workspace, variant=args.variant) for number in map(int, str(args.folds).split(","))
    ]
    table, rows = _judge(folds)
    print(table)
    if len(folds) == NUM_FOLDS:
        name = "quality_text_classification"
        suffix = "" if args.variant == "default" else "_" + args.variant.replace(" ", "_")
        print(write_results(name + suffix, rows, packages=("torch", "scikit-learn", "tokenizers")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-C", dest="directory", default=".", metavar="DIR", help="the workspace (default: here)")
    parser.add_argument("--folds", default="0,1,2,3,4", help="which to run (default: all)")
    parser.add_argument("--variant", choices=VARIANTS, default="default", help="an ablation that trains differently")
    return parser.parse_args()


def _fold(number: int, *, workspace: Workspace, variant: str) -> Fold:
    """Train and judge one fold, or read what an earlier run found."""
    cleaned = read_artifact(workspace.cleaned)
    config = _with(workspace.config, VARIANTS[variant])
    settings = config.model_dump_json(include={"seed", "augment", "tokenizer", "model", "train"})
    key = hashlib.sha256(f"{cleaned.digest}\0{settings}\0{number}".encode()).hexdigest()[:16]
    directory = workspace.scratch / "benchmarks" / "quality_text_classification"
    path = directory / f"{key}.json"
    if path.exists():
        return Fold(**json.loads(path.read_text(encoding="utf-8")))
    rows = list(read_rows(cleaned.path, columns=["id", "text", "label"]))
    train = [row for row in rows if _fold_of(row) != number]
    held_out = [row for row in rows if _fold_of(row) == number]
    scratch = directory / key
    shutil.rmtree(scratch, ignore_errors=True)  # a training that goes on from a kill would look faster than it is
    predicted, train_s = _ours(train, held_out, scenario=workspace.scenario, config=config, scratch=scratch)
    started = time.perf_counter()
    predicted["baseline"] = _baseline(train, held_out)
    fold = Fold(
        number=number,
        ids=[str(row["id"]) for row in held_out],
        correct={
            model: [str(row["id"]) for row, label in zip(held_out, labels, strict=True) if label == row["label"]]
            for model, labels in predicted.items()
        },
        train_s=round(train_s, 1),
        baseline_s=round(time.perf_counter() - started, 1),
    )
    path.write_text(json.dumps(asdict(fold)), encoding="utf-8")
    shutil.rmtree(scratch)
    return fold


def _fold_of(row: TextRow) -> int:
    return int.from_bytes(hashlib.sha256(f"fold\0{row['id']}".encode()).digest()[:8], "big") % NUM_FOLDS


def _with(config: Config, changes: Mapping[str, object]) -> Config:
    def merge(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
        merged = dict(below)
        for key, value in above.items():
            old = merged.get(key)
            merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        return merged

    return Config.model_validate(merge(config.model_dump(), changes))


def _ours(
    train: Sequence[TextRow], held_out: Sequence[TextRow], *, scenario: Scenario, config: Config, scratch: Path
) -> tuple[dict[str, list[str]], float]:
    """Labels by the whole model and by each branch of it alone, and the seconds that training took."""
    rows = [*_originals(train), *_augmented(train, scenario=scenario, config=config)]
    with (
        write_artifact(scratch / "splits", kind="splits") as draft,
        ShardWriter(draft.path / "train", row_schema(scenario.schema)) as writer,
    ):
        writer.write_rows(rows)
    started = time.perf_counter()
    train_model(
        read_artifact(scratch / "splits"),
        scratch / "checkpoint",
        scenario=scenario,
        config=config,
        scratch=scratch / "state",
    )
    train_s = time.perf_counter() - started
    trained = load_trained(scratch / "checkpoint", scenario=scenario)
    assert scenario.labels is not None
    labels = scenario.labels(trained.encoder)
    scales = {name: float(trained.model.get_buffer(name)) for name in ("wide_scale", "deep_scale")}
    predicted = {}
    for model, silenced in (("ours", None), ("wide alone", "deep_scale"), ("deep alone", "wide_scale")):
        for name, scale in scales.items():
            trained.model.get_buffer(name).fill_(0.0 if name == silenced else scale)
        logits = logits_of(outputs_of(held_out, encoder=trained.encoder, run=torch_run(trained.model)))
        predicted[model] = [labels[i] for i in logits.argmax(axis=1)]
    return predicted, train_s


def _originals(rows: Sequence[TextRow]) -> list[TextRow]:
    return [{**row, "origin": "cleaned", "parent_id": None} for row in rows]


def _augmented(rows: Sequence[TextRow], *, scenario: Scenario, config: Config) -> list[TextRow]:
    generator = np.random.default_rng(config.seed)
    children = []
    for row in rows:
        if generator.random() < config.augment.share:
            content = {name: row[name] for name in scenario.schema.names}
            values = scenario.augment(content, config.augment, generator)
            if values is not None:
                children.append({**values, "id": content_id(values), "origin": "cleaned", "parent_id": row["id"]})
    return children


def _baseline(train: Sequence[TextRow], held_out: Sequence[TextRow]) -> list[str]:
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1_000)
    model.fit(vectorizer.fit_transform([str(row["text"]) for row in train]), [str(row["label"]) for row in train])
    return [str(label) for label in model.predict(vectorizer.transform([str(row["text"]) for row in held_out]))]


def _judge(folds: Sequence[Fold]) -> tuple[str, list[Row]]:
    """A Markdown table with intervals, and the claims."""
    ids = [identity for fold in folds for identity in fold.ids]
    right = {
        model: np.isin(ids, [identity for fold in folds for identity in fold.correct[model]])
        for model in folds[0].correct
    }
    lines = [
        f"{len(ids):,} rows judged once, {len(folds)} of {NUM_FOLDS} folds",
        "",
        "| model | accuracy % | points over the baseline, 95 % interval (paired bootstrap) |",
        "|---|---:|---|",
    ]
    lows = {}
    for model, correct in right.items():
        gain, low, high = _paired(correct, right["baseline"])
        lows[model] = low
        lines.append(f"| {model} | {100 * correct.mean():.2f} | {gain:+.2f} [{low:+.2f}, {high:+.2f}] |")
    gain, low, high = _paired(right["ours"], right["wide alone"])
    train_s = [fold.train_s for fold in folds]
    lines += [
        "",
        f"What the Transformer adds to the wide branch: {gain:+.2f} [{low:+.2f}, {high:+.2f}] points.",
        f"Training a fold: median {statistics.median(train_s):.0f} s, longest {max(train_s):.0f} s; "
        f"the baseline {statistics.median(fold.baseline_s for fold in folds):.0f} s.",
    ]
    baseline = "TF-IDF character 1-3-grams + logistic regression, scikit-learn"
    accuracy = {model: round(100 * float(correct.mean()), 3) for model, correct in right.items()}
    rows = [
        Row("accuracy, 5-fold cross-validation", "%", accuracy["ours"], baseline, accuracy["baseline"], bar=1.0),
        Row("gain over the baseline, lower end of the paired 95 % interval", "points", lows["ours"], bar=0.0),
        Row("gain of the whole over its wide branch alone", "points", gain, bar=0.0),
        Row("accuracy of the wide branch alone", "%", accuracy["wide alone"], baseline, accuracy["baseline"]),
        Row("accuracy of the Transformer alone", "%", accuracy["deep alone"], baseline, accuracy["baseline"]),
        Row("training a fold, longest", "s", max(train_s), bar=BAR_S, higher_is_better=False, repeats=len(folds)),
    ]
    return "\n".join(lines), rows


def _paired(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Difference of accuracies in points, and its 95 % interval over resampled rows."""
    difference = ours.astype(float) - theirs.astype(float)
    generator = np.random.default_rng(0)
    means = [difference[generator.integers(0, len(difference), len(difference))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return tuple(round(100 * float(x), 3) for x in (difference.mean(), low, high))  # type: ignore[return-value]


if __name__ == "__main__":
    main()
