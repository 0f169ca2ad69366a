"""The candidates for the bundle, judged through ONNX Runtime: the fastest that is good enough wins."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from noria.config import EvaluateConfig, OptimizeConfig
from noria.errors import ExportError
from noria.evaluation.bootstrap import Estimate
from noria.evaluation.inference import Run, num_cores, outputs_of
from noria.evaluation.latency import Latency, measure_latency
from noria.evaluation.metrics import main_metric, value
from noria.evaluation.torch_run import single_threaded, torch_run
from noria.export.forms import CANT_JUDGE, FP32, in_a_line
from noria.export.gate import Loss, loss_of
from noria.export.memory import peak_bytes
from noria.export.onnx import check_parity, largest_difference
from noria.export.reference import Reference
from noria.serving.predictor import onnx_run
from noria.serving.session import Device, device_of, open_session

REFERENCE = "pytorch"
SIZES = (1, 8, 32)
"""Rows of the batches that are timed."""
_TIE = 1.05
_UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Candidate:
    """One form of the model and how it did.

    Attributes
    ----------
    name:
        "pytorch" (the reference), "fp32", or one of `noria.export.forms.FORMS`; of a smaller model behind its name
        ("pruned-int8").
    path:
        Its graph; None for the reference and for what could not be built or run.
    metric, drop:
        The main metric on the validation set, and how much less than the reference's that is.
    worst_slice, slice_drop:
        The judged slice that loses most, and how much.
    difference:
        Largest absolute difference of an output from the reference's.
    latency:
        By rows of a batch, one thread.
    size_bytes:
        Of the graph.
    memory_bytes:
        Peak of a process that loads the graph and runs a batch.
    verdict:
        Why it was chosen or passed over, in words.
    compressed:
        What made the model smaller, in words; "" for the model as it was trained.
    """

    name: str
    path: Path | None = None
    metric: float = float("nan")
    drop: Estimate = _UNKNOWN
    worst_slice: str = ""
    slice_drop: Estimate = _UNKNOWN
    difference: float = float("nan")
    latency: Mapping[int, Latency] = field(default_factory=dict)
    size_bytes: int = 0
    memory_bytes: int = 0
    passed: bool = False
    verdict: str = ""
    compressed: str = ""

    @property
    def one_row_ms(self) -> float:
        """Median latency of one row; infinite where it was not timed."""
        return self.latency[1].p50_ms if self.latency else float("inf")

    @property
    def rows_per_s(self) -> float:
        """In the largest batches that are timed, on one thread."""
        return 1e3 * SIZES[-1] / self.latency[SIZES[-1]].p50_ms if self.latency else 0.0


def judge_candidates(
    reference: Reference,
    graphs: Mapping[str, Path | Exception],
    *,
    config: OptimizeConfig,
    evaluate: EvaluateConfig,
    seed: int = 1,
) -> list[Candidate]:
    """Every form on the validation set and on the clock; the reference first.

    Raises
    ------
    ExportError
        When fp32 does not compute what PyTorch computes.
    """
    candidates, runs = [], {REFERENCE: torch_run(_beside_candidates(reference.model, graphs, device=config.device))}
    for name, graph in graphs.items():
        if isinstance(graph, Exception):
            candidates.append(Candidate(name, verdict=f"can't be built: {in_a_line(graph)}"))
            continue
        try:
            run = onnx_run(graph, device=config.device)
            outputs = outputs_of(reference.rows, encoder=reference.encoder, run=run, workers=num_cores())
            memory = peak_bytes(graph, reference.batches(rows=SIZES[0], repeats=1)[0], device=config.device)
        except CANT_JUDGE as error:
            candidates.append(Candidate(name, verdict=f"can't be run: {in_a_line(error)}"))
            continue
        if name == FP32:
            check_parity(reference.outputs, outputs, name=name)
        judged = reference.scenario.judge(reference.rows, outputs, reference.encoder)
        loss = loss_of(reference.judged, judged, outputs, config=config, evaluate=evaluate, seed=seed)
        candidate = _candidate(name, graph, loss, is_asked_for=name != FP32 or name in config.candidates)
        difference = largest_difference(reference.outputs, outputs)
        candidates.append(replace(candidate, difference=difference, memory_bytes=memory))
        runs[name] = run
    _, metric = main_metric(reference.judged)
    nothing = Estimate(0.0, 0.0, 0.0)
    first = Candidate(REFERENCE, metric=value(metric, reference.judged), drop=nothing, verdict="the reference")
    return _timed([first, *candidates], runs, reference, repeats=config.latency_repeats)


def choose(candidates: Sequence[Candidate], *, config: OptimizeConfig) -> tuple[Candidate, str]:
    """The fastest candidate that passed, and why, in words.

    Within 5 % the simplest wins (fp32, then in the order of `FORMS`, the model as it was trained before smaller
    ones), so that noise of the clock does not change the bundle.

    Raises
    ------
    ExportError
        When none passed.
    """
    passed = [candidate for candidate in candidates if candidate.passed]
    if not passed:
        raise ExportError(
            "no candidate stays inside the quality budget",
            where="; ".join(f"{candidate.name}: {candidate.verdict}" for candidate in candidates),
            expected=f"a drop of at most {config.max_quality_drop:g}, per slice {config.max_slice_drop:g}",
            next_step="add `fp32` to optimize.candidates, or widen optimize.max_quality_drop; the live model goes on",
        )
    fastest = min(candidate.one_row_ms for candidate in passed)
    chosen = next(candidate for candidate in passed if candidate.one_row_ms <= fastest * _TIE)
    times = candidates[0].one_row_ms / chosen.one_row_ms
    reason = (
        f"{chosen.name}: {chosen.one_row_ms:.2f} ms for one row, {times:.1f} times as fast as PyTorch; "
        f"it loses {chosen.drop.points()} of {100 * config.max_quality_drop:.2f} allowed"
    )
    how = [f"{chosen.name.partition('-')[0]}: {chosen.compressed}"] if chosen.compressed else []
    refused = [
        f"{candidate.name} was passed over: {candidate.verdict}" for candidate in candidates[1:] if not candidate.passed
    ]
    return chosen, "; ".join([reason, *how, *refused])


def _beside_candidates(
    model: torch.nn.Module, graphs: Mapping[str, Path | Exception], *, device: Device
) -> torch.nn.Module:
    """The model where the candidates are computed: its clock says what their graphs are worth there."""
    fp32 = graphs.get(FP32)
    if device == "cpu" or not isinstance(fp32, Path) or not torch.cuda.is_available():
        return model
    try:
        found = device_of(open_session(fp32, device=device))  # ONNX Runtime may be built for CUDA, and not start it
    except CANT_JUDGE:
        return model
    return copy.deepcopy(model).to(found)


def _candidate(name: str, graph: Path, loss: Loss, *, is_asked_for: bool) -> Candidate:
    faults = list(loss.faults) if is_asked_for else ["only checked: not in `optimize.candidates`", *loss.faults]
    return Candidate(
        name=name,
        path=graph,
        metric=loss.metric,
        drop=loss.drop,
        worst_slice=loss.worst_slice,
        slice_drop=loss.slice_drop,
        size_bytes=graph.stat().st_size,
        passed=not faults,
        verdict="; ".join(faults) or "inside the quality budget",
    )


def _timed(
    candidates: Sequence[Candidate], runs: Mapping[str, Run], reference: Reference, *, repeats: int
) -> list[Candidate]:
    """The candidates with the latencies of their graphs (tokenizing is the same for all), PyTorch on one thread too.

    A large batch takes longer and varies less: so many fewer of them.
    """
    with single_threaded():
        latency = {
            size: measure_latency(
                runs, batches=reference.batches(rows=size, repeats=max(1, repeats // (1 + size // 6)))
            )
            for size in SIZES
        }
    return [
        replace(candidate, latency={size: latency[size][candidate.name] for size in SIZES})
        if candidate.name in runs
        else candidate
        for candidate in candidates
    ]
