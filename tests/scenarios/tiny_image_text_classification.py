"""Pictures of bars with a few words, of which either may be missing, in a table that names the files; and faults."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tiny_image_classification import bar, png

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "tokenizer": {"vocabulary_size": 60, "max_tokens": 16},
    "model": {
        "image": {"size": 16, "channels": 1, "patch": 4, "stride": 4},
        "layers": 1,
        "dim": 16,
        "heads": 2,
        "feed_forward_dim": 32,
        "bigram_buckets": 64,
        "wide": {"max_ngram": 2},
    },
    "train": {
        "epochs": 10,
        "batch_tokens": 512,
        "threads": 1,
        "precision": "fp32",
        "seeing": {"rotation": 5.0, "shear": 0.0},
        "pretrain": {"epochs": 1.0},
        "images": {"epochs": 2.0},
    },
    "evaluate": {"resamples": 200, "min_slice_rows": 5},
    "optimize": {"latency_repeats": 10, "max_quality_drop": 0.2, "max_slice_drop": 1.0},
}
_WORDS = {"lying": "flat low wide long rest", "standing": "tall high steep slim rise"}
_OTHERS = "a the bar is it was here there seen today"


def write_source(path: Path, *, dirty: bool) -> Path:
    """A source below `path`; a dirty one fails the gate, and passes it once it is cleaned."""
    source = path / "notes"
    (source / "bars").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(320):
        label = ("lying", "standing")[number % 2]
        image = f"bars/{number:03d}.png" if number % 10 != 3 else ""
        if image:
            (source / image).write_bytes(png(bar(label, rng)))
        rows.append([image, words(label, rng) if number % 10 != 6 else "", label])
    if dirty:
        rows += _faults(source, rows)
    with (source / "notes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "text", "label"], *rows])
    return source


def words(label: str, rng: np.random.Generator) -> str:
    """Some words of the label among some that are of neither."""
    chosen = [*rng.choice(_WORDS[label].split(), 3), *rng.choice(_OTHERS.split(), 5)]
    return " ".join(rng.permutation(chosen))


def _faults(source: Path, rows: list[list[str]]) -> list[list[str]]:
    good = (source / rows[0][0]).read_bytes()
    files = {
        "cut.png": good[: len(good) // 2],
        "letter.png": b"this is no image\n" * 20,
        "blank.png": png(np.full((16, 16), 7, np.uint8)),
        "dot.png": png(np.array([[0, 255], [255, 0]], np.uint8)),
    }
    for name, payload in files.items():
        (source / name).write_bytes(payload)
    return [
        *([name, f"a bar of {name}", "lying"] for name in files),
        ["bars/nowhere.png", "a file that is not there", "lying"],
        ["", "", "lying"],
        ["", "  ", "standing"],
        ["", "<b>tall</b>\u200b and steep", " standing "],
        [rows[0][0], rows[0][1], "standing"],
        *rows[20:40],
    ]
