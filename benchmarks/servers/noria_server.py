"""Ours: `python -m benchmarks.servers.noria_server MODELS PORT [SETTINGS]`, as `noria serve` runs it.

MODELS is a workspace's `models/`; SETTINGS is JSON under `serve`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from noria.config import ServeConfig
from noria.serving.app import create_app
from noria.serving.bundle import open_bundle
from noria.serving.predictor import Predictor
from noria.serving.server import listen, serve_app


def main(models: str, port: str, settings: str = "{}") -> None:
    config = ServeConfig(port=int(port), **{"access_log": False, **json.loads(settings)})
    predictor = Predictor(open_bundle(Path(models) / "bundle"), threads=config.threads)
    serve_app(create_app({"model": predictor}, config=config), listen(config))


if __name__ == "__main__":
    main(*sys.argv[1:])
