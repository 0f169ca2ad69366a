"""Quality of image-text classification against either modality alone, on the run's own split.

    noria init DIR --scenario image-text-classification && noria run -C DIR
    python -m benchmarks.image_text_classification DIR

takes the last run of the workspace: its bundle, its split. The bundle answers the validation rows that have an image
and a text as they are, without the image, and without the text. The peers learn from one modality each, or from both:
a logistic regression on TF-IDF of character n-grams; a support vector machine with an RBF kernel on the pixels that our
encoder gives (of 1); and late fusion, a logistic regression on the log-odds of the two, which are had for rows that
neither has learned from by five-fold cross-validation. C and gamma are picked by five-fold cross-validation too.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from benchmarks.results import Row, write_results
from noria.config import EvaluateConfig
from noria.data.image_text_encoder import ImageTextEncoder
from noria.data.rows import read_rows
from noria.data.text_encoder import normalize
from noria.evaluation.bootstrap import paired_difference
from noria.evaluation.inference import LOGITS
from noria.evaluation.judged import Judged, read_validation
from noria.evaluation.metrics import value
from noria.scenarios.base import Row as DataRow
from noria.serving.bundle import open_bundle
from noria.serving.predictor import Predictor
from noria.workspace import Workspace

TEXT_ALONE, IMAGE_ALONE, FUSED = "TF-IDF, the text alone", "RBF-SVM, the image alone", "late fusion of the two"
_FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    workspace = Workspace.at(parser.parse_args().workspace)
    judged = judged_by_all(workspace)
    ours = judged.pop("ours")
    accuracy = ours.metrics["accuracy"]
    claim = f"accuracy on {ours.num_rows:,} held-out rows with an image and a text"
    rows = []
    for name, theirs in judged.items():
        gain = paired_difference(accuracy, ours, theirs, config=EvaluateConfig(), seed=1)
        pair = [round(value(accuracy, each), 4) for each in (ours, theirs)]
        print(f"accuracy: {pair[0]:.4f} against {pair[1]:.4f} of {name}: {gain.points()}")
        rows.append(Row(claim, "fraction", pair[0], peer=name, theirs=pair[1], bar=None if name == FUSED else 1.0))
    print(write_results("image_text_classification", rows, packages=("torch", "onnxruntime", "scikit-learn")))


def judged_by_all(workspace: Workspace) -> dict[str, Judged]:
    """Answers by name: ours, ours without the image or the text, and those of the peers."""
    bundle = open_bundle(workspace.bundle)
    encoder, scenario = bundle.encoder, bundle.scenario
    assert isinstance(encoder, ImageTextEncoder)
    whole = [row for row in read_validation(workspace.splits) if row["image"] and row["text"]]
    predictor = Predictor(bundle, workers=2)
    judged = {
        name: scenario.judge(whole, predictor.outputs([{**row, **taken} for row in whole]), encoder)
        for name, taken in {
            "ours": {},
            "ours, the image taken away": {"image": b""},
            "ours, the text taken away": {"text": ""},
        }.items()
    }
    training = [row for row in read_rows(workspace.splits / "train") if row["parent_id"] is None]
    for name, said in peers(training, whole, encoder).items():
        logits_NC = np.where(said[:, None] == np.array(encoder.labels), 30.0, 0.0)
        judged[name] = scenario.judge(whole, [{LOGITS: logits_C} for logits_C in logits_NC], encoder)
    return judged


def peers(
    training: Sequence[DataRow], whole: Sequence[DataRow], encoder: ImageTextEncoder
) -> Mapping[str, NDArray[np.str_]]:
    """What each peer says of `whole`."""
    read = GridSearchCV(
        make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True), LogisticRegression()),
        {"logisticregression__C": [1.0, 3.0, 10.0, 30.0]},
        cv=_FOLDS,
    )
    seen = GridSearchCV(SVC(kernel="rbf"), {"C": [0.3, 1.0, 3.0, 10.0], "gamma": [0.003, 0.01, 0.02]}, cv=_FOLDS)
    with_text, with_image = ([row for row in training if row[name]] for name in ("text", "image"))
    read.fit(_texts(with_text), _labels(with_text))
    seen.fit(_pixels(with_image, encoder), _labels(with_image))
    with_both = [row for row in training if row["image"] and row["text"]]
    labels = _labels(with_both)
    odds_N2 = np.column_stack(
        [
            cross_val_predict(fitted.best_estimator_, of, labels, cv=_FOLDS, method="decision_function")
            for fitted, of in ((read, _texts(with_both)), (seen, _pixels(with_both, encoder)))
        ]
    )
    fused = LogisticRegression().fit(odds_N2, labels)
    texts, pixels = _texts(whole), _pixels(whole, encoder)
    both_N2 = np.column_stack([read.decision_function(texts), seen.decision_function(pixels)])
    return {TEXT_ALONE: read.predict(texts), IMAGE_ALONE: seen.predict(pixels), FUSED: fused.predict(both_N2)}


def _labels(rows: Sequence[DataRow]) -> NDArray[np.str_]:
    return np.array([str(row["label"]) for row in rows])


def _texts(rows: Sequence[DataRow]) -> list[str]:
    return [normalize(str(row["text"])) for row in rows]


def _pixels(rows: Sequence[DataRow], encoder: ImageTextEncoder) -> NDArray[np.float32]:
    return np.stack([encoder.image.encode(row)["pixels"] for row in rows]).astype(np.float32) / 255


if __name__ == "__main__":
    main()
