"""What a person wants to see of answers: F1 by length of the context, and answers beside the right ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from noria.evaluation.answers import ANSWERED, ASKED, EXACT, F1, LENGTH, RIGHT, SCORE
from noria.evaluation.judged import Judged
from noria.evaluation.markdown import cell
from noria.evaluation.pictures import BLUE, GREY, save_figure

_MOST_BINS = 8
_EXAMPLES = 40
_DRAWS = 500


def write_answers_report(directory: Path, judged: Judged) -> None:
    """Write `f1_by_length.png` and `examples.md`."""
    _draw_lengths(judged, directory / "f1_by_length.png")
    (directory / "examples.md").write_text(_examples(judged), encoding="utf-8")


def _draw_lengths(judged: Judged, path: Path) -> None:
    """Bins of equally many rows, with 95 % bootstrap intervals, and the trivial answer beside them."""
    lengths_N = np.array(judged.columns[LENGTH], np.int64)
    shares = np.linspace(0, 1, min(_MOST_BINS, judged.num_rows) + 1)
    edges = np.unique(np.quantile(lengths_N, shares, method="inverted_cdf"))  # lengths that rows have: no bin is empty
    edges[-1] += 1
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    names: list[str] = []
    for low, high in itertools.pairwise(edges.tolist() if len(edges) > 1 else [0, int(edges[0])]):
        member = (lengths_N >= low) & (lengths_N < high)
        num_rows = int(member.sum())
        weights_RN = rng.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=_DRAWS) / num_rows
        for outputs, colour, shift in ((judged.outputs, BLUE, -0.08), (judged.trivial, GREY, 0.08)):
            ends = np.quantile(weights_RN @ outputs[member, F1], [0.025, 0.975])
            axes.plot([len(names) + shift] * 2, ends, color=colour, linewidth=2)
            axes.plot(len(names) + shift, outputs[member, F1].mean(), "o", color=colour)
        names.append(f"{low:,}–{high - 1:,}\n({num_rows:,})")
    axes.plot([], [], "o", color=BLUE, label="model")
    axes.plot([], [], "o", color=GREY, label=judged.trivial_name)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set(
        xlabel="characters of the context (rows)", ylabel="F1", ylim=(0, 1.02), title="F1 by length of the context"
    )
    axes.legend(frameon=False)
    save_figure(figure, path)


def _examples(judged: Judged) -> str:
    """Rows at even steps from the best F1 to the worst."""
    scores_N = judged.outputs[:, F1]
    order = np.lexsort((np.array(judged.columns[SCORE]), -scores_N))
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(_EXAMPLES, len(order))).astype(int))]
    right = int(judged.outputs[:, EXACT].sum())
    lines = [
        f"{len(chosen)} of {judged.num_rows:,} validation rows, from the best to the worst by F1; {right:,} are exact.",
        "",
        "| F1 | score | question | right answer | answer |",
        "|---:|---:|---|---|---|",
    ]
    for row in chosen:
        asked, right_one, answered = (cell(str(judged.columns[name][row])) or "–" for name in (ASKED, RIGHT, ANSWERED))
        lines.append(f"| {scores_N[row]:.2f} | {judged.columns[SCORE][row]:.2f} | {asked} | {right_one} | {answered} |")
    return "\n".join(lines) + "\n"
