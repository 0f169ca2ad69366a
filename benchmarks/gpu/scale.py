"""How large everything is in the benchmark on a GPU, by the device at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes
    ----------
    decoder, translator, common:
        Settings of the models, and of every contender.
    rows:
        Blocks in a step of the decoder.
    pairs, batch_tokens:
        Of a step of the encoder-decoder: of the peers, which batch by pairs, and ours.
    speed, loss_steps:
        Steps that measure speed, and steps in which the loop trains to its loss.
    compiles:
        Whether whoever can compile does.
    repeats:
        Records of each, as far as there is time.
    """

    decoder: Mapping[str, object]
    translator: Mapping[str, object]
    common: Mapping[str, object]
    rows: int
    pairs: int
    batch_tokens: int
    speed: Mapping[str, object]
    loss_steps: int
    compiles: bool
    repeats: int


def full_scale(rows: int) -> Scale:
    return Scale(
        decoder={
            "layers": 12,
            "dim": 768,
            "heads": 12,
            "feed_forward_dim": 3072,
            "context": 1024,
            "vocabulary_size": 50_304,
        },
        translator={"layers": 6, "dim": 512, "heads": 8, "feed_forward_dim": 2048},
        common={"precision": "bf16", "threads": min(8, os.cpu_count() or 1)},
        rows=rows,
        pairs=1024,
        batch_tokens=16_384,
        speed={"steps": 80, "num_warmup_steps": 20},
        loss_steps=400 * 64 // rows if rows < 64 else 400,
        compiles=True,
        repeats=3,
    )


def tiny_scale() -> Scale:
    return Scale(
        decoder={
            "layers": 2,
            "dim": 32,
            "heads": 2,
            "feed_forward_dim": 64,
            "context": 32,
            "vocabulary_size": 700,
        },
        translator={"layers": 1, "dim": 32, "heads": 2, "feed_forward_dim": 64},
        common={"precision": "bf16", "threads": 1},
        rows=4,
        pairs=16,
        batch_tokens=256,
        speed={"steps": 6, "num_warmup_steps": 2},
        loss_steps=20,
        compiles=False,
        repeats=2,
    )


def fitting_rows(gib: float) -> int:
    """Blocks of 1,024 whose logits fit beside everything else, for the hungriest: the Trainer makes them in float32."""
    return next((rows for needed, rows in ((120, 64), (70, 32), (36, 16), (20, 8)) if gib >= needed), 4)


def gpu() -> tuple[str, float]:
    """Name and GiB of the GPU, empty and 0 without one; asked in a process of its own, which leaves no memory taken."""
    code = (
        "import json, torch\n"
        "p = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None\n"
        "print(json.dumps([p.name, p.total_memory / 2**30] if p else ['', 0.0]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, gib = json.loads(done.stdout.strip().splitlines()[-1])
    return str(name), float(gib)
