"""The usual first server: FastAPI around the PyTorch model, a request at a time on the framework's own threads.

    python -m benchmarks.servers.torch_server MODELS PORT

The same weights and the same encoder as ours, from `MODELS/checkpoint`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from noria.evaluation.inference import outputs_of
from noria.evaluation.torch_run import torch_run
from noria.scenarios import load_scenario
from noria.training.checkpoint import load_trained


class Request(BaseModel):
    """One text."""

    text: str


def main(models: str, port: str) -> None:
    torch.set_num_threads(1)  # requests run side by side
    scenario = load_scenario("text-classification")
    trained = load_trained(Path(models) / "checkpoint", scenario=scenario)
    run = torch_run(trained.model)
    app = FastAPI()

    @app.post("/predict")
    def predict(request: Request) -> Mapping[str, object]:
        rows = [{"text": request.text}]
        return scenario.decode(rows, outputs_of(rows, encoder=trained.encoder, run=run), trained.encoder)[0]

    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
