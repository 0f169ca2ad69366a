"""`noria predict`: answers of the live model, for one input or for a file of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from noria.cli.options import add_directory

if TYPE_CHECKING:
    from noria.scenarios.base import Scenario

_ROWS_AT_ONCE = 1024


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("predict", help="ask the live model")
    parser.add_argument("input", nargs="?", metavar="TEXT", help="one input")
    parser.add_argument(
        "--file",
        metavar="FILE",
        help="inputs, one a line: JSON objects or plain text; - is standard input; empty lines are skipped",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, in input order")
    parser.add_argument("--version", metavar="VERSION", help="ask this published version instead of the live one")
    add_directory(parser)


def run(args: argparse.Namespace) -> int:
    """Answer in input order, a batch at a time: the input may be larger than memory."""
    from noria.cli.model import live_version
    from noria.errors import SourceError
    from noria.evaluation.inference import num_cores
    from noria.serving.bundle import open_bundle
    from noria.serving.predictor import Predictor
    from noria.serving.store import store_of
    from noria.workspace import Workspace

    if (args.input is None) == (args.file is None):
        raise SourceError(
            "nothing to predict" if args.input is None else "one input and a file at once",
            expected='`noria predict "…"`, or `noria predict --file reviews.jsonl` (- is standard input)',
        )
    store = store_of(Workspace.at(args.directory))
    version = args.version or live_version(store).version
    predictor = Predictor(open_bundle(store.fetch(version).path), workers=num_cores())
    scenario = predictor.bundle.scenario
    with _lines(args.input, args.file) as (lines, name):
        requests = (_request(line, number, name, scenario) for number, line in enumerate(lines, 1) if line.strip())
        while batch := list(islice(requests, _ROWS_AT_ONCE)):
            for response in predictor.answer(batch):
                print(json.dumps(response, ensure_ascii=False) if args.json else _plain(response))
    return 0


@contextmanager
def _lines(given: str | None, file: str | None) -> Iterator[tuple[Iterable[str], str]]:
    """The lines of the input and what to call it."""
    from noria.errors import SourceError

    if given is not None:
        yield [given], "the input"
        return
    name = "standard input" if file == "-" else str(file)
    try:
        with _open(file) as opened:
            yield opened, name
    except UnicodeDecodeError as error:
        raise SourceError(f"not UTF-8 text: {error}", where=name, expected="UTF-8") from error


def _open(file: str | None) -> TextIO:
    """A file, or - for standard input, as UTF-8 with or without a byte order mark."""
    from noria.errors import SourceError

    if file == "-":
        return TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig")
    assert file is not None
    try:
        return Path(file).open(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"the file can't be read: {error.strerror}", where=file, expected="a text file") from error


def _request(line: str, number: int, name: str, scenario: Scenario) -> Mapping[str, object]:
    """A JSON object with the request's fields (others are left out), or plain text for a request of one field."""
    from pydantic import ValidationError

    from noria.errors import SourceError

    fields = tuple(scenario.request.model_fields)
    text = line.rstrip("\r\n")
    try:
        values: Mapping[str, object]
        if text.lstrip().startswith("{"):
            values = {key: value for key, value in json.loads(text).items() if key in fields}
        else:
            values = scenario.as_request_of_text(text)
        return scenario.row_of(scenario.request.model_validate(values))
    except (ValidationError, ValueError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise SourceError(
            f"not a request: {what}",
            where=f"{name}:{number}",
            expected=f"plain text or a JSON object with {', '.join(fields)}",
            next_step=f"for example {json.dumps(dict(scenario.example), ensure_ascii=False)}",
        ) from error


def _plain(response: Mapping[str, object]) -> str:
    """The first field, and how sure the model is of it."""
    answer = next(iter(response.values()))
    scores = response.get("scores")
    sure = scores.get(answer) if isinstance(scores, Mapping) else None
    return f"{answer}\t{sure:.1%}" if isinstance(sure, float) else str(answer)
