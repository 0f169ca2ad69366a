"""The candidates for the bundle, judged through ONNX Runtime: the fastest that is good enough wins."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from noria.config import EvaluateConfig, OptimizeConfig
from noria.errors import ExportError
from noria.evaluation.inference import Run, num_cores, outputs_of
from noria.evaluation.judged import Judged
from noria.evaluation.latency import Latency, measure_latency
from noria.evaluation.metrics import main_metric, value
from noria.evaluation.torch_run import single_threaded, torch_outputs, torch_run
from noria.export.fuse import fuse
from noria.export.onnx import check_parity, export_part, largest_difference, whole_model
from noria.export.quantize import quantize
from noria.scenarios.base import Encoder, Parts, Row, Scenario, Tensors, pieces_of
from noria.serving.predictor import CANT_RUN, onnx_run

logger = logging.getLogger(__name__)

REFERENCE = "pytorch"
_TIE = 1.05
_SMALL, _LARGE = 1, 32
_LARGE_COSTS = 5  # a large batch takes longer and varies less: so many fewer of them
_UNTIMED = Latency(float("nan"), float("nan"))
_LONGEST_EXAMPLE_ROWS = 3


@dataclass(frozen=True)
class Candidate:
    """One form of the model and how it did.

    Attributes
    ----------
    name:
        "pytorch" (the reference), "fp32", "fused", "int8".
    path:
        Its graph; None for the reference and for what could not be built.
    metric, drop:
        The main metric on the validation set, and how much less than the reference's that is.
    worst_slice, slice_drop:
        The judged slice that loses most, and how much.
    difference:
        Largest absolute difference of an output from the reference's.
    small, large:
        Latency at 1 row and at 32, one thread.
    size_bytes:
        Of the graph.
    verdict:
        Why it was chosen or passed over, in words.
    """

    name: str
    path: Path | None = None
    metric: float = float("nan")
    drop: float = float("nan")
    worst_slice: str = ""
    slice_drop: float = float("nan")
    difference: float = float("nan")
    small: Latency = _UNTIMED
    large: Latency = _UNTIMED
    size_bytes: int = 0
    passed: bool = False
    verdict: str = ""


@dataclass(frozen=True)
class Reference:
    """What the candidates are compared with: the PyTorch model and its answers on the validation set."""

    model: torch.nn.Module
    encoder: Encoder
    scenario: Scenario
    rows: Sequence[Row]
    outputs: Sequence[Tensors]
    judged: Judged


def reference_of(model: torch.nn.Module, *, encoder: Encoder, scenario: Scenario, rows: Sequence[Row]) -> Reference:
    """Run the PyTorch model over the validation rows."""
    outputs = torch_outputs(model, rows, encoder=encoder)
    return Reference(model, encoder, scenario, rows, outputs, scenario.judge(rows, outputs, encoder))


def build_graphs(reference: Reference, directory: Path, *, config: OptimizeConfig) -> Mapping[str, Path | ExportError]:
    """Export, fuse and quantize into `directory`, part by part; a form that can't be built is its error.

    int8 is made of the fused graph where there is one: fewer nodes around the same products. fp32
    is among them in any case, for the parity with PyTorch that it has to show.

    Raises
    ------
    ExportError
        When fp32 can't be exported: everything else rests on it.
    """
    whole = _parts_of(reference)
    sources = {part.name: directory / f"fp32.{part.name}.onnx" for part in whole.parts}
    for part in whole.parts:
        export_part(part, sources[part.name], opset=config.opset)
    graphs: dict[str, Path | ExportError] = {"fp32": _joined(whole, sources, directory / "fp32.onnx")}
    for name, build in (("fused", fuse), ("int8", quantize)):
        if name not in config.candidates and (name == "int8" or len(sources) > 1):
            continue  # one step of a generator has little to fuse: it is not tried for int8's sake
        targets = {piece: directory / f"{name}.{piece}.onnx" for piece in sources}
        try:
            for piece, target in targets.items():
                build(sources[piece], target)
        except ExportError as error:
            logger.warning("%s: %s", name, error.what)
            graphs[name] = error
            continue
        sources = targets
        graphs[name] = _joined(whole, sources, directory / f"{name}.onnx")
    return {name: graph for name, graph in graphs.items() if name in config.candidates or name == "fp32"}


def _parts_of(reference: Reference) -> Parts:
    """The model in the parts that its scenario exports: itself, where nothing else is said."""
    scenario = reference.scenario
    example, shared = _example(reference)
    if scenario.parts is not None:
        return scenario.parts(reference.model, example)
    whole = whole_model(reference.model, example, shared=shared)

    def as_it_is(graphs: Mapping[str, Path], target: Path) -> None:
        shutil.copyfile(graphs[whole.name], target)

    return Parts((whole,), as_it_is)


def _joined(whole: Parts, graphs: Mapping[str, Path], target: Path) -> Path:
    whole.join(graphs, target)
    return target


def judge_candidates(
    reference: Reference,
    graphs: Mapping[str, Path | ExportError],
    *,
    config: OptimizeConfig,
    evaluate: EvaluateConfig,
) -> list[Candidate]:
    """Every form on the validation set and on the clock; the reference first.

    Raises
    ------
    ExportError
        When fp32 does not compute what PyTorch computes.
    """
    candidates, runs = [], {REFERENCE: torch_run(reference.model)}
    for name, graph in graphs.items():
        if isinstance(graph, ExportError):
            candidates.append(Candidate(name, verdict=graph.what))
            continue
        try:
            run = onnx_run(graph)
            candidates.append(_judged(name, graph, run, reference, config=config, evaluate=evaluate))
            runs[name] = run
        except CANT_RUN as error:
            candidates.append(Candidate(name, verdict=str(error).splitlines()[0]))
    _, metric = main_metric(reference.judged)
    first = Candidate(REFERENCE, metric=value(metric, reference.judged), drop=0.0, verdict="the reference")
    return _timed([first, *candidates], runs, reference, repeats=config.latency_repeats)


def choose(candidates: Sequence[Candidate], *, config: OptimizeConfig) -> tuple[Candidate, str]:
    """The fastest candidate that passed, and why, in words.

    Within 5 % the simplest wins (the order is fp32, fused, int8), so that noise of the clock does
    not change the bundle.

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
    fastest = min(candidate.small.p50_ms for candidate in passed)
    chosen = next(candidate for candidate in passed if candidate.small.p50_ms <= fastest * _TIE)
    reference = candidates[0].small.p50_ms
    reason = (
        f"{chosen.name}: {chosen.small.p50_ms:.2f} ms for one row, {reference / chosen.small.p50_ms:.1f} times as fast "
        f"as PyTorch; it loses {100 * chosen.drop:+.2f} points of {100 * config.max_quality_drop:.2f} allowed"
    )
    refused = [
        f"{candidate.name} was passed over: {candidate.verdict}" for candidate in candidates[1:] if not candidate.passed
    ]
    return chosen, "; ".join([reason, *refused])


