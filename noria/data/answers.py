"""Questions about a text and their answers in it as data: measured for the gate, repaired, compared, sliced.

Everything here is a pure function of one row or one batch. What `measure` calls a fault is what `repair`
removes or refuses, so that repaired rows pass the gate's row rules. Offsets count code points. An empty
answer says that the context has none.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from noria.config import AugmentConfig, CleanConfig
from noria.data import text
from noria.data.codepoints import CONTROL_CLASS
from noria.data.mojibake import is_mojibake
from noria.data.squad import ANSWER, CONTEXT, OTHERS, QUESTION, START
from noria.scenarios.base import Repaired

MEASURED = (
    pa.field("num_context_chars", pa.int64()),
    pa.field("num_question_chars", pa.int64()),
    pa.field("num_answer_chars", pa.int64()),
    pa.field("is_unanswerable", pa.bool_()),
    pa.field("has_misplaced_answer", pa.bool_()),
    pa.field("num_control_chars", pa.int64()),
    pa.field("has_mojibake", pa.bool_()),
    pa.field("has_replacement", pa.bool_()),
)
"""The columns that `measure` adds, in order."""

_KEPT = frozenset({"html", "whitespace"})
"""Tags and line ends are content here."""
_REPAIRABLE_CHARS = 20_000
_control = re.compile(f"[{CONTROL_CLASS}]")
_ASKED = {
    "asks what": r"what\b|什么|甚麼|何が",
    "asks which": r"which\b|哪(?!里|儿)",
    "asks who": r"who(?:m|se)?\b|谁|誰",
    "asks when": r"when\b|何时|几时|什么时候",
    "asks where": r"where\b|哪里|哪儿|何处",
    "asks why": r"why\b|为什么|为何",
    "asks how many": r"how (?:many|much|long|old|often)\b|多少|几个",
    "asks how": r"how\b(?! (?:many|much|long|old|often)\b)|怎么|怎样|如何",
}
_asked = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _ASKED.items()}


@dataclass(frozen=True)
class Place:
    """Where an answer is in its context.

    Attributes
    ----------
    start:
        Of the first character, or -1: without an answer, or without a place.
    text:
        The answer in the context's own words.
    repair:
        What had to be changed of the row, "" if nothing.
    rule, reason:
        Why there is no place, "" if there is one.
    """

    start: int
    text: str
    repair: str = ""
    rule: str = ""
    reason: str = ""


def locate(context: str, answer: str, start: object) -> Place:
    """The place of an answer: where `start` says, or the only place that it can be.

    A start that does not fit may count UTF-16 units or UTF-8 bytes. An answer that is not in its
    context letter by letter may be so but for case and white space.
    """
    if not answer:
        return Place(-1, "")
    if not answer.strip():
        return Place(-1, "", rule="blank_answer", reason="the answer is white space")
    given = _number(start)
    if given is not None and given >= 0 and context.startswith(answer, given):
        return Place(given, answer)
    found = occurrences(context, answer)
    if len(found) == 1:
        return Place(found[0], answer, repair="" if start in (None, "") else "answer_start")
    if found:
        in_units = {_in_code_points(context, given, encoding) for encoding in ("utf-16-le", "utf-8")} & set(found)
        if len(in_units) == 1:
            return Place(in_units.pop(), answer, repair="answer_start")
        what = "there is no start" if start in (None, "") else f"the start, {start}, is none of these"
        reason = f"the answer is in its context {len(found)} times, and {what}"
        return Place(-1, "", rule="ambiguous_answer", reason=reason)
    loose = re.compile(r"\s+".join(map(re.escape, answer.split())), re.IGNORECASE)
    alike = [match for match in loose.finditer(context) if match[0]]
    at_start = [match for match in alike if match.start() == given]
    if len(at_start or alike) == 1:
        (match,) = at_start or alike
        return Place(match.start(), match[0], repair="answer_text")
    if alike:
        reason = f"the answer is in its context {len(alike)} times but for case and white space, never as it stands"
        return Place(-1, "", rule="ambiguous_answer", reason=reason)
    return Place(-1, "", rule="answer_not_in_context", reason="the answer is no part of its context")


def occurrences(context: str, answer: str) -> list[int]:
    """Where an answer begins in a context, overlaps included."""
    found, start = [], context.find(answer)
    while start >= 0:
        found.append(start)
        start = context.find(answer, start + 1)
    return found


def _number(start: object) -> int | None:
    try:
        value = float(str(start))
    except ValueError:
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None


def _in_code_points(context: str, offset: int | None, encoding: str) -> int:
    """An offset that counts units of an encoding in code points, or -1."""
    if offset is None or offset < 0:
        return -1
    size = 2 if encoding == "utf-16-le" else 1
    head = context.encode(encoding, "surrogatepass")[: size * offset]
    try:
        return len(head.decode(encoding, "surrogatepass"))
    except UnicodeDecodeError:  # it points into a character
        return -1


def place_of(values: Mapping[str, object]) -> Place:
    """`locate` of a row; a null counts as an empty text."""
    return locate(str(values[CONTEXT] or ""), str(values[ANSWER] or ""), values.get(START))


def right_answers(values: Mapping[str, object]) -> tuple[str, ...]:
    """All right answers of a row: its own, and those of `other_answers`, a JSON list or one more answer."""
    given = str(values.get(OTHERS) or "")
    try:
        parsed = json.loads(given) if given.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        parsed = None
    others = parsed if isinstance(parsed, list) and all(isinstance(o, str) for o in parsed) else [given] * bool(given)
    return (str(values[ANSWER] or ""), *others)


def measure(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch and the columns of `MEASURED` behind its own; a null counts as an empty text.

    Characters are code points. A misplaced answer is one that `locate` does not find, or not where and
    as the row says.
    """
    columns = (batch.column(name).to_pylist() for name in (CONTEXT, QUESTION, ANSWER, START))
    measured = [_measure(*(value or "" for value in row)) for row in zip(*columns, strict=True)]
    for number, field in enumerate(MEASURED):
        batch = batch.append_column(field, pa.array([row[number] for row in measured], field.type))
    return batch


