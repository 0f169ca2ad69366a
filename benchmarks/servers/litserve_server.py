"""LitServe with the same ONNX file, encoder and session settings.

    python -m benchmarks.servers.litserve_server MODELS PORT

Batches as large as ours and a deadline like ours, a worker process a core.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import litserve

from noria.evaluation.inference import MAX_ROWS, num_cores
from noria.serving.bundle import open_bundle
from noria.serving.predictor import Predictor

Answer = Mapping[str, object]


class Reviews(litserve.LitAPI):
    """The model, in LitServe's words."""

    def __init__(self, models: str) -> None:
        super().__init__(max_batch_size=MAX_ROWS, batch_timeout=0.002)
        self._models = models

    def setup(self, device: str) -> None:
        self._predictor = Predictor(open_bundle(Path(self._models) / "bundle"))

    # LitServe has FastAPI check what annotations say: without them it is faster, as its documentation has it
    def decode_request(self, request):  # noqa: ANN001, ANN201
        return request["text"]

    def batch(self, inputs: Sequence[object]) -> Sequence[object]:
        return inputs

    def predict(self, texts: Sequence[object]) -> Sequence[Answer]:
        return self._predictor.answer([{"text": text} for text in texts])

    def unbatch(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        return answers

    def encode_response(self, answer):  # noqa: ANN001, ANN201
        return answer


def main(models: str, port: str) -> None:
    server = litserve.LitServer(Reviews(models), accelerator="cpu", workers_per_device=num_cores())
    server.run(host="127.0.0.1", port=int(port), log_level="error", generate_client_file=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
