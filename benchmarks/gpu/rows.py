"""Rows of the results on a GPU: from measurements to claims, on disk as soon as they are there."""

from __future__ import annotations

import importlib.util
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.gpu.scale import Scale, gpu
from benchmarks.peers.contender import Measured
from benchmarks.peers.settings import Record
from benchmarks.results import Row, write_results
from noria.config import ModelConfig
from noria.training.meter import flops_per_token, peak_flops


class Results:
    """The rows so far, on disk after every change."""

    def __init__(self, directory: Path, *, device: str) -> None:
        self.path = directory / "training_gpu.json"
        self._device = device
        self._rows: dict[str, list[Row]] = {}
        if self.path.exists():
            before = json.loads(self.path.read_text(encoding="utf-8"))
            for values in before["rows"] if before["machine"].get("gpu") == device else ():
                values.pop("ratio")
                self._rows.setdefault(values["claim"].partition(":")[0], []).append(Row(**values))

    def put(self, stage: str, rows: Sequence[Row]) -> None:
        """In place of what was known of the stage."""
        self._rows[stage] = list(rows)
        packages = [name for name in ("torch", "transformers", "accelerate") if importlib.util.find_spec(name)]
        everything = [row for name in sorted(self._rows) for row in self._rows[name]]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_results(
            "training_gpu", everything, packages=packages, directory=self.path.parent, devices={"gpu": self._device}
        )


def speed_row(stage: str, ours: Measured, theirs: Measured, *, bars: Mapping[str, float], size: str) -> Row:
    peer = theirs.contender.name.partition(" (")[0]
    speeds = [m.real_tokens_per_s if stage == "decoder" else m.target_tokens_per_s for m in (ours, theirs)]
    return Row(
        f"{stage}: training speed, {_millions(ours)}, batches of {size}; {ours.contender.note}; "
        f"theirs: {_millions(theirs)}, {theirs.contender.note}",
        "tokens/s" if stage == "decoder" else "target tokens/s",
        round(speeds[0]),
        peer=peer,
        theirs=round(speeds[1]),
        bar=bars[peer],
        repeats=len(ours.records),
    )


def utilization(ours: Measured, scale: Scale, *, context: int) -> list[Row]:
    """Model FLOPs utilization, where the peak of the device is known."""
    name, _ = gpu()
    peak = peak_flops(name)
    if peak is None:
        print(f"left out: MFU: the peak of `{name or 'this CPU'}` is not known", flush=True)
        return []
    sizes = {key: scale.decoder[key] for key in ("layers", "dim", "heads", "feed_forward_dim")}
    vocabulary = int(str(scale.decoder["vocabulary_size"]))
    model = ModelConfig.model_validate(sizes)
    flops = flops_per_token(model, length=context, vocabulary_size=vocabulary)
    return [
        Row(
            f"decoder: model FLOPs utilization, {_millions(ours)}, of {peak / 1e12:,.1f} TFLOP/s ({name}); "
            f"{ours.contender.note}",
            "%",
            round(100 * ours.real_tokens_per_s * flops / peak, 1),
            bar=45,
            repeats=len(ours.records),
        )
    ]


def loss_rows(ours: Measured, theirs: Measured) -> list[Row]:
    """With compilation outside, for it is the same for a run of any length, and inside."""
    target = statistics.median(record.curve[-1][1] for record in theirs.records)
    rows = []
    for words, bar, compiling in (
        ("compilation not counted", 0.6, False),
        ("with compilation, caches warm", None, True),
    ):
        theirs_s = statistics.median(_running(r, r.curve[-1][0], compiling=compiling) for r in theirs.records)
        ours_s = seconds_to(ours, target, compiling=compiling)
        missed = "" if ours_s is not None else ", NOT REACHED"
        ours_s = ours_s or statistics.median(_running(r, r.curve[-1][0], compiling=compiling) for r in ours.records)
        rows.append(
            Row(
                f"decoder-loss: seconds to validation loss {target:.4f}{missed}, {words}; {ours.contender.note}; "
                f"theirs: {theirs.contender.note}",
                "s",
                round(ours_s, 1),
                peer=theirs.contender.name.partition(" (")[0],
                theirs=round(theirs_s, 1),
                bar=bar,
                higher_is_better=False,
                repeats=len(ours.records),
                reached=not missed,
            )
        )
    return rows


def seconds_to(measured: Measured, loss: float, *, compiling: bool = False) -> float | None:
    """Median over the records; None when most of them miss it."""
    found = [
        next((_running(r, s, compiling=compiling) for s, value in r.curve if value <= loss), float("inf"))
        for r in measured.records
    ]
    median = statistics.median(found)
    return None if median == float("inf") else median


def _running(record: Record, seconds: float, *, compiling: bool) -> float:
    """`seconds` of training; without compiling, the first steps cost what the later ones do."""
    if compiling:
        return seconds
    num_warmup_steps = int(str(record.settings["num_warmup_steps"]))
    return max(0.0, seconds - record.warmup_seconds) + num_warmup_steps * record.seconds / record.steps


def final_loss(measured: Measured) -> float:
    return statistics.median(record.curve[-1][1] for record in measured.records)


def _millions(measured: Measured) -> str:
    return f"{measured.records[0].parameters / 1e6:.1f}M parameters"