def _measure(context: str, question: str, answer: str, start: str) -> tuple[object, ...]:
    place = locate(context, answer, start)
    whole = f"{context}\n{question}\n{answer}"
    return (
        len(context),
        len(question),
        len(answer),
        not answer,
        bool(place.rule or place.repair),
        len(_control.findall(whole)),
        any(map(is_mojibake, (context, question, answer))),
        text.REPLACEMENT in whole,
    )


def repair(values: Mapping[str, object], config: CleanConfig) -> Repaired:
    """The row with its texts repaired and its answer in its place, or the rule that it breaks all the same.

    Rules: `empty`, `too_short`, `too_long`, `mojibake`, `replacement_character`, `blank_answer`,
    `ambiguous_answer`, `answer_not_in_context`.
    """
    mended: dict[str, str] = {}
    repairs: dict[str, None] = {}
    for column in (CONTEXT, QUESTION, ANSWER):
        found = values.get(column)
        if not isinstance(found, str):
            return Repaired(None, rule="empty", reason=f"`{column}` is missing")
        if len(found) > (limit := max(_REPAIRABLE_CHARS, 2 * config.max_chars)):
            reason = f"`{column}` has {len(found):,} characters before repair, at most {limit:,} expected"
            return Repaired(None, rule="too_long", reason=reason)
        mended[column], names = text.repair_text(found, without=_KEPT)
        repairs |= dict.fromkeys(names)
    if broken := _broken_rule(mended, config):
        rule, reason = broken
        return Repaired(None, rule=rule, reason=reason, repairs=tuple(repairs))
    place = _moved(values, mended)
    if place.rule:
        return Repaired(None, rule=place.rule, reason=place.reason, repairs=tuple(repairs))
    if place.repair:
        repairs[place.repair] = None
    start = str(place.start) if place.start >= 0 and (place.repair or values.get(START)) else ""
    others = [text.repair_text(other, without=_KEPT)[0] for other in right_answers(values)[1:]]
    if others != list(right_answers(values)[1:]):
        repairs["other_answers"] = None
        mended[OTHERS] = json.dumps(others, ensure_ascii=False)
    return Repaired({**values, **mended, ANSWER: place.text, START: start}, repairs=tuple(repairs))


