"""Sample data for question answering: generated from the documentation of installed packages, in SQuAD 2.0's JSON.

The standard library of the Python that runs (PSF licence), numpy, scipy, pandas (BSD) and matplotlib (PSF
style). The same versions give the same bytes. A few questions are spoilt as annotators' exports are.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from noria.data.docstrings import Documented, documented_in
from noria.data.documented_questions import Context, questions_about
from noria.data.samples import package_directory

PACKAGES = ("numpy", "scipy", "pandas", "matplotlib")
_LEFT_OUT = ("_", "test", "site-packages", "idlelib", "lib2to3", "turtledemo", "ensurepip", "pydoc_data", "this")
_MOST_QUESTIONS = 3
_KEPT_SHARE, _KEPT_PROSE_SHARE = 0.4, 0.2
_LEAST_CHARS = 120
_SPOILT_SHARE, _AGAIN_SHARE = 0.03, 0.03


def write_documentation_sample(directory: Path) -> None:
    """Write `documentation.json`, if it is not there.

    Raises
    ------
    SourceError
        When a package is not installed.
    """
    target = directory / "documentation.json"
    if target.exists():
        return
    by_module: dict[str, list[Documented]] = {}
    for documented in _everything():
        by_module.setdefault(documented.module, []).append(documented)
    articles = [_article(module, found) for module, found in by_module.items()]
    squad = {"version": "v2.0", "data": [article for article in articles if article["paragraphs"]]}
    directory.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(squad, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _everything() -> Iterator[Documented]:
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).iterdir()):
        if not path.name.startswith(_LEFT_OUT) and (path.suffix == ".py" or (path / "__init__.py").exists()):
            yield from documented_in(path, name=path.stem)
    for package in PACKAGES:
        yield from documented_in(package_directory(package), name=package)


def _article(module: str, found: list[Documented]) -> Mapping[str, object]:
    """The paragraphs of a module: of what it documents, some, drawn by name, so that each is drawn alone."""
    paragraphs = []
    for documented in found:
        random = Random(documented.name)
        if random.random() >= (_KEPT_SHARE if documented.sections else _KEPT_PROSE_SHARE):
            continue
        context = questions_about(documented, siblings=found, random=random, most=_MOST_QUESTIONS)
        if len(context.text) >= _LEAST_CHARS and context.asked:
            paragraphs.append({"context": context.text, "qas": list(_questions(context, documented.name, random))})
    return {"title": module, "paragraphs": paragraphs}


def _questions(context: Context, name: str, random: Random) -> Iterator[Mapping[str, object]]:
    for number, (question, answer, start) in enumerate(context.asked):
        asked = {
            "id": f"{name}-{number}",
            "question": question,
            "answers": [_answer(answer, start, random)] if answer else [],
            "is_impossible": not answer,
        }
        yield asked
        if random.random() < _AGAIN_SHARE:
            yield {**asked, "id": f"{name}-{number}-again"}


def _answer(answer: str, start: int, random: Random) -> Mapping[str, object]:
    """An answer and where it begins; of some the offset is off, the case another, or the text cut short behind."""
    if random.random() < _SPOILT_SHARE:
        way = random.choice(("offset", "offset", "case", "lost"))
        if way == "offset":
            start += random.choice((-1, 1, 2, 7))
        elif way == "case":
            answer = answer.upper() if answer != answer.upper() else answer.lower()
        else:
            answer = f"{answer} (see the source)"
    return {"text": answer, "answer_start": start}
