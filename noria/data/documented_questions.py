"""Questions that documentation answers: a context made of it, and questions whose answers are parts of that.

What is asked is taken from the structure (signatures, sections), how it is asked from a few wordings each,
so this is a generated data set: its questions are more regular than people's are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from noria.data.docstrings import Documented, Item, first_sentence

_MOST_PROSE_CHARS = 600
_MOST_ITEM_CHARS = 250
_MOST_PARAMETERS = 10
_MOST_ANSWER_WORDS = 24
_MOST_DEFAULT_CHARS = 40

DEFAULT = (
    "What is the default of {p} in {f}?",
    "Which value does {f} use for {p} if none is given?",
    "What does the argument {p} of {f} default to?",
)
TYPE = (
    "What type does the parameter {p} of {f} have?",
    "Of which type is the argument {p} of {f}?",
    "What kind of value does {f} expect for {p}?",
)
MEANING = ("What is {p} in {f}?", "What does the parameter {p} of {f} mean?", "What is the argument {p} of {f} for?")
RETURNED = ("What does {f} return?", "What is the result of {f}?", "What do I get from {f}?")
RETURNED_TYPE = ("What type does {f} return?", "Of which type is the result of {f}?")
RAISED = ("Which exception does {f} raise?", "Which error can {f} end with?")
RAISED_IF = ("Which exception does {f} raise {c}?", "What does {f} raise {c}?")
RAISED_WHEN = ("When does {f} raise {e}?", "Under which condition does {f} raise {e}?", "Why would {f} raise {e}?")
PURPOSE = ("What does {f} do?", "What is {f} for?", "What is the purpose of {f}?")
CLASS_PURPOSE = ("What is {f}?", "What is the class {f} for?", "What is the purpose of {f}?")
BASE = ("Which class does {f} derive from?", "What is the base class of {f}?")
ADDED = ("Since which version is there {f}?", "When was {f} added?", "Which version brought {f}?")

_NO_TYPE = re.compile(r",? *\(?(?:optional|default)\b")
_RETURN = re.compile(r"(?:^|(?<=[.;,] )|(?<=and ))[Rr]eturns? ((?:[^.]|\.(?!\s|$))+?)(?=\.(?:\s|$)|$)")
_RAISE = re.compile(
    r"(?:[Rr]aises?|RAISES?) (?:an? )?(\w+(?:Error|Exception|Warning|Exit|Interrupt))(?: exception)? "
    r"((?:if|when|unless) (?:[^.]|\.(?!\s|$))+?)(?=\.(?:\s|$)|$)"
)


@dataclass
class Context:
    """A text as it grows; `add` says where a part of it begins."""

    text: str = ""
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    """(question, answer, where it begins); -1 without an answer."""

    def add(self, part: str) -> int:
        start = len(self.text)
        self.text += part
        return start


@dataclass(frozen=True)
class _Asker:
    """What asks about one documented thing."""

    documented: Documented
    context: Context
    random: Random

    def ask(self, wordings: Sequence[str], answer: str, start: int, **names: str) -> None:
        """Add a question, where its answer is one: not empty, not too long, of more than signs."""
        words = answer.split()
        if start < 0 or (0 < len(words) <= _MOST_ANSWER_WORDS and any(map(str.isalnum, answer))):
            question = self.random.choice(wordings).format(f=self.name(), **names)
            self.context.asked.append((question, answer, start))

    def name(self) -> str:
        """The name as people say it: whole, or its last parts."""
        parts = self.documented.name.split(".")
        return ".".join(parts[-self.random.choice((1, 2, 2, len(parts))) :])


def questions_about(documented: Documented, *, siblings: Sequence[Documented], random: Random, most: int) -> Context:
    """The context of a documented thing, and up to `most` questions, among them some that it has no answer to.

    `siblings` are the others of its module, whose parameters are asked for where this one has none of them.
    """
    asker = _Asker(documented, Context(), random)
    _signature(asker)
    _prose(asker)
    _parameters(asker, documented.sections.get("Parameters", ()))
    _results(asker)
    _exceptions(asker)
    if documented.added:
        start = asker.context.add("\nNew in version ") + len("\nNew in version ")
        asker.context.add(f"{documented.added}.")
        asker.ask(ADDED, documented.added, start)
    chosen = _chosen(asker.context.asked, random, most)
    asker.context.asked[:] = chosen
    if random.random() < 0.6:
        _ask_in_vain(asker, siblings)
    return asker.context


def _chosen(asked: list[tuple[str, str, int]], random: Random, most: int) -> list[tuple[str, str, int]]:
    """Some of the questions, each once."""
    distinct = list({question: (question, answer, start) for question, answer, start in asked}.values())
    return sorted(random.sample(distinct, min(most, len(distinct))), key=lambda each: each[2])


def _signature(asker: _Asker) -> None:
    documented, context = asker.documented, asker.context
    context.add(f"class {documented.name}(" if documented.kind == "class" else f"{documented.name}(")
    for number, (name, default) in enumerate(documented.parameters.items()):
        context.add(", " if number else "")
        context.add(name)
        if default:
            context.add("=")
            start = context.add(default)
            if len(default) <= _MOST_DEFAULT_CHARS:
                asker.ask(DEFAULT, default, start, p=name)
    context.add(")")
    if documented.bases:
        context.add(", derived from ")
        for number, base in enumerate(documented.bases):
            start = context.add(", " if number else "") + (2 if number else 0)
            context.add(base)
            if len(documented.bases) == 1:
                asker.ask(BASE, base, start)
    context.add(".")


def _prose(asker: _Asker) -> None:
    documented, context = asker.documented, asker.context
    size = 0
    for number, paragraph in enumerate(documented.prose):
        size += len(paragraph)
        if number and size > _MOST_PROSE_CHARS:
            break
        start = context.add("\n") + 1
        part = _cut(paragraph, _MOST_PROSE_CHARS)
        context.add(part)
        if number == 0:
            purpose = first_sentence(part)
            if not purpose.lower().startswith("return"):
                asker.ask(CLASS_PURPOSE if documented.kind == "class" else PURPOSE, purpose, start)
        for match in _RETURN.finditer(part):
            asker.ask(RETURNED, match[1], start + match.start(1))
        for match in _RAISE.finditer(part):
            asker.ask(RAISED_IF, match[1], start + match.start(1), c=match[2])
            asker.ask(RAISED_WHEN, match[2], start + match.start(2), e=match[1])


def _parameters(asker: _Asker, items: Sequence[Item]) -> None:
    for item in _titled(asker, "Parameters", items[:_MOST_PARAMETERS]):
        names = [name.strip("* ") for name in item.name.split(",")]
        start = asker.context.add(f"\n{item.name}") + 1
        if item.type:
            start = asker.context.add(" : ") + 3
            asker.context.add(item.type)
            asker.ask(TYPE, _NO_TYPE.split(item.type)[0], start, p=asker.random.choice(names))
        start = _description(asker, item)
        asker.ask(MEANING, first_sentence(_cut(item.text, _MOST_ITEM_CHARS)), start, p=asker.random.choice(names))


def _results(asker: _Asker) -> None:
    for title in ("Returns", "Yields"):
        items = asker.documented.sections.get(title, ())
        for item in _titled(asker, title, items):
            start = asker.context.add(f"\n{item.name}") + 1
            type = item.name
            if item.type:
                start, type = asker.context.add(" : ") + 3, item.type
                asker.context.add(item.type)
            if len(items) == 1:
                asker.ask(RETURNED_TYPE, type, start)
            start = _description(asker, item)
            if len(items) == 1 and item.text:
                asker.ask(RETURNED, first_sentence(_cut(item.text, _MOST_ITEM_CHARS)), start)


def _exceptions(asker: _Asker) -> None:
    items = asker.documented.sections.get("Raises", ())
    for item in _titled(asker, "Raises", items):
        start = asker.context.add(f"\n{item.name}") + 1
        condition = first_sentence(_cut(item.text, _MOST_ITEM_CHARS))
        is_clause = condition.lower().startswith(("if ", "when ", "unless "))
        if len(items) == 1:
            asker.ask(RAISED, item.name, start)
        elif is_clause:
            asker.ask(RAISED_IF, item.name, start, c=condition[0].lower() + condition[1:])
        start = _description(asker, item)
        if is_clause:
            asker.ask(RAISED_WHEN, condition, start, e=item.name)


def _titled(asker: _Asker, title: str, items: Sequence[Item]) -> Iterator[Item]:
    if items:
        asker.context.add(f"\n{title}")
        yield from items


def _cut(text: str, most: int) -> str:
    """The beginning of a text, in whole words."""
    return text if len(text) <= most else text[:most].rpartition(" ")[0]


def _description(asker: _Asker, item: Item) -> int:
    """Add what an item says on a line of its own; where it begins."""
    if not item.text:
        return len(asker.context.text)
    start = asker.context.add("\n") + 1
    asker.context.add(_cut(item.text, _MOST_ITEM_CHARS))
    return start


def _ask_in_vain(asker: _Asker, siblings: Sequence[Documented]) -> None:
    """One question that fits the thing and has no answer in its context."""
    documented, random = asker.documented, asker.random
    text = asker.context.text
    own = set(documented.parameters)
    foreign = sorted({name for sibling in siblings for name in sibling.parameters if name not in text} - own)
    plain = sorted(name for name, default in documented.parameters.items() if not default)
    described = {name for item in documented.sections.get("Parameters", ()) for name in item.name.split(", ")}
    bare = sorted(name for name in own - described if text.count(name) == 1)
    ways: list[Callable[[], None]] = []
    if foreign:
        name = random.choice(foreign)
        ways.append(lambda: asker.ask(random.choice((DEFAULT, TYPE, MEANING)), "", -1, p=name))
    if plain:
        ways.append(lambda: asker.ask(DEFAULT, "", -1, p=random.choice(plain)))
    if bare:
        ways.append(lambda: asker.ask(MEANING, "", -1, p=random.choice(bare)))
    if "raise" not in text.lower() and "Error" not in text:
        ways.append(lambda: asker.ask(RAISED, "", -1))
    if not re.search(r"return|yield|Result|give", text, re.IGNORECASE) and documented.kind == "function":
        ways.append(lambda: asker.ask(RETURNED, "", -1))
    if not documented.added and "ersion" not in text:
        ways.append(lambda: asker.ask(ADDED, "", -1))
    if ways:
        random.choice(ways)()
