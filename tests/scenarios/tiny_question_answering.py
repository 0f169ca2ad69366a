"""Persons, their colours and their homes in a few words, in SQuAD's JSON, and what the gate refuses among them."""

import json
import random
from collections.abc import Mapping
from pathlib import Path

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "tokenizer": {"vocabulary_size": 400, "max_tokens": 48},
    "model": {
        "layers": 1,
        "dim": 64,
        "heads": 2,
        "feed_forward_dim": 96,
        "dropout": 0.0,
        "bigram_buckets": 512,
        "spans": {"max_question_tokens": 22, "overlap": 16, "max_answer_tokens": 12},
    },
    "train": {"epochs": 8, "threads": 1, "precision": "fp32", "batch_tokens": 1024, "holdout_share": 0.1},
    "evaluate": {"resamples": 200, "min_slice_rows": 5},
    "optimize": {"latency_repeats": 3, "max_quality_drop": 0.3, "max_slice_drop": 1.0},
}
_NAMES = ["Anna", "Bo", "Émile", "शीला", "דנה", "小明", "Olga", "Kim"]
_COLOURS = ["red", "dark blue", "green 😀", "white", "very light yellow"]
_PLACES = ["Rome", "New York", "東京", "a small village", "Oslo"]


def _paragraph(number: int, draw: random.Random) -> dict[str, object]:
    """Two or three persons; a question has its answer, or is about somebody else."""
    people = draw.sample(_NAMES, 3 if number % 4 else 4)
    context, answers = f"Story {number}.", {}
    for name in people[:-1]:
        for verb, things in (("likes", _COLOURS), ("lives in", _PLACES)):
            thing = draw.choice(things)
            answers[name, verb] = {"text": thing, "answer_start": len(context) + len(f" {name} {verb} ")}
            context += f" {name} {verb} {thing}."
    asked = [(name, verb) for name in people for verb in ("likes", "lives in")]
    questions = []
    for name, verb in draw.sample(asked, 4):
        question = f"What colour does {name} like?" if verb == "likes" else f"Where does {name} live?"
        found = answers.get((name, verb))
        questions.append({"question": question, "answers": [found] if found else [], "is_impossible": not found})
    return {"context": context, "qas": questions}


def _spoil(paragraphs: list[dict]) -> None:
    """Answers out of place, of another case, of another text; what is no question; contexts with lost characters."""
    answered = [q for p in paragraphs for q in p["qas"] if q["answers"]]
    for question in answered[:40:4]:
        question["answers"][0]["answer_start"] += 1
    answered[1]["answers"][0]["text"] = answered[1]["answers"][0]["text"].upper()
    answered[2]["answers"][0]["text"] = "nothing of the kind"
    answered[3]["answers"] = []
    paragraphs[20]["context"] += " Bo lost\ufffd it."
    paragraphs[21]["context"] += " A\x07 bell."
    paragraphs[22]["qas"] += [dict(question) for question in paragraphs[22]["qas"]] * 12
    paragraphs[23]["qas"].append({"question": 3})
    paragraphs.append({"qas": []})


def write_source(path: Path, *, dirty: bool) -> Path:
    """A source below `path`; a dirty one fails the gate, and passes it once it is cleaned."""
    draw = random.Random(0)
    paragraphs = [_paragraph(number, draw) for number in range(130 if dirty else 50)]
    if dirty:
        _spoil(paragraphs)
    articles = [{"title": f"book {n}", "paragraphs": paragraphs[n::50]} for n in range(50)]
    source = path / "stories.json"
    source.write_text(json.dumps({"version": "v2.0", "data": articles}, ensure_ascii=False), encoding="utf-8")
    return source
