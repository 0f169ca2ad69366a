"""A workspace with a model that trains in two seconds: what the tests of export, serving and update share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx

from benchmarks.servers import tiny_workspace
from noria.artifacts import MANIFEST, Artifact, read_artifact, write_artifact
from noria.evaluation.judged import Judged
from noria.evaluation.metrics import CLASSIFICATION
from noria.serving.bundle import open_bundle
from noria.serving.golden import golden_answers
from noria.serving.predictor import Predictor
from noria.workspace import Workspace

PARAMS = tiny_workspace.PARAMS + "serve: {max_batch_rows: 4, max_body_bytes: 2000}\n"

train = tiny_workspace.train


def make_workspace(root: Path) -> Workspace:
    """`params.yaml` and splits, for a server of small bodies."""
    return tiny_workspace.make_splits(root, params=PARAMS)


def inverted_bundle(bundle: Path, target: Path, *, honest: bool = False) -> Artifact:
    """The bundle with a graph that says the opposite, complete and consistent: a valid, bad model.

    Its golden answers are those of the other model, unless it is `honest`.
    """
    with write_artifact(target, kind="bundle") as draft:
        shutil.copytree(bundle, draft.path, dirs_exist_ok=True)
        (draft.path / MANIFEST).unlink()
        model = onnx.load(str(bundle / "model.onnx"))
        (last,) = (node for node in model.graph.node if "logits" in node.output)
        last.output[list(last.output).index("logits")] = "straight"
        model.graph.node.append(onnx.helper.make_node("Neg", ["straight"], ["logits"]))
        onnx.save(model, str(draft.path / "model.onnx"))
    return _with_own_golden_answers(read_artifact(target)) if honest else read_artifact(target)


def brittle_bundle(bundle: Path, target: Path, *, max_tokens: int) -> Artifact:
    """The bundle with a graph that fails on longer texts: its golden requests are short, so it proves itself."""
    with write_artifact(target, kind="bundle") as draft:
        shutil.copytree(bundle, draft.path, dirs_exist_ok=True)
        (draft.path / MANIFEST).unlink()
        model = onnx.load(str(bundle / "model.onnx"))
        (last,) = (node for node in model.graph.node if "logits" in node.output)
        last.output[list(last.output).index("logits")] = "straight"
        tokens = next(put.name for put in model.graph.input if len(put.type.tensor_type.shape.dim) == 2)
        constants = {"second": np.array(1), "one": np.array(1), "zeros": np.zeros(max_tokens, np.float32)}
        model.graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in constants.items())
        make = onnx.helper.make_node
        model.graph.node.extend(
            [
                make("Shape", [tokens], ["shape"]),
                make("Gather", ["shape", "second"], ["length"]),
                make("Sub", ["length", "one"], ["last"]),
                make("Gather", ["zeros", "last"], ["zero"]),  # an index beyond the end is an error
                make("Add", ["straight", "zero"], ["logits"]),
            ]
        )
        onnx.save(model, str(draft.path / "model.onnx"))
    return read_artifact(target)


def _with_own_golden_answers(liar: Artifact) -> Artifact:
    requests = [record["request"] for record in json.loads((liar.path / "golden.json").read_text())]
    answers = golden_answers(Predictor(open_bundle(liar.path)), requests)
    with write_artifact(liar.path, kind="bundle") as draft:
        shutil.copytree(liar.path, draft.path, dirs_exist_ok=True)
        (draft.path / MANIFEST).unlink()
        (draft.path / "golden.json").write_text(json.dumps(answers, ensure_ascii=False))
    return read_artifact(liar.path)


def resplit_bundle(bundle: Path, target: Path, *, validation_share: float) -> Artifact:
    """The bundle, as if it had been trained with another share of validation rows."""
    with write_artifact(target, kind="bundle") as draft:
        shutil.copytree(bundle, draft.path, dirs_exist_ok=True)
        (draft.path / MANIFEST).unlink()
        settings = json.loads((draft.path / "config.json").read_text())
        settings["split"]["validation_share"] = validation_share
        (draft.path / "config.json").write_text(json.dumps(settings))
    return read_artifact(target)


def opaque_bundle(target: Path, content: str) -> Artifact:
    """What the store takes for a bundle: it never looks inside the graph."""
    with write_artifact(target, kind="bundle") as draft:
        for name in ("model.onnx", "golden.json"):
            (draft.path / name).write_text(content)
        (draft.path / "config.json").write_text(json.dumps({"scenario": "text-classification"}))
    return read_artifact(target)


def opaque_checkpoint(target: Path, content: str) -> Artifact:
    """What the store takes for a checkpoint: it never looks inside."""
    with write_artifact(target, kind="checkpoint") as draft:
        (draft.path / "encoder").mkdir()
        for name in ("model.safetensors", "config.json", "encoder/encoder.json"):
            (draft.path / name).write_text(content)
    return read_artifact(target)


def judged(right: np.ndarray, *, slices: dict[str, np.ndarray] | None = None) -> Judged:
    """Two balanced classes, answered with 90 % confidence: rightly where `right`, bool (N,), is true."""
    targets = np.arange(len(right)) % 2
    said = np.where(right, targets, 1 - targets)
    outputs = np.full((len(right), 2), 0.1)
    outputs[np.arange(len(right)), said] = 0.9
    ids = tuple(f"row{i}" for i in range(len(right)))
    return Judged(
        ids, targets, outputs, ("neg", "pos"), slices or {}, metrics=CLASSIFICATION, trivial=np.zeros_like(outputs)
    )
