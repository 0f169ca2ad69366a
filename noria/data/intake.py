"""What the update adds to a source: objects that the gate refused as a whole, and rows that feedback became.

sources/intake/refused.yaml             one object a line, with the reason; training leaves it out
sources/intake/feedback/<digest>.jsonl  labelled rows, one a line; named by the feedback that they were made of
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import yaml
from fsspec.implementations.local import LocalFileSystem

from noria.data.blocks import Block
from noria.data.media import binary_columns, from_base64, to_base64
from noria.data.sources import INTAKE, SourceFile
from noria.errors import ConfigError

FEEDBACK = "feedback"
"""What the origin of a row that feedback became begins with: `feedback:<id>`."""
_HEAD = """\
# Objects of the source that the gate refused as a whole: training leaves them out, each in the state that its tag
# names. Delete a line to have that object tried again.
"""


@dataclass(frozen=True)
class Refused:
    """An object that the gate refused as a whole, in one state of it."""

    object: str
    tag: str
    time: str
    """UTC, ISO 8601."""
    reason: str


def make_intake(base: Path) -> None:
    """An intake with nothing in it, where there is none."""
    if not _refused_yaml(base).exists():
        write_refused(base, [])


def read_refused(base: Path) -> list[Refused]:
    """The objects that were refused.

    Raises
    ------
    ConfigError
        When the file is not what `write_refused` writes.
    """
    path = _refused_yaml(base)
    try:
        lines = yaml.safe_load(path.read_text(encoding="utf-8")) or []
        return [Refused(**line) for line in lines]
    except FileNotFoundError:
        return []
    except (yaml.YAMLError, TypeError) as error:
        raise ConfigError(
            f"no list of refused objects: {error}",
            where=str(path),
            expected="one object a line, with object, tag, time and reason",
            next_step="mend the line, or delete it: its object is then tried again",
        ) from error


def write_refused(base: Path, refused: Sequence[Refused]) -> None:
    """Write the list, all of it or nothing."""
    lines = (f"- {json.dumps(asdict(each), ensure_ascii=False)}\n" for each in refused)
    write_whole(_refused_yaml(base), _HEAD + "".join(lines))


def feedback_files(base: Path) -> list[SourceFile]:
    """The files of rows that feedback became."""
    directory = base / INTAKE / FEEDBACK
    local = LocalFileSystem()
    return [
        SourceFile(f"{INTAKE}/{FEEDBACK}/{path.name}", str(path), "feedback", local)
        for path in sorted(directory.glob("*.jsonl"))
    ]


def feedback_file(base: Path, taken: Iterable[str]) -> Path:
    """The file of the rows that this feedback became.

    Not by the number of an intake: another store, or one that was restored, has other intakes of the same numbers.
    """
    name = hashlib.sha256("\n".join(sorted(taken)).encode()).hexdigest()[:16]
    return base / INTAKE / FEEDBACK / f"{name}.jsonl"


def write_feedback(path: Path, rows: Sequence[tuple[str, Mapping[str, object]]]) -> None:
    """Write rows, each with the id of its feedback, all of them or nothing; bytes as base64."""
    lines = []
    for name, values in rows:
        plain = {key: to_base64(value) if isinstance(value, bytes) else value for key, value in values.items()}
        lines.append(json.dumps({"feedback": name, "values": plain}, ensure_ascii=False) + "\n")
    write_whole(path, "".join(lines))


def read_feedback(file: SourceFile, *, schema: pa.Schema) -> Iterator[Block]:
    """The rows of one file; what the scenario's columns have and a row does not is null."""
    binary = binary_columns(schema)
    with file.open() as stream:
        for line in stream:
            row = json.loads(line)
            values = {name: row["values"].get(name) for name in schema.names}
            values |= {name: from_base64(values[name]) for name in binary if values[name] is not None}
            yield Block(FEEDBACK, [row["feedback"]], {name: [value] for name, value in values.items()})


def write_whole(path: Path, text: str) -> None:
    """A file that is there whole or not at all, also when the machine stops."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _refused_yaml(base: Path) -> Path:
    return base / INTAKE / "refused.yaml"
