"""A bare GPU host: a Python with little, and a plain copy of this repository."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def put_on_path(wheels: Path | None, unzipped: Path) -> None:
    """Make the repository and the wheels importable, here and in the processes that are started here.

    Nothing is installed: wheels are unzipped for this run. What this Python has of the same name stays behind.

    Exits with 2, and the command that downloads the wheels, when pydantic can't be imported then.
    """
    entries = [str(REPOSITORY)]
    for wheel in sorted(wheels.glob("*.whl")) if wheels else ():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unzipped)
        entries = [str(REPOSITORY), str(unzipped)]
    sys.path[:1] = entries  # in place of the directory of whatever is run
    os.environ["PYTHONPATH"] = os.pathsep.join([*entries, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        import pydantic  # noqa: F401 - whether it is there, with its compiled part
    except ImportError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        print(
            f"{error}. Noria reads its settings with pydantic, whose pydantic_core is compiled. Where there is a "
            f"network, download wheels of this Python ({version}) and machine, bring them here and name their "
            f"directory with --wheels:\n    pip download --dest wheels --only-binary=:all: --python-version {version} "
            f"--platform manylinux2014_{os.uname().machine} pydantic",
            file=sys.stderr,
        )
        sys.exit(2)
