"""The forms that a model can be given as an ONNX graph, and what each is made of."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from noria.config import OptimizeConfig
from noria.errors import ExportError, NoriaError
from noria.evaluation.inference import num_cores, outputs_of
from noria.evaluation.torch_run import single_threaded, torch_outputs
from noria.export.onnx import check_parity, export_part, node_counts, whole_model
from noria.export.quantize import halve, quantize, quantize_calibrated, quantize_weights
from noria.export.reference import Reference
from noria.export.runtime import for_runtime
from noria.scenarios.base import Part, Parts, Tensors
from noria.serving.predictor import onnx_run
from noria.serving.session import CANT_RUN

logger = logging.getLogger(__name__)

FP32, CALIBRATED = "fp32", "int8-static"
CANT_JUDGE: tuple[type[Exception], ...] = (ExportError, *CANT_RUN)
"""What a graph is passed over for."""
_ATTENTION = ("MultiHeadAttention", "GroupQueryAttention")


@dataclass(frozen=True)
class Source:
    """What a form may be made of.

    Attributes
    ----------
    part:
        The part of the model.
    graph:
        Its graph in fp32: the fused one where there is one, for fewer nodes around the same products.
    seen:
        What the part is given as the model answers training rows, for a form that has to see numbers.
    """

    part: Part
    graph: Path
    seen: Sequence[Tensors]
    opset: int


def _fused(source: Source, target: Path) -> None:
    export_part(replace(source.part, module=for_runtime(source.part.module)), target, opset=source.opset)
    counts = node_counts(target)
    if not any(counts[name] for name in _ATTENTION):
        raise ExportError(
            "no attention became one node",
            where=f"{sum(counts.values())} nodes",
            expected=f"a node of {' or '.join(_ATTENTION)}",
            next_step="leave `fused` out of `optimize.candidates`",
        )


FORMS: Mapping[str, Callable[[Source, Path], None]] = {
    "fused": _fused,
    "fp16": lambda source, target: halve(source.graph, target, inner=source.part.inner),
    "int8": lambda source, target: quantize(source.graph, target),
    CALIBRATED: lambda source, target: quantize_calibrated(source.graph, target, batches=source.seen),
    "int8-weights": lambda source, target: quantize_weights(source.graph, target, bits=8),
    "int4-weights": lambda source, target: quantize_weights(source.graph, target, bits=4),
}
"""Beside fp32, from the simplest on: how each is made of a part of the model and its graph."""


def build_graphs(reference: Reference, directory: Path, *, config: OptimizeConfig) -> Mapping[str, Path | Exception]:
    """Write every form that is asked for into `directory`, part by part; one that can't be built is its error.

    fp32 is among them in any case, for the parity with PyTorch that it has to show. A generator's parts are
    fused as they stand: there is no other form of it in fp32.

    Raises
    ------
    ExportError
        When fp32 can't be exported: everything else rests on it.
    """
    whole = _parts_of(reference)
    fp32 = {part.name: directory / f"{FP32}.{part.name}.onnx" for part in whole.parts}
    for part in whole.parts:
        export_part(part, fp32[part.name], opset=config.opset)
    graphs: dict[str, Path | Exception] = {FP32: _joined(whole, fp32, directory / f"{FP32}.onnx")}
    alone = len(whole.parts) == 1
    seen = _seen(whole, reference) if CALIBRATED in config.candidates else {}
    for name, build in FORMS.items():
        rests_on_it = name == "fused" and any(form in config.candidates for form in FORMS)
        if (name not in config.candidates and not rests_on_it) or (name == "fused" and not alone):
            continue
        try:
            made = {part.name: directory / f"{name}.{part.name}.onnx" for part in whole.parts}
            for part in whole.parts:
                build(Source(part, fp32[part.name], seen.get(part.name, ()), config.opset), made[part.name])
            graphs[name] = _joined(whole, made, directory / f"{name}.onnx")
        except ExportError as error:
            logger.warning("%s can't be built: %s", name, in_a_line(error))
            graphs[name] = error
            continue
        if name == "fused":
            fp32 = made
    return {name: graph for name, graph in graphs.items() if name in config.candidates or name == FP32}


def build_family(
    name: str, smaller: torch.nn.Module, reference: Reference, directory: Path, *, config: OptimizeConfig
) -> Mapping[str, Path | Exception]:
    """Write every form that is asked for of a smaller model, which the same reference judges, as `name-form`.

    Where its fp32 graph can't be made, or does not compute what the smaller model does in PyTorch, the whole
    family is that error.
    """
    family = replace(reference, model=smaller)
    try:
        directory.mkdir()
        graphs = build_graphs(family, directory, config=config)
        fp32 = graphs[FP32]
        assert isinstance(fp32, Path)
        expected = torch_outputs(smaller, reference.rows, encoder=reference.encoder)
        found = outputs_of(reference.rows, encoder=reference.encoder, run=onnx_run(fp32), workers=num_cores())
        check_parity(expected, found, name=f"{name}-{FP32}")
    except CANT_JUDGE as error:
        logger.warning("%s can't be built: %s", name, in_a_line(error))
        return {name: error}
    return {f"{name}-{form}": graph for form, graph in graphs.items() if form in config.candidates}


def in_a_line(error: Exception) -> str:
    """What went wrong, without what is to be done about it."""
    said = error.what if isinstance(error, NoriaError) else str(error)
    return next(iter(said.strip().splitlines()), type(error).__name__)


def _seen(whole: Parts, reference: Reference) -> Mapping[str, Sequence[Tensors]]:
    """What each part is given as the model answers the calibration rows."""
    by_part: dict[str, list[Tensors]] = {}
    with single_threaded():
        for batch in reference.calibration_batches():
            for name, given in whole.seen(batch).items():
                by_part.setdefault(name, []).extend(given)
    return by_part


def _parts_of(reference: Reference) -> Parts:
    """The model in the parts that its scenario exports: itself, where nothing else is said."""
    scenario = reference.scenario
    example, shared = reference.example()
    if scenario.parts is not None:
        return scenario.parts(reference.model, example)
    whole = whole_model(reference.model, example, shared=shared)
    return Parts((whole,), partial(_as_it_is, name=whole.name), lambda batch: {whole.name: [batch]})


def _as_it_is(graphs: Mapping[str, Path], target: Path, *, name: str) -> None:
    shutil.copyfile(graphs[name], target)


def _joined(whole: Parts, graphs: Mapping[str, Path], target: Path) -> Path:
    whole.join(graphs, target)
    return target
