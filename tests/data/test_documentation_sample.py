"""The generated sample: every answer is where it says, and the same documentation gives the same questions."""

import json
from pathlib import Path
from random import Random

import pytest

from noria.data.docstrings import documented_in, first_sentence, plain
from noria.data.documentation_sample import _article
from noria.data.documented_questions import questions_about
from noria.errors import SourceError

SOURCE = '''
"""A module."""
from base import Base

def filtered(x, order, *, kind="low", axis=-1, _hidden=None):
    """Filter a signal along an axis.

    It returns more than :func:`~scipy.signal.lfilter` does [1]_. Raises OSError if the disk is full.

    .. versionadded:: 1.4.0

    Parameters
    ----------
    x : array_like
        The signal.
        It may be long.
    kind : {"low", "high"}, optional
        Which frequencies pass. Default is low.
    axis, order : int
        The axis, e.g. the last.

    Returns
    -------
    y : ndarray
        The filtered signal. As long as `x`.

    Raises
    ------
    ValueError
        If `kind` is unknown.
    TypeError
        When x is text.

    Examples
    --------
    >>> filtered([1])
    """

class Bank(Base):
    """Several filters."""
    def __init__(self, size=3): ...
    def run(self, x):
        """Return the sum of all. Then stop."""
    def _private(self):
        """Not told."""

def broken(:
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "signal" / "tests").mkdir(parents=True)
    (tmp_path / "signal" / "_filters.py").write_text(SOURCE.replace("def broken(:\n", ""))
    (tmp_path / "signal" / "broken.py").write_text(SOURCE)
    (tmp_path / "signal" / "tests" / "test_it.py").write_text(SOURCE)
    return tmp_path / "signal"


def test_what_is_public_and_documented_is_found_and_nothing_is_imported(package):
    found = {each.name: each for each in documented_in(package, name="signal")}
    assert list(found) == ["signal.filtered", "signal.Bank", "signal.Bank.run"]
    filtered = found["signal.filtered"]
    assert filtered.parameters["kind"] == "'low'" and filtered.parameters["order"] == "" and filtered.added == "1.4.0"
    assert [item.name for item in filtered.sections["Raises"]] == ["ValueError", "TypeError"]
    assert filtered.prose[1].startswith("It returns more than scipy.signal.lfilter does.")
    assert found["signal.Bank"].bases == ("Base",) and found["signal.Bank"].parameters == {"size": "3"}


def test_every_answer_is_where_it_says_and_questions_in_vain_have_none(package):
    found = list(documented_in(package, name="signal"))
    asked = set()
    for seed in range(40):
        for documented in found:
            context = questions_about(documented, siblings=found, random=Random(seed), most=30)
            assert context.text == questions_about(documented, siblings=found, random=Random(seed), most=30).text
            for question, answer, start in context.asked:
                assert context.text.startswith(answer, start) if answer else start == -1
                asked.add((question, answer))
    answers = {answer for _, answer in asked}
    assert {"'low'", "array_like", "The signal", "ndarray", "The filtered signal", "1.4.0", "Base", ""} <= answers
    assert {"If kind is unknown", "ValueError", "OSError", "if the disk is full", "the sum of all"} <= answers
    assert {question for question, answer in asked if not answer} >= {"What is the default of x in filtered?"}


def test_an_article_is_the_same_each_time_and_keeps_to_squad(package):
    found = list(documented_in(package, name="signal"))
    article = _article("signal", found * 30)
    assert json.dumps(article) == json.dumps(_article("signal", found * 30))
    assert article["title"] == "signal"
    for paragraph in article["paragraphs"]:
        for asked in paragraph["qas"]:
            assert asked["is_impossible"] == (not asked["answers"])


def test_markup_is_taken_out_and_sentences_end_at_full_stops():
    assert plain("See :func:`~a.b`, ``x`` and *y*\n [2]_.") == "See a.b, x and y."
    assert first_sentence("Use 1.5, e.g.x. Then go.") == "Use 1.5, e.g.x"
    assert first_sentence("No stop") == "No stop"


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    from noria.data import documentation_sample

    monkeypatch.setattr(documentation_sample, "PACKAGES", ("no_such_package",))
    monkeypatch.setattr(documentation_sample, "_LEFT_OUT", tuple("abcdefghijklmnopqrstuvwxyzA_"))
    with pytest.raises(SourceError, match="no_such_package"):
        list(documentation_sample._everything())