def _example(reference: Reference) -> tuple[Tensors, Mapping[str, tuple[int, ...]]]:
    """A batch of rows of different lengths, so that no two open sizes look equal by chance.

    With it, by input, the axes on which the shortest and the longest row are of one size: these are no lengths.
    """
    encoded = sorted(_pieces(reference, reference.rows[:100]), key=reference.encoder.num_tokens)
    if len(encoded) < 2:
        raise ExportError(
            "an export needs two validation rows",
            where=f"{len(encoded)} row",
            expected="rows of different lengths, so that every size stays open in the graph",
            next_step="bring more rows, or raise `split.validation_share`",
        )
    alone = [reference.encoder.collate([row]) for row in (encoded[0], encoded[-1])]
    shared = {
        name: tuple(axis for axis in range(1, array.ndim) if array.shape[axis] == alone[1][name].shape[axis])
        for name, array in alone[0].items()
    }
    return reference.encoder.collate([encoded[0], *encoded[-_LONGEST_EXAMPLE_ROWS:]]), shared


def _judged(
    name: str, graph: Path, run: Run, reference: Reference, *, config: OptimizeConfig, evaluate: EvaluateConfig
) -> Candidate:
    outputs = outputs_of(reference.rows, encoder=reference.encoder, run=run, workers=num_cores())
    if name == "fp32":
        check_parity(reference.outputs, outputs, name=name)
    judged = reference.scenario.judge(reference.rows, outputs, reference.encoder)
    _, metric = main_metric(judged)
    found = value(metric, judged)
    drop = value(metric, reference.judged) - found
    worst_slice, slice_drop = _worst_slice(reference.judged, judged, min_rows=evaluate.min_slice_rows)
    faults = []
    if name not in config.candidates:
        faults.append("only checked: not in `optimize.candidates`")
    if not all(np.isfinite(array).all() for output in outputs for array in output.values()):
        faults.append("answers with what is no number")
    if not drop <= config.max_quality_drop:
        faults.append(f"loses {100 * drop:.2f} points, {100 * config.max_quality_drop:.2f} are allowed")
    if slice_drop > config.max_slice_drop:
        faults.append(f"loses {100 * slice_drop:.2f} points on `{worst_slice}`, {100 * config.max_slice_drop:.2f} are")
    return Candidate(
        name=name,
        path=graph,
        metric=found,
        drop=drop,
        worst_slice=worst_slice,
        slice_drop=slice_drop,
        difference=largest_difference(reference.outputs, outputs),
        size_bytes=graph.stat().st_size,
        passed=not faults,
        verdict="; ".join(faults) or "inside the quality budget",
    )


def _worst_slice(reference: Judged, judged: Judged, *, min_rows: int) -> tuple[str, float]:
    """The judged slice that loses most; ("", 0.0) without any."""
    _, metric = main_metric(reference)
    drops = {
        name: value(metric, reference.where(member)) - value(metric, judged.where(member))
        for name, member in reference.slices.items()
        if member.sum() >= min_rows
    }
    worst = max(drops, key=lambda name: drops[name], default="")
    return worst, drops.get(worst, 0.0)


def _timed(
    candidates: Sequence[Candidate], runs: Mapping[str, Run], reference: Reference, *, repeats: int
) -> list[Candidate]:
    """The candidates with the latencies of their graphs (tokenizing is the same for all), PyTorch on one thread too."""
    with single_threaded():
        small = measure_latency(runs, batches=_batches(reference, rows=_SMALL, repeats=repeats))
        large_repeats = max(1, repeats // _LARGE_COSTS)
        large = measure_latency(runs, batches=_batches(reference, rows=_LARGE, repeats=large_repeats))
    return [
        replace(candidate, small=small[candidate.name], large=large[candidate.name])
        if candidate.name in runs
        else candidate
        for candidate in candidates
    ]


def _batches(reference: Reference, *, rows: int, repeats: int) -> list[Tensors]:
    """Batches of validation rows as they come; of rows in pieces, as many pieces."""
    taken = [reference.rows[i % len(reference.rows)] for i in range(rows * repeats)]
    encoded = _pieces(reference, taken)[: len(taken)]
    return [reference.encoder.collate(encoded[start : start + rows]) for start in range(0, len(encoded), rows)]


def _pieces(reference: Reference, rows: Sequence[Row]) -> list[Tensors]:
    """What the model reads of some rows, each at once."""
    encoded = reference.encoder.encode_batch(rows)
    return [piece for row in encoded for piece in pieces_of(reference.encoder, row)]
