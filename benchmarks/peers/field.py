"""The peers of each work, with the settings that README.md argues for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from benchmarks.peers.contender import Contender
from noria.training.probe import cpu_has_bf16

_TUTORIAL = "benchmarks.peers.tutorial_loop"
_TRAINER = "benchmarks.peers.hugging_face_trainer"

PEERS: Mapping[str, tuple[Contender, ...]] = MappingProxyType(
    {
        "text-classification": (
            Contender("tutorial loop", _TUTORIAL, note="at its defaults: padded to 128, Adam, batches of 32"),
            Contender(
                "Lightning",
                "benchmarks.peers.lightning_trainer",
                note="at its defaults, the tutorial's module and batches",
            ),
            Contender("Hugging Face Trainer", _TRAINER, note="at its defaults, batches of 32"),
            Contender(
                "Hugging Face Trainer, best",
                _TRAINER,
                {"group_by_length": True, "attention": "sdpa"},
                "length grouping, fused AdamW; precision and batch size are swept",
            ),
        ),
        "translation": (
            Contender("tutorial loop", _TUTORIAL, note="nn.Transformer, mended; at its defaults, batches of 64 pairs"),
            Contender("Hugging Face Trainer", _TRAINER, note="Marian, at its defaults, batches of 64 pairs"),
            Contender(
                "Hugging Face Trainer, best",
                _TRAINER,
                {"group_by_length": True},
                "Marian, length grouping, fused AdamW; precision and batch size are swept",
            ),
            Contender(
                "JoeyNMT",
                "benchmarks.peers.joeynmt_training",
                {"activation": "relu"},
                "its own loop and batches of tokens, the quickest of three sizes; ReLU, as it has no squared one; fp32",
            ),
        ),
        "language-modelling": (
            Contender("nanoGPT-style loop", "benchmarks.peers.nanogpt_loop", note="8 random crops of 512 a step"),
            Contender("Hugging Face Trainer", _TRAINER, note="GPT-2, 8 blocks of 512 a step"),
        ),
    }
)

BEST_SWEEP: Mapping[str, tuple[Mapping[str, object], ...]] = MappingProxyType(
    {
        work: tuple(
            {"precision": precision, "batch_size": size, "attention": attention}
            for size in sizes
            for precision, attention in (("fp32", "sdpa"), ("bf16", "eager"))
        )
        for work, sizes in (("text-classification", (64, 128)), ("translation", (256, 512)))
    }
)
"""What "best" is chosen from, by throughput on the machine at hand: see `best_of`."""


JOEYNMT_SWEEP: tuple[Mapping[str, object], ...] = tuple({"batch_tokens": tokens} for tokens in (4_096, 8_192, 16_384))


def joeynmt_of_all_sizes() -> list[Contender]:
    """The candidates for JoeyNMT: it has no buckets of like length, so larger batches may hold it up less."""
    (joeynmt,) = (contender for contender in PEERS["translation"] if contender.name == "JoeyNMT")
    return [joeynmt.given(**changes) for changes in JOEYNMT_SWEEP]


def best_of(work: str) -> list[Contender]:
    """The candidates for the best-set Trainer of a work; run them and keep the quickest."""
    base = PEERS[work][[contender.name for contender in PEERS[work]].index("Hugging Face Trainer, best")]
    sweep = [changes for changes in BEST_SWEEP[work] if changes["precision"] == "fp32" or cpu_has_bf16()]
    names = [", ".join(map(str, changes.values())) for changes in sweep]
    candidates = [base.given(**changes) for changes in sweep]
    return [
        Contender(f"{base.name} ({name})", c.module, c.settings, c.note)
        for name, c in zip(names, candidates, strict=True)
    ]
