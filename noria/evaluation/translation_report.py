"""What a person wants to see of translations: BLEU by length of the source, and examples from best to worst."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noria.evaluation.judged import Judged
from noria.evaluation.markdown import cell
from noria.evaluation.pictures import draw_by_length
from noria.evaluation.translation import bleu_of, chrf_of

_EXAMPLES = 30


def write_translation_report(directory: Path, judged: Judged) -> None:
    """Write `bleu_by_length.png` and `examples.md`."""
    draw_by_length(
        judged,
        directory / "bleu_by_length.png",
        of="source",
        lengths_N=np.array([len(str(source)) for source in judged.columns["source"]]),
        metric="BLEU",
        score=lambda sums_RC, num_rows: bleu_of(sums_RC),
    )
    (directory / "examples.md").write_text(_examples(judged), encoding="utf-8")


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