def _moved(values: Mapping[str, object], mended: Mapping[str, str]) -> Place:
    """Where the answer is in the mended context: the same of its occurrences, if these are as many as before."""
    if values[ANSWER] and not mended[ANSWER].strip():  # empty, it would say that there is no answer
        return Place(-1, "", rule="blank_answer", reason="nothing is left of the answer")
    before = place_of(values)
    if before.start < 0 or all(mended[name] == values[name] for name in (CONTEXT, ANSWER)):
        return locate(mended[CONTEXT], mended[ANSWER], values.get(START))
    answer, _ = text.repair_text(before.text, without=_KEPT)
    old, new = occurrences(str(values[CONTEXT]), before.text), occurrences(mended[CONTEXT], answer)
    if answer and len(old) == len(new):
        return Place(new[old.index(before.start)], answer, repair="answer_start")
    return locate(mended[CONTEXT], mended[ANSWER], None)


def _broken_rule(mended: Mapping[str, str], config: CleanConfig) -> tuple[str, str] | None:
    most = {
        CONTEXT: config.max_chars,
        QUESTION: config.answers.max_question_chars,
        ANSWER: config.answers.max_answer_chars,
    }
    for column, value in mended.items():
        if not value.strip() and column != ANSWER:
            return "empty", f"nothing is left of `{column}`"
        if text.REPLACEMENT in value:
            return "replacement_character", f"bytes of `{column}` were lost before it came here (U+FFFD)"
        if is_mojibake(value):
            return "mojibake", f"`{column}` was decoded with the wrong codec, and the bytes are not all there"
        if len(value) > most[column]:
            return "too_long", f"`{column}` has {len(value):,} characters, at most {most[column]:,} expected"
    if len(mended[CONTEXT]) < config.min_chars:
        return "too_short", f"`context` has {len(mended[CONTEXT])} characters, at least {config.min_chars} expected"
    return None


def duplicate_key(values: Mapping[str, object]) -> str:
    """The question (NFKC, without case and without its mark) of a context, which is told by its digest.

    Signs count: of `==` and of `!=` are two questions.
    """
    question = unicodedata.normalize("NFKC", str(values[QUESTION] or "")).casefold()
    context = " ".join(str(values[CONTEXT] or "").split())
    digest = hashlib.blake2b(context.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    return f"{' '.join(question.split()).rstrip(' ?.')} {digest}"


def leak_key(values: Mapping[str, object]) -> str:
    """The context: letters and digits alone, NFKC, without case."""
    return text.duplicate_key(values, column=CONTEXT)


def augment(
    values: Mapping[str, object], config: AugmentConfig, generator: np.random.Generator
) -> Mapping[str, object] | None:
    """The question without its mark, in lower case, or both; None where neither changes it. Answers stay right."""
    question = str(values[QUESTION] or "")
    bare, small = question.rstrip(" ?？"), question[:1].lower() + question[1:]
    forms = sorted({bare, small, bare[:1].lower() + bare[1:]} - {question, ""})
    return {**values, QUESTION: forms[int(generator.integers(len(forms)))]} if forms else None


def slices(values: Mapping[str, object]) -> Mapping[str, bool]:
    """Groups of validation rows that a person would ask about: what is asked, length of context and answer."""
    question, context, answer = (str(values[name] or "") for name in (QUESTION, CONTEXT, ANSWER))
    asked = next((name for name, pattern in _asked.items() if pattern.match(question)), None) or next(
        (name for name, pattern in _asked.items() if pattern.search(question)), "asks otherwise"
    )
    num_words = len(answer.split())
    return {
        **{name: name == asked for name in (*_asked, "asks otherwise")},
        "short context (≤ 500 characters)": len(context) <= 500,
        "medium context (501–1,200 characters)": 500 < len(context) <= 1_200,
        "long context (> 1,200 characters)": len(context) > 1_200,
        "no answer": not answer,
        "answer of one word": num_words == 1,
        "answer of 2–5 words": 2 <= num_words <= 5,
        "answer of more than 5 words": num_words > 5,
    }
