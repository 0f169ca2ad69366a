"""`python -m noria.serving.prove URL NAME VERSION CACHE`: does a published version serve, in a process of its own?

Prints one JSON object; what is wrong goes to standard error, with the error's exit code.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from noria.errors import BundleError, NoriaError
from noria.serving.bundle import open_bundle
from noria.serving.golden import prove
from noria.serving.predictor import Predictor
from noria.serving.store import ModelStore

_YIELDS = 10


def main(url: str, name: str, version: str, cache: str) -> int:
    """Fetch, verify, load, and answer the golden requests as when the bundle was made."""
    os.nice(_YIELDS)  # to a server on this machine
    try:
        published = ModelStore(url, name=name, cache=Path(cache)).fetch(version)
        num_golden = prove(Predictor(open_bundle(published.path)))
        if "torch" in sys.modules:
            raise BundleError("serving imported torch", where="noria.serving", expected="ONNX Runtime alone")
    except NoriaError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps({"version": version, "num_golden": num_golden}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
