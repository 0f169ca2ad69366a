"""A bundle as a model repository of Triton Inference Server, for teams that run one.

    DIRECTORY/NAME/config.pbtxt
                   1/model.onnx
                   encoder/ config.json MODEL_CARD.md DATA_CARD.md manifest.json

Triton runs the graph alone: it takes and gives tensors. What turns requests into them (and answers into
words) is `scenario.load_encoder(encoder)`, on the side of the client. Format: Triton's model
configuration, https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from noria.artifacts import MANIFEST
from noria.errors import BundleError, ConfigError
from noria.serving.bundle import CARD, CONFIG, DATA_CARD, ENCODER, GOLDEN, MODEL, Bundle

CONFIGURATION = "config.pbtxt"
_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
}
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def write_triton(bundle: Bundle, directory: Path, *, name: str, max_batch_rows: int, max_delay_ms: float) -> Path:
    """The model's own directory in the repository `directory`, which appears as a whole.

    Raises
    ------
    BundleError
        When the graph takes or gives what Triton has no name for, or does not say that its first axis is the batch.
    ConfigError
        When there is something at that place already, or the name is none for Triton.
    """
    target = directory / name
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"`{name}` is no name for Triton",
            where="`name` in params.yaml",
            expected="letters, digits, `_`, `.` and `-`",
            next_step="`--name` gives it another one there",
        )
    if target.exists():
        raise ConfigError(
            "there is a model of this name already",
            where=str(target),
            expected="a repository without it",
            next_step="name another --output, or remove it",
        )
    directory.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=directory))
    try:
        configuration = model_configuration(bundle.model, name=name, rows=max_batch_rows, delay_ms=max_delay_ms)
        (draft / CONFIGURATION).write_text(configuration, encoding="utf-8")
        (draft / "1").mkdir()
        shutil.copyfile(bundle.model, draft / "1" / MODEL)
        shutil.copytree(bundle.artifact.path / ENCODER, draft / ENCODER)
        for file in (CONFIG, GOLDEN, CARD, DATA_CARD, MANIFEST):
            if (bundle.artifact.path / file).exists():  # bundles of before have no data card
                shutil.copyfile(bundle.artifact.path / file, draft / file)
        draft.chmod(0o755)
        draft.replace(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return target


def model_configuration(model: Path, *, name: str, rows: int, delay_ms: float) -> str:
    """config.pbtxt: what the graph takes and gives, batches of up to `rows` rows of one shape, one thread a batch."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is only read
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f'default_model_filename: "{MODEL}"',
        f"max_batch_size: {rows}",
        *_tensors("input", session.get_inputs(), model),
        *_tensors("output", session.get_outputs(), model),
        f"dynamic_batching {{ max_queue_delay_microseconds: {round(1_000 * delay_ms)} }}",
        "instance_group [ { kind: KIND_CPU } ]",
        'parameters { key: "intra_op_thread_count" value: { string_value: "1" } }',
        'parameters { key: "inter_op_thread_count" value: { string_value: "1" } }',
    ]
    return "\n".join(lines) + "\n"


def _tensors(kind: str, tensors: Sequence[onnxruntime.NodeArg], model: Path) -> list[str]:
    """One entry a tensor; the batch, which comes first, goes without saying."""
    entries = []
    for tensor in tensors:
        if tensor.type not in _TYPES or not tensor.shape or isinstance(tensor.shape[0], int):
            raise BundleError(
                f"Triton can't batch `{tensor.name}`: {tensor.type} {tensor.shape}",
                where=str(model),
                expected=f"one of {', '.join(_TYPES)}, with an open batch in front",
                next_step="serve it with `noria serve`",
            )
        dims = [size if isinstance(size, int) else -1 for size in tensor.shape[1:]]
        shape = f"dims: {dims}" if dims else "dims: [ 1 ], reshape: { shape: [ ] }"
        entries.append(f'{kind} [ {{ name: "{tensor.name}", data_type: {_TYPES[tensor.type]}, {shape} }} ]')
    return entries
