"""What benchmarks/inference_gpu.py measures: the forms of a trained model in ONNX Runtime, and PyTorch, on one GPU.

The graphs are those of the optimize node, on real validation rows in batches of mixed lengths, numbers in and numbers
out: both copy them to the GPU and back. PyTorch is the model itself, a generator with its KV cache; in float16 all
weights of its layers are, and `torch.compile` compiles what is no generator, for open lengths.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import onnxruntime
import torch

from benchmarks.gpu.scale import gpu
from benchmarks.interleaved import seconds_per_input
from benchmarks.results import Row, write_results
from noria.evaluation.inference import Run, outputs_of
from noria.evaluation.judged import read_validation
from noria.evaluation.metrics import main_metric, value
from noria.evaluation.torch_run import torch_run
from noria.export.forms import build_graphs
from noria.export.onnx import check_parity
from noria.export.reference import Reference, reference_of
from noria.model.transformer import Decoder, Encoder
from noria.serving.predictor import onnx_run
from noria.serving.session import CANT_RUN
from noria.training.checkpoint import load_trained
from noria.workspace import Workspace

FORMS = ("fp32", "fused", "fp16")
BATCHES = {1: 64, 16: 16, 64: 8}
"""Rows of a batch -> batches."""
_AHEAD, _MOST_LOST = 1.0, 0.005


def measure(workspaces: Sequence[Path], *, output: Path, repeats: int, device: Literal["cuda", "cpu"]) -> Path:
    """Run every workspace's model and write inference_gpu.json into `output`.

    Raises
    ------
    BundleError
        When ONNX Runtime has no CUDA here.
    """
    rows: list[Row] = []
    for directory in workspaces:
        workspace = Workspace.at(directory)
        with tempfile.TemporaryDirectory() as scratch:
            reference = _reference(workspace)
            graphs = _graphs(reference, workspace, Path(scratch))
            ours = {f"ONNX {form}": onnx_run(graph, device=device) for form, graph in graphs.items()}
            lost = _quality(reference, ours)
            rows += _quality_rows(reference, lost)
            ours = {form: run for form, run in ours.items() if form in lost}
            if not ours:
                continue
            theirs = dict(_peers(reference.model, device=device))
            for size, repeated in BATCHES.items():
                batches = reference.batches(rows=size, repeats=repeated if device == "cuda" else 1)
                seconds = seconds_per_input({**ours, **theirs}, batches, repeats=repeats)
                rows += _speeds(workspace.scenario.name, size, seconds, peers=[*theirs], repeats=repeats)
    devices = {"gpu": gpu()[0] or "no GPU"}
    return write_results(
        "inference_gpu", rows, packages=("torch", onnxruntime.package_name), directory=output, devices=devices
    )


def _reference(workspace: Workspace) -> Reference:
    trained = load_trained(workspace.checkpoint, scenario=workspace.scenario)
    rows = read_validation(workspace.splits)
    return reference_of(trained.model, encoder=trained.encoder, scenario=workspace.scenario, rows=rows)


def _graphs(reference: Reference, workspace: Workspace, directory: Path) -> dict[str, Path]:
    config = workspace.config.optimize.model_copy(update={"candidates": FORMS})
    built = build_graphs(reference, directory, config=config)
    return {form: graph for form, graph in built.items() if isinstance(graph, Path)}


def _peers(model: torch.nn.Module, *, device: str) -> Iterator[tuple[str, Run]]:
    whole = copy.deepcopy(model).to(device)
    half = copy.deepcopy(whole)
    for module in half.modules():
        if isinstance(module, Encoder | Decoder):
            module.half()
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = torch.float16
    yield "PyTorch eager, fp32", torch_run(whole)
    yield "PyTorch eager, fp16", torch_run(half)
    if device == "cuda" and not hasattr(model, "step"):
        yield "torch.compile, fp16", torch_run(_compiled(half))


def _compiled(model: torch.nn.Module) -> torch.nn.Module:
    model = copy.deepcopy(model)
    model.compile(dynamic=True)
    return model


def _quality(reference: Reference, ours: Mapping[str, Run]) -> dict[str, float]:
    """What each form that runs here loses of the main metric; float32 must compute what PyTorch does."""
    rows, encoder = reference.rows, reference.encoder
    _, metric = main_metric(reference.judged)
    lost = {}
    for form, run in ours.items():
        try:
            outputs = outputs_of(rows, encoder=encoder, run=run)
        except CANT_RUN as error:
            print(f"{reference.scenario.name}: {form} does not run: {error}", flush=True)
            continue
        if form == "ONNX fp32":
            check_parity(reference.outputs, outputs, name=form)
        lost[form] = value(metric, reference.judged) - value(metric, reference.scenario.judge(rows, outputs, encoder))
    return lost


def _quality_rows(reference: Reference, lost: Mapping[str, float]) -> list[Row]:
    name, _ = main_metric(reference.judged)
    claim = f"{reference.scenario.name}: {name} lost by {{}} on {len(reference.rows):,} rows"
    print("\n".join(f"{claim.format(form)}: {share:.5f}" for form, share in lost.items()), flush=True)
    return [
        Row(claim.format(form), "fraction", round(share, 5), bar=_MOST_LOST, higher_is_better=False)
        for form, share in lost.items()
    ]


def _speeds(scenario: str, size: int, seconds: Mapping[str, float], *, peers: Sequence[str], repeats: int) -> list[Row]:
    """The best of ours against each peer, and against our own float32."""
    rates = {name: size / taken for name, taken in seconds.items()}
    print(f"{scenario}, batches of {size}: {', '.join(f'{n} {r:,.0f} rows/s' for n, r in rates.items())}", flush=True)
    best = max((name for name in rates if name not in peers), key=rates.__getitem__)
    claim = f"{scenario}: {best}, batches of {size}"
    against = [*peers, *(name for name in rates if name not in (*peers, best))]
    return [
        Row(
            claim,
            "rows/s",
            round(rates[best], 1),
            peer,
            round(rates[peer], 1),
            _AHEAD if peer in peers else None,
            repeats=repeats,
        )
        for peer in against
    ]
