"""A fake model of every scenario, with answers of the shape that the scenario's have."""

from __future__ import annotations

from fake_model import FakePredictor

_GOOD, _BAD = "好棒快赞优", "差慢坏烂破"


def _mood(text):
    good, bad = (1 + sum(letter in letters for letter in text) for letters in (_GOOD, _BAD))
    share = good**2 / (good**2 + bad**2)
    return {"label": "pos" if share >= 0.5 else "neg", "scores": {"neg": 1 - share, "pos": share}}


def _digit(row):
    assert row["image"][:8] == b"\x89PNG\r\n\x1a\n"
    return {"label": "7", "scores": {str(digit): 0.91 if digit == 7 else 0.01 for digit in range(10)}}


def _span(row):
    start = row["context"].find("joined")
    if start < 0:
        return {"answer": "", "start": -1, "end": -1, "score": 0.6}
    return {"answer": "joined", "start": start, "end": start + len("joined"), "score": 0.8}


def _next(row):
    items = ["Return of the Jedi (1983)", "Raiders of the Lost Ark (1981)", "Toy Story (1995)"][: row["k"]]
    known = {"Star Wars (1977)", "Empire Strikes Back, The (1980)"}
    return {
        "items": items,
        "scores": [0.31, 0.12, 0.04][: row["k"]],
        "unknown": [i for i in row["history"] if i not in known],
    }


def _heard(row):
    assert row["audio"][:4] == b"RIFF"
    return {"text": f"{len(row['audio'])} bytes", "confidence": 0.9}


ANSWERS = {
    "text-classification": lambda row: _mood(row["text"]),
    "image-classification": _digit,
    "image-text-classification": lambda row: _mood(row["text"]),
    "translation": lambda row: {"text": row["source"][::-1], "placeholders_kept": "%" not in row["source"]},
    "language-modelling": lambda row: {"text": "argv):\n    return 0"},
    "question-answering": _span,
    "recommendation": _next,
    "speech-recognition": _heard,
}


def model_of(scenario, *, version="0123456789ab", path=None):
    """A fake of this scenario."""
    return FakePredictor(version, scenario=scenario, answer=ANSWERS[scenario], path=path)
