"""What a person wants to see of a language model: bits by place, length and kind of document, and continuations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from noria.data.document_encoder import MAX_NEW_TOKENS, PROMPT, TEMPERATURE, TOKENS, DocumentEncoder
from noria.data.documents import kind_of
from noria.evaluation.judged import Judged
from noria.evaluation.language import Said, bits_per_byte, said_of
from noria.evaluation.markdown import cell
from noria.evaluation.metrics import value
from noria.evaluation.pictures import BLUE, GREY, RED, save_figure
from noria.scenarios.base import Row, Tensors

_FIRST_BYTES, _MOST_PLACES = 64, 14
_MOST_BINS = 8
_MOST_KINDS = 12
_MOST_CONTINUED = 12
_SHOWN_BYTES = 160


def write_language_report(
    rows: Sequence[Row], outputs: Sequence[Tensors], judged: Judged, encoder: DocumentEncoder, directory: Path
) -> None:
    """Write `bits_by_place.png`, `bits_by_length.png`, `documents.md` and `continuations.md`."""
    said = said_of(rows, outputs, encoder)
    mean = value(bits_per_byte, judged)
    _draw_places(said, mean, encoder.max_tokens, directory / "bits_by_place.png")
    _draw_lengths(judged, mean, directory / "bits_by_length.png")
    (directory / "documents.md").write_text(_documents(rows, judged), encoding="utf-8")
    (directory / "continuations.md").write_text(_continuations(rows, outputs, encoder), encoding="utf-8")


def _draw_places(said: Sequence[Said], mean: float, context: int, path: Path) -> None:
    """Bits per byte by how many bytes (above) and tokens (below) stand before, in steps that double."""
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    by_bytes = _by_place(said, lambda part: np.cumsum(part.num_bytes) - part.num_bytes, first=_FIRST_BYTES)
    by_tokens = _by_place(said, lambda part: np.arange(len(part.bits)), first=8)
    for axes, (starts, values), what in ((upper, by_bytes, "bytes"), (lower, by_tokens, "tokens")):
        axes.plot(range(len(values)), values, "o-", color=BLUE)
        axes.axhline(mean, color=GREY, linestyle="--", label=f"all together: {mean:.3f}")
        axes.set_xticks(range(len(values)), [f"{start:,}" for start in starts], rotation=30)
        axes.set(xlabel=f"{what} before, at least", ylabel="bits per byte", ylim=(0, None))
        axes.legend(frameon=False)
    reached = int(np.searchsorted(by_tokens[0], context))
    lower.axvline(reached - 0.5, color=RED, linewidth=1)
    upper.set_title(f"Bits per byte by place in a document (context of {context:,} tokens: red)")
    save_figure(figure, path)


def _by_place(
    said: Sequence[Said], place_of: Callable[[Said], np.ndarray], *, first: int
) -> tuple[list[int], list[float]]:
    """Where each bin starts, and its bits per byte; bins double, and end with the longest document."""
    edges = [0, *(first * 2**power for power in range(_MOST_PLACES))]
    places = np.concatenate([place_of(part) for part in said])
    bins = np.searchsorted(edges, places, side="right") - 1
    bits, num_bytes = (
        np.bincount(bins, np.concatenate([getattr(part, name) for part in said]), minlength=len(edges))
        for name in ("bits", "num_bytes")
    )
    filled = np.flatnonzero(num_bytes)
    return [edges[number] for number in filled], [float(bits[number] / num_bytes[number]) for number in filled]


def _draw_lengths(judged: Judged, mean: float, path: Path) -> None:
    """Every document, and bins of equally many."""
    sizes_N = np.maximum(np.array(judged.columns["bytes"], np.float64), 1)
    rates_N = np.array(judged.columns["bits_per_byte"], np.float64)
    edges = np.unique(np.quantile(sizes_N, np.linspace(0, 1, min(_MOST_BINS, judged.num_rows) + 1)))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(sizes_N, rates_N, ".", color=GREY, label="a document")
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        member = (sizes_N >= low) & ((sizes_N < high) | (high == edges[-1]))
        rate = float((rates_N * sizes_N)[member].sum() / sizes_N[member].sum())
        axes.plot([low, high], [rate, rate], color=BLUE, linewidth=3, label=None if number else "documents together")
    axes.axhline(mean, color=RED, linewidth=1, linestyle="--", label=f"all together: {mean:.3f}")
    axes.set_xscale("log")
    axes.set(xlabel="bytes of the document", ylabel="bits per byte", ylim=(0, None), title="Bits per byte by length")
    axes.legend(frameon=False)
    save_figure(figure, path)


def _documents(rows: Sequence[Row], judged: Judged) -> str:
    """By kind, and the documents that cost most and least."""
    kinds = np.array([kind_of(row) or "(none)" for row in rows])
    bits, sizes = (np.array(judged.columns[name], np.float64) for name in ("bits", "bytes"))
    lines = ["| kind | documents | bytes | bits per byte |", "|---|---:|---:|---:|"]
    for kind in sorted(set(kinds.tolist()), key=lambda kind: -sizes[kinds == kind].sum())[:_MOST_KINDS]:
        member = kinds == kind
        rate = bits[member].sum() / max(sizes[member].sum(), 1)
        lines.append(f"| {cell(kind)} | {member.sum():,} | {int(sizes[member].sum()):,} | {rate:.3f} |")
    order = np.argsort(bits / np.maximum(sizes, 1), kind="stable")
    lines += ["", "From the cheapest to the dearest:", "", "| document | bytes | bits per byte |", "|---|---:|---:|"]
    for row in order[np.unique(np.linspace(0, len(order) - 1, min(20, len(order))).astype(int))]:
        rate = bits[row] / max(sizes[row], 1)
        lines.append(f"| {cell(str(judged.columns['name'][row]))} | {int(sizes[row]):,} | {rate:.3f} |")
    return "\n".join(lines) + "\n"


def _continuations(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: DocumentEncoder) -> str:
    """How beginnings of documents go on: in truth, and by the model, greedily or drawn."""
    lines = ["| document | begins | went on | the model, at temperature | goes on |", "|---|---|---|---:|---|"]
    for row, encoded, output in zip(rows, encoder.encode_batch(rows), outputs, strict=True):
        num_prompt = len(encoded[PROMPT])
        if not encoded[MAX_NEW_TOKENS][0] or len(lines) > _MOST_CONTINUED + 1:
            continue
        begins = encoder.decode(encoded[PROMPT][1:])
        said = encoder.decode(output[TOKENS][num_prompt - 1 :])
        truth = str(row["text"])[len(begins) :][: max(len(said), 40)]
        name = str(row.get("name") or row.get("origin") or "")
        temperature = float(encoded[TEMPERATURE][0])
        cells = [name, begins[-_SHOWN_BYTES:], truth]
        lines.append(f"| {' | '.join(map(_shown, cells))} | {temperature:g} | {_shown(said)} |")
    return "\n".join(lines) + "\n"


def _shown(text: str) -> str:
    """With its line ends."""
    return cell(text.replace("\n", " ⏎ "))
