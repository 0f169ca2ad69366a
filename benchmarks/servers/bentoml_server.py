"""BentoML with the same ONNX file, encoder and session settings.

    python -m benchmarks.servers.bentoml_server MODELS PORT

Adaptive batching up to batches as large as ours, a worker process a core. Its batchable endpoints take lists.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bentoml

from noria.evaluation.inference import MAX_ROWS, num_cores
from noria.serving.bundle import open_bundle
from noria.serving.predictor import Predictor

_MODELS = "NORIA_BENCHMARK_MODELS"


@bentoml.service(workers=num_cores(), logging={"access": {"enabled": False}})
class Reviews:
    """The model, in BentoML's words."""

    def __init__(self) -> None:
        self._predictor = Predictor(open_bundle(Path(os.environ[_MODELS]) / "bundle"))

    @bentoml.api(batchable=True, max_batch_size=MAX_ROWS, max_latency_ms=10_000)
    def predict(self, texts: list[str]) -> list[dict[str, object]]:
        return [dict(answer) for answer in self._predictor.answer([{"text": text} for text in texts])]


def main(models: str, port: str) -> None:
    """Become its command line, which starts the workers."""
    environment = {**os.environ, _MODELS: str(Path(models).resolve()), "BENTOML_DO_NOT_TRACK": "True"}
    command = ["-m", "bentoml", "serve", "benchmarks.servers.bentoml_server:Reviews", "--port", port]
    os.execve(sys.executable, [sys.executable, *command, "--host", "127.0.0.1"], environment)


if __name__ == "__main__":
    main(*sys.argv[1:])
