"""A trained translator as one ONNX graph, against PyTorch with a KV cache and CTranslate2 on the same weights.

    python -m benchmarks.inference_generation WORKSPACE

takes the last run of a workspace of `translation`. All answer sources of its validation set, as they come, in
batches of mixed lengths, on one thread. PyTorch is the model's own cached generation (noria/model/generation.py).
CTranslate2 says the same tokens in float32, which is checked first; benchmarks/peers/ctranslate2_translator.py says
what its form of our feed-forward costs it, and a row of one-row batches takes that away from it. Its beams are
timed by its own rule of when to end, and by ours.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch and ONNX Runtime are there

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.interleaved import seconds_per_input
from benchmarks.peers.ctranslate2_translator import translate, write_model
from benchmarks.results import Row, write_results
from noria.config import GenerationConfig
from noria.evaluation.inference import outputs_of
from noria.evaluation.judged import read_validation
from noria.evaluation.metrics import main_metric, value
from noria.export.generation import generation_parts
from noria.export.onnx import export_part
from noria.export.quantize import quantize, quantize_weights
from noria.export.reference import Reference
from noria.model.generation import generate
from noria.model.translator import Translator
from noria.serving.bundle import MODEL
from noria.serving.predictor import onnx_run
from noria.training.checkpoint import load_trained
from noria.workspace import Workspace

GREEDY, BEAMS = GenerationConfig(), GenerationConfig(beams=4)
EAGER, PEER, EARLY_PEER, PLAIN_PEER = (
    "PyTorch eager with KV cache",
    "CTranslate2 int8",
    "CTranslate2 int8, early end",
    "CTranslate2 int8, ReLU, as many tokens",
)
FORMS = {"int8": quantize, "int8-weights": partial(quantize_weights, bits=8)}
_NUM_ROWS = {1: 96, 8: 48, 16: 128}
_REPEATS = 7
_MOST_LOST, _LARGEST_SHARE = 0.005, 0.35
Contender = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class Trained:
    """The model of a workspace, its rows, and where graphs of it go."""

    workspace: Workspace
    model: Translator
    reference: Reference
    directory: Path

    def batches(self, rows: int) -> list[np.ndarray]:
        """Sources (B, S) in an order that says nothing."""
        encoder, order = self.reference.encoder, np.random.default_rng(1).permutation(len(self.reference.rows))
        encoded = encoder.encode_batch([self.reference.rows[row] for row in order[: _NUM_ROWS[rows]]])
        parts = (encoded[start : start + rows] for start in range(0, len(encoded), rows))
        return [encoder.collate(part)["source"] for part in parts]

    def graphs(self, generation: GenerationConfig) -> dict[str, Path]:
        """The one graph in every form that is measured."""
        sources = {"source": self.reference.example()[0]["source"]}
        parts = generation_parts(self.model, sources, config=generation)
        fp32 = {part.name: self.directory / f"fp32.{part.name}.onnx" for part in parts.parts}
        for part in parts.parts:
            export_part(part, fp32[part.name], opset=self.workspace.config.optimize.opset)
        made = {"fp32": fp32}
        for name, form in FORMS.items():
            made[name] = {part.name: self.directory / f"{name}.{part.name}.onnx" for part in parts.parts}
            for part in parts.parts:
                form(fp32[part.name], made[name][part.name])
        for name, graphs in made.items():
            parts.join(graphs, self.directory / f"{name}.{generation.beams}.onnx")
        return {name: self.directory / f"{name}.{generation.beams}.onnx" for name in made}

    def limit(self, longest: int) -> int:
        config = self.model.config.generation
        return min(int(longest * config.max_source_ratio) + 10, config.max_tokens, self.model.max_tokens)


def trained_of(workspace: Workspace, directory: Path) -> Trained:
    checkpoint = load_trained(workspace.checkpoint, scenario=workspace.scenario)
    assert isinstance(checkpoint.model, Translator)
    rows = read_validation(workspace.splits)
    judged = workspace.scenario.judge(rows[:1], [{"tokens": np.zeros(1, np.int64)}], checkpoint.encoder)
    reference = Reference(checkpoint.model, checkpoint.encoder, workspace.scenario, rows, (), judged)
    return Trained(workspace, checkpoint.model, reference, directory)


def contenders(trained: Trained, generation: GenerationConfig) -> dict[str, Contender]:
    """By name, all from source tokens to tokens."""

    def eager(source_BS: np.ndarray) -> object:
        with torch.inference_mode():
            return generate(trained.model, trained.model.start(torch.from_numpy(source_BS)), config=generation)

    runs: dict[str, Contender] = {EAGER: eager}
    runs |= {name: _answers(path) for name, path in trained.graphs(generation).items()}
    write_model(trained.model, _made(trained.directory / "peer"), quantization="int8")
    settings = {"quantization": "int8", "beams": generation.beams}
    for name in (PEER, *((EARLY_PEER,) if generation.beams > 1 else ())):
        runs[name] = translate(trained.directory / "peer", limit=trained.limit, early=name == EARLY_PEER, **settings)
    return runs


def _answers(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    run = onnx_run(path)
    return lambda source_BS: run({"source": source_BS})["tokens"]


def _made(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    return directory


def check_same_model(trained: Trained, ours: Contender) -> None:
    """Both in float32 say the same of every source."""
    directory = _made(trained.directory / "peer-fp32")
    write_model(trained.model, directory, quantization="float32")
    theirs = translate(directory, quantization="float32", beams=1, limit=trained.limit)
    for source_BS in trained.batches(16):
        said = [row[row > 2].tolist() for row in np.asarray(ours(source_BS))]
        assert said == theirs(source_BS), "the peer does not compute our model"


def speed_rows(
    trained: Trained,
    runs: Mapping[str, Contender],
    rows: int,
    bars: Sequence[tuple[str, str, float]],
    *,
    search: str = "greedy",
) -> list[Row]:
    """A row for each (ours, peer, bar), all measured in turn."""
    seconds = seconds_per_input(runs, trained.batches(rows), repeats=_REPEATS)
    rates = {name: rows / taken for name, taken in seconds.items()}
    millions = sum(weight.numel() for weight in trained.model.parameters()) / 1e6
    found = []
    for ours, peer, bar in bars:
        claim = f"translator of {millions:.1f}M parameters, {search}, {ours}, batch {rows}, one thread"
        row = Row(claim, "rows/s", round(rates[ours], 1), peer, round(rates[peer], 1), bar, repeats=_REPEATS)
        print(f"{row.claim}: {row.ratio} times {peer} (bar {bar})")
        found.append(row)
    return found


def quality_rows(trained: Trained, graphs: dict[str, Path]) -> list[Row]:
    """What int8 loses of the main metric, and how large its bundle is."""
    rows, encoder, scenario = trained.reference.rows, trained.reference.encoder, trained.workspace.scenario
    judged = {
        name: scenario.judge(rows, outputs_of(rows, encoder=encoder, run=onnx_run(path)), encoder)
        for name, path in graphs.items()
    }
    name, metric = main_metric(judged["fp32"])
    lost = value(metric, judged["fp32"]) - value(metric, judged["int8"])
    around = sum(file.stat().st_size for file in trained.workspace.bundle.rglob("*") if file.is_file())
    around -= (trained.workspace.bundle / MODEL).stat().st_size
    sizes = {form: path.stat().st_size + around for form, path in graphs.items()}
    share = sizes["int8"] / sizes["fp32"]
    print(f"{name} lost by int8: {lost:.4f}; bundle {share:.3f} of fp32's")
    return [
        Row(
            f"{name} lost by int8 on {len(rows):,} rows, beam 4",
            "fraction",
            round(lost, 5),
            bar=_MOST_LOST,
            higher_is_better=False,
        ),
        Row(
            "bundle in int8, of that in fp32", "bytes/byte", round(share, 3), bar=_LARGEST_SHARE, higher_is_better=False
        ),
    ]


def plain_peer_row(trained: Trained, ours: Callable[[np.ndarray], np.ndarray]) -> Row:
    """Against CTranslate2 without the product that ReLU² costs it: as many tokens of every row, whatever they say."""
    directory = _made(trained.directory / "peer-relu")
    write_model(trained.model, directory, quantization="int8", squared=False)
    batches = trained.batches(1)
    lengths = {source_BS.tobytes(): ours(source_BS).shape[1] for source_BS in batches}
    now = [0]
    theirs = translate(directory, quantization="int8", beams=1, limit=lambda _: now[0], exactly=True)

    def as_many(source_BS: np.ndarray) -> object:
        now[0] = lengths[source_BS.tobytes()]
        return theirs(source_BS)

    (row,) = speed_rows(trained, {"int8": ours, PLAIN_PEER: as_many}, 1, [("int8", PLAIN_PEER, 1.0)])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    workspace = Workspace.at(parser.parse_args().workspace)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        trained = trained_of(workspace, Path(directory))
        greedy = contenders(trained, GREEDY)
        check_same_model(trained, greedy["fp32"])
        one_by_one = [("fp32", EAGER, 3.0), ("int8", EAGER, 8.0), ("int8", PEER, 1.0)]
        one_by_one += [("int8-weights", EAGER, 8.0), ("int8-weights", PEER, 1.0)]
        results = speed_rows(trained, greedy, 1, one_by_one)
        results += speed_rows(trained, greedy, 16, [("int8", EAGER, 3.0), ("int8", PEER, 0.9)])
        beams = [("int8", PEER, 0.8), ("int8", EARLY_PEER, 0.8)]
        results += speed_rows(trained, contenders(trained, BEAMS), 8, beams, search="beam 4")
        results.append(plain_peer_row(trained, _answers(Path(directory) / "int8.1.onnx")))
        results += quality_rows(trained, {name: Path(directory) / f"{name}.4.onnx" for name in ("fp32", "int8")})
    print(write_results("inference_generation", results, packages=("torch", "onnxruntime", "ctranslate2")))


if __name__ == "__main__":
    main()
