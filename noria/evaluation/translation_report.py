"""What a person wants to see of translations: BLEU by length of the source, and examples from best to worst."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from noria.evaluation.judged import Judged
from noria.evaluation.markdown import cell
from noria.evaluation.pictures import BLUE, GREY, save_figure
from noria.evaluation.translation import bleu_of, chrf_of

_MOST_BINS = 8
_EXAMPLES = 30
_DRAWS = 500


def write_translation_report(directory: Path, judged: Judged) -> None:
    """Write `bleu_by_length.png` and `examples.md`."""
    _draw_lengths(judged, directory / "bleu_by_length.png")
    (directory / "examples.md").write_text(_examples(judged), encoding="utf-8")


def _draw_lengths(judged: Judged, path: Path) -> None:
    """Bins of equally many rows, with 95 % bootstrap intervals, and the trivial answer beside them."""
    lengths_N = np.array([len(str(source)) for source in judged.columns["source"]])
    edges = np.unique(np.quantile(lengths_N, np.linspace(0, 1, min(_MOST_BINS, judged.num_rows) + 1)).astype(int))
    edges[-1] += 1
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    names: list[str] = []
    for low, high in itertools.pairwise(edges):
        member = (lengths_N >= low) & (lengths_N < high)
        num_rows = int(member.sum())
        weights_RN = rng.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=_DRAWS)
        for outputs, colour, shift in ((judged.outputs, BLUE, -0.08), (judged.trivial, GREY, 0.08)):
            value = bleu_of(outputs[member].sum(axis=0, keepdims=True))[0]
            ends = np.quantile(bleu_of(weights_RN @ outputs[member]), [0.025, 0.975])
            axes.plot([len(names) + shift] * 2, ends, color=colour, linewidth=2)
            axes.plot(len(names) + shift, value, "o", color=colour)
        names.append(f"{low}–{high - 1}\n({num_rows:,})")
    axes.plot([], [], "o", color=BLUE, label="model")
    axes.plot([], [], "o", color=GREY, label=judged.trivial_name)
    axes.set_xticks(range(len(names)), names)
    axes.set(
        xlabel="characters of the source (rows)", ylabel="BLEU", ylim=(0, None), title="BLEU by length of the source"
    )
    axes.legend(frameon=False)
    save_figure(figure, path)


def _examples(judged: Judged) -> str:
    """Rows at even steps from the best chrF to the worst."""
    scores_N = chrf_of(judged.outputs)
    order = np.argsort(-scores_N, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(_EXAMPLES, len(order))).astype(int))]
    lines = [f"{len(chosen)} of {judged.num_rows:,} validation rows, from the best to the worst by chrF", ""]
    lines += ["| chrF | source | reference | translation |", "|---:|---|---|---|"]
    for row in chosen:
        cells = (cell(str(judged.columns[name][row])) for name in ("source", "reference", "translation"))
        lines.append(f"| {scores_N[row]:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
