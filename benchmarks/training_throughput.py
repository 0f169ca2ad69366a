"""Training throughput on the CPU, ours against every peer on the same rows, with models of one size.

    .venv-bench/bin/python -m benchmarks.training_throughput [WORK ...]     (`make peers` makes the environment)

Contenders take turns, each training in a process of its own; medians. Dropout is the same for all in a
table (text classification is measured with none and with 0.1, the default of the peers), and so is the
activation: a squared ReLU (JoeyNMT has none: ReLU). Precision is each side's best: ours is bfloat16 where
the CPU knows it, the best-set peers' is chosen with batch size and attention by a short sweep, the others'
is their default. Of JoeyNMT, which has float32 alone, the tokens of a batch are swept.
A row with both in float32 stands beside. Tokens are real ones: padding and added tokens count for nobody.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.contender import Contender, Measured, run_contender, run_in_turn
from benchmarks.peers.field import PEERS, best_of, joeynmt_of_all_sizes
from benchmarks.peers.settings import Record
from benchmarks.results import Row, write_results
from benchmarks.workloads.prepare import prepare
from noria.training.probe import cpu_has_bf16

OURS = "benchmarks.peers.noria_training"
REPEATS = 3
PRECISION = "bf16" if cpu_has_bf16() else "fp32"
"""Ours at its best, as its probe finds it: a CPU without bfloat16 takes fifty times as long for it."""
_SWEEP_STEPS = {"steps": 10, "num_warmup_steps": 3}
_BEST = "Hugging Face Trainer, best"


@dataclass(frozen=True)
class Bars:
    """What ours / theirs must reach, by peer, at each of the shares of dropout; steps are of a measured training."""

    steps: Mapping[str, int]
    ratios: Mapping[str, float]
    dropout: tuple[float, ...] = (0.0,)


BARS = {
    "text-classification": Bars(
        {"steps": 60, "num_warmup_steps": 10},
        {"tutorial loop": 6.0, "Lightning": 6.0, "Hugging Face Trainer": 5.0, _BEST: 1.5},
        dropout=(0.1, 0.0),
    ),
    "translation": Bars(
        {"steps": 18, "num_warmup_steps": 4},
        {"tutorial loop": 2.5, "Hugging Face Trainer": 1.5, _BEST: 1.5, "JoeyNMT": 1.3},
    ),
    "language-modelling": Bars(
        {"steps": 11, "num_warmup_steps": 3},
        {"nanoGPT-style loop, best": 1.2, _BEST: 1.5},
    ),
}


def measure(work: str, directory: Path) -> list[Row]:
    """Rows of one work."""
    workload = prepare(work, directory / work).directory
    return [row for share in BARS[work].dropout for row in _measure(work, workload, dropout=share)]


def _measure(work: str, workload: Path, *, dropout: float) -> list[Row]:
    bars = BARS[work]
    peers = best_set(work, workload, dropout=dropout)
    if work != "language-modelling":  # where the best settings are the defaults, or these with another precision
        chosen = {peer.name for peer in peers}
        peers = [peer for peer in PEERS[work] if peer.name not in chosen] + peers
    ours = Contender("Noria", OURS, {"precision": PRECISION}, f"{PRECISION}, batches of 4,096 tokens")
    in_fp32 = () if PRECISION == "fp32" else (Contender("Noria, fp32", OURS, {"precision": "fp32"}, "fp32"),)
    found = run_in_turn(
        [contender.given(**bars.steps, dropout=dropout) for contender in (ours, *in_fp32, *peers)],
        workload,
        repeats=REPEATS,
        on_record=tell,
    )
    return [_row(work, found["Noria"], found[peer.name], bar=bars.ratios[peer.name]) for peer in peers] + [
        _row(work, found["Noria, fp32"], found[peer.name], bar=None)
        for peer in (peers if in_fp32 else ())
        if peer.settings.get("precision", "fp32") == "fp32"
    ]


def best_set(work: str, workload: Path, *, dropout: float = 0.0) -> list[Contender]:
    """The quickest of the candidates for each peer that has choices, by one short training of each."""
    if work == "language-modelling":
        loop, trainer = PEERS[work]
        loops = [loop.given(precision=precision) for precision in dict.fromkeys(("fp32", PRECISION))]
        trainers = [
            trainer.given(precision=precision, attention=attention)
            for precision, attention in (("fp32", "sdpa"), ("bf16", "eager"))
            if precision == "fp32" or cpu_has_bf16()
        ]
        return [_quickest(loops, workload, f"{loop.name}, best"), _quickest(trainers, workload, _BEST)]
    swept = {_BEST: best_of(work)} | ({"JoeyNMT": joeynmt_of_all_sizes()} if work == "translation" else {})
    return [
        _quickest([each.given(dropout=dropout) for each in candidates], workload, name)
        for name, candidates in swept.items()
    ]


def _quickest(candidates: list[Contender], workload: Path, name: str) -> Contender:
    speeds = []
    for candidate in candidates:
        record = run_contender(candidate.given(**_SWEEP_STEPS), workload)
        tell(candidate, record)
        speeds.append(record.real_tokens_per_s)
    best = candidates[speeds.index(max(speeds))]
    chosen = {
        key: best.settings[key]
        for key in ("precision", "batch_size", "batch_tokens", "attention")
        if key in best.settings
    }
    print(f"{name}: {chosen}", flush=True)
    units = {"batch_size": " rows", "batch_tokens": " tokens"}
    told = ", ".join(f"{value}{units.get(key, '')}" for key, value in chosen.items())
    return Contender(name, best.module, best.settings, f"{best.note.split('; precision')[0]}; {told}")


def _row(work: str, ours: Measured, theirs: Measured, *, bar: float | None) -> Row:
    translation = work == "translation"
    speeds = [m.target_tokens_per_s if translation else m.real_tokens_per_s for m in (ours, theirs)]
    return Row(
        f"{work}, dropout {ours.records[0].settings['dropout']:g}: {_told(ours)}; theirs: {_told(theirs)}",
        "target tokens/s" if translation else "tokens/s",
        round(speeds[0]),
        peer=theirs.contender.name,
        theirs=round(speeds[1]),
        bar=bar,
        repeats=REPEATS,
    )


def _told(measured: Measured) -> str:
    """The note of a contender, and how many real tokens it takes a step."""
    record = measured.records[0]
    return f"{measured.contender.note}, {record.real_tokens / record.steps:,.0f} real tokens a step"


def tell(contender: Contender, record: Record) -> None:
    print(
        f"{record.work}: {contender.name}: {record.real_tokens_per_s:,.0f} tokens/s, "
        f"{record.parameters:,} parameters, {record.seconds:.1f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", default=list(BARS), metavar="WORK", help=" | ".join(BARS))
    parser.add_argument("--workloads", type=Path, help="where workloads are kept (default: written anew)")
    parser.add_argument("--suffix", default="", help="of the results' names: another kind of machine has its own table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        for work in args.works:
            rows = measure(work, args.workloads or Path(directory))
            name = f"training_throughput_{work.replace('-', '_')}{args.suffix}"
            print(write_results(name, rows, packages=("torch", "transformers", "pytorch-lightning", "joeynmt")))


if __name__ == "__main__":
    main()
