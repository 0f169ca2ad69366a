"""What a person wants to see of answers: F1 by length of the context, and answers beside the right ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noria.evaluation.answers import ANSWERED, ASKED, EXACT, F1, LENGTH, RIGHT, SCORE
from noria.evaluation.judged import Judged
from noria.evaluation.markdown import cell
from noria.evaluation.pictures import draw_by_length

_EXAMPLES = 40


def write_answers_report(directory: Path, judged: Judged) -> None:
    """Write `f1_by_length.png` and `examples.md`."""
    draw_by_length(
        judged,
        directory / "f1_by_length.png",
        of="context",
        lengths_N=np.array(judged.columns[LENGTH], np.int64),
        metric="F1",
        score=lambda sums_RC, num_rows: sums_RC[:, F1] / num_rows,
    )
    (directory / "examples.md").write_text(_examples(judged), encoding="utf-8")


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
