"""Questions and answers in the JSON of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, arXiv:1606.05250; 2018, 1806.03822).

`{"data": [{"title", "paragraphs": [{"context", "qas": [{"question", "answers": [{"text", "answer_start"}],
"is_impossible"}]}]}]}`: one object, which is read as a whole. A row is one question; its number is its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice

from noria.config import SourceConfig
from noria.data.blocks import Block, Rejected, Wanted
from noria.data.sources import SourceFile
from noria.errors import ConfigError, SourceError

DOCUMENT, CONTEXT, QUESTION, ANSWER, START, OTHERS = (
    "document",
    "context",
    "question",
    "answer",
    "answer_start",
    "other_answers",
)
"""The columns of a row; all are text. `other_answers` is a JSON list of more right answers."""

_MOST_BYTES = 512 << 20
_HEAD_BYTES = 4_096
_BLOCK_ROWS = 5_000
_BEGINNING = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*(?:"\w+"\s*:\s*(?:"[^"]*"|[\w.+-]+)\s*,\s*)*"data"\s*:\s*\[')
"""Behind a byte order mark and what else the file says of itself."""

Found = tuple[int, Mapping[str, str]] | Rejected


def is_squad(file: SourceFile, wanted: Wanted) -> bool:
    """Whether a JSON file begins as SQuAD's do, and rows of questions are wanted."""
    if QUESTION not in wanted.columns:
        return False
    with file.open() as stream:
        return _BEGINNING.match(stream.read(_HEAD_BYTES)) is not None


def read_squad(file: SourceFile, source: SourceConfig, wanted: Wanted) -> Iterator[Block | Rejected]:
    """The questions of a file; a question without what makes it a row is rejected.

    Raises
    ------
    SourceError
        When the file is no such JSON.
    ConfigError
        When other columns are wanted than a question has.
    """
    if unknown := sorted(wanted.columns.keys() - {DOCUMENT, CONTEXT, QUESTION, ANSWER, START, OTHERS}):
        raise ConfigError(
            f"files of SQuAD have no column `{unknown[0]}`",
            where=f"params.yaml: source ({file.name})",
            expected="the scenario `question-answering`, without `source.carry` and `source.label_from`",
            next_step="give the data as CSV, JSONL or Parquet",
        )
    found = _questions(file, source)
    while part := list(islice(found, _BLOCK_ROWS)):
        yield from (each for each in part if isinstance(each, Rejected))
        rows = [each for each in part if not isinstance(each, Rejected)]
        columns = {name: [values[name] for _, values in rows] for name in wanted.columns}
        yield Block(file.name, [number for number, _ in rows], columns)


def _questions(file: SourceFile, source: SourceConfig) -> Iterator[Found]:
    number = 0
    for article in _articles(file, source):
        parts = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(article, dict) or not isinstance(parts, list):
            number += 1
            yield _rejected(file, number, article, "an article without a list of `paragraphs`")
            continue
        title = str(article.get("title") or "")
        for paragraph in parts:
            asked = paragraph.get("qas") if isinstance(paragraph, dict) else None
            context = paragraph.get("context") if isinstance(paragraph, dict) else None
            if not isinstance(asked, list) or not isinstance(context, str):
                number += 1
                yield _rejected(file, number, paragraph, "a paragraph without a `context` and a list of `qas`")
                continue
            for question in asked:
                number += 1
                values = _row(question, title=title, context=context)
                if isinstance(values, str):
                    yield _rejected(file, number, {"context": context, "qas": [question]}, values)
                elif (size := sum(map(_num_bytes, values.values()))) > source.max_row_bytes:
                    head = {name: text[:1_000] for name, text in values.items()}
                    reason = f"{size:,} bytes, and source.max_row_bytes is {source.max_row_bytes:,}"
                    yield Rejected(f"{file.name}:{number}", {**head, "truncated": True}, "too_long", reason)
                else:
                    yield number, values


def _row(question: object, *, title: str, context: str) -> dict[str, str] | str:
    """The columns of a question, or why it is no row."""
    if not isinstance(question, dict) or not isinstance(question.get("question"), str):
        return "no `question`"
    answers = question.get("answers") or []
    if not isinstance(answers, list) or not all(
        isinstance(a, dict) and isinstance(a.get("text"), str) for a in answers
    ):
        return "`answers` is no list of objects with a `text`"
    answers = [answer for answer in answers if answer["text"].strip()]  # a blank one would say that there is none
    impossible = question.get("is_impossible") is True
    if not answers and not impossible:
        return "no answers, and `is_impossible` is not true"
    first = {} if impossible else answers[0]
    start = first.get("answer_start")
    others = [] if impossible else list(dict.fromkeys(a["text"] for a in answers[1:] if a["text"] != first["text"]))
    return {
        DOCUMENT: title,
        CONTEXT: context,
        QUESTION: question["question"],
        ANSWER: first.get("text", ""),
        START: "" if start is None else str(start),
        OTHERS: json.dumps(others, ensure_ascii=False) if others else "",
    }


def _number(digits: str) -> float:
    """`int` refuses more than 4,300 digits, and the file with them; no offset has as many."""
    return int(digits) if len(digits) <= 4_000 else float(digits)


def _articles(file: SourceFile, source: SourceConfig) -> list[object]:
    with file.open() as stream:
        raw = stream.read(_MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:
        raise _no_squad(file, f"more than {_MOST_BYTES >> 20} MiB", "give the data as JSON Lines")
    try:
        parsed = json.loads(
            raw.removeprefix(b"\xef\xbb\xbf").decode(source.encoding, "surrogateescape"), parse_int=_number
        )
    except (ValueError, RecursionError) as error:
        raise _no_squad(file, str(error), "check that the file is whole") from error
    articles = parsed.get("data") if isinstance(parsed, dict) else None
    if not isinstance(articles, list):
        raise _no_squad(file, "there is no list `data`", "set `source.format` in params.yaml to what the file is")
    return articles


def _no_squad(file: SourceFile, what: str, advice: str) -> SourceError:
    expected = 'one JSON object {"data": [{"title": …, "paragraphs": [{"context": …, "qas": […]}]}]}'
    return SourceError(f"not the JSON of SQuAD: {what}", where=file.path, expected=expected, next_step=advice)


def _rejected(file: SourceFile, number: int, part: object, reason: str) -> Rejected:
    raw = json.dumps(part, ensure_ascii=False)[:4_000]
    return Rejected(f"{file.name}:{number}", {"raw": raw}, "malformed_squad", reason)


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
