"""What a person wants to see of a recommender: quality by length of history, and what some users would be shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from noria.config import EvaluateConfig
from noria.evaluation.bootstrap import interval
from noria.evaluation.judged import Judged
from noria.evaluation.metrics import main_metric
from noria.evaluation.pictures import BLUE, GREY, save_figure
from noria.evaluation.ranking import history_of, length_groups
from noria.scenarios.base import Row

PICTURE, TABLE = "ndcg_by_history_length.png", "recommendations.md"
_USERS, _LAST, _FIRST = 12, 4, 5


def write_ranking_report(rows: Sequence[Row], judged: Judged, directory: Path) -> None:
    """Write the picture and the table."""
    draw_by_length(judged, directory / PICTURE)
    (directory / TABLE).write_text(recommendations_table(rows, judged), encoding="utf-8")


def draw_by_length(judged: Judged, path: Path) -> None:
    """The main metric by length of history with 95 % intervals, beside the trivial answer; users below."""
    name, metric = main_metric(judged)
    lengths_N = np.asarray(judged.columns["history_length"])
    groups = {group: member for group, member in length_groups(lengths_N).items() if member.any()}
    figure = Figure(figsize=(7, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    answers = (("model", judged, BLUE, -0.08), (judged.trivial_name, judged.trivially_answered(), GREY, 0.08))
    for label, answered, colour, shift in answers:
        found = [
            interval(metric, answered.where(member), config=EvaluateConfig(), seed=0) for member in groups.values()
        ]
        places = np.arange(len(found)) + shift
        upper.vlines(places, [each.low for each in found], [each.high for each in found], color=colour, linewidth=2)
        upper.plot(places, [each.value for each in found], "o-", color=colour, label=label, alpha=0.9)
    upper.set(ylabel=name, ylim=(0, None), title="By length of the history")
    upper.legend(frameon=False)
    counts = [int(member.sum()) for member in groups.values()]
    lower.bar(range(len(groups)), counts, color=GREY)
    for place, count in enumerate(counts):
        lower.text(place, count, f"{count:,}", ha="center", va="bottom")
    lower.set(ylabel="users", ylim=(0, 1.25 * max(counts)))
    lower.set_xticks(range(len(groups)), [group.replace(" ", "\n", 1) for group in groups])
    save_figure(figure, path)


def recommendations_table(rows: Sequence[Row], judged: Judged) -> str:
    """Some users: the end of their history, what they would be shown, and what they chose then."""
    lines = [
        f"# {min(_USERS, len(rows))} of {len(rows):,} users that judge",
        "",
        f"The last {_LAST} events of the history, the first {_FIRST} recommendations, and the item that came next.",
        "",
        "| user | events | history, newest last | recommended | came next | its rank |",
        "|---|---:|---|---|---|---:|",
    ]
    step = max(1, len(rows) // _USERS)
    for place in range(0, step * min(_USERS, len(rows)), step):
        row, rank = rows[place], judged.outputs[place, 0]
        shown = judged.columns["recommended"][place]
        assert isinstance(shown, list)
        history = history_of(row)
        items = ["**" + _cell(item) + "**" if item == row["item"] else _cell(item) for item in shown[:_FIRST]]
        cells = (
            _cell(row["user"]),
            f"{len(history):,}",
            " → ".join(map(_cell, history[-_LAST:])),
            "; ".join(items),
            _cell(row["item"]),
            f"{rank:,.0f}" if np.isfinite(rank) else "never",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    """Text that can't break a table, nor be taken for markup."""
    text = " ".join(str(value).split())
    for mark, instead in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("*", "\\*"), ("`", "\\`"), ("[", "\\[")):
        text = text.replace(mark, instead)
    return text if len(text) <= 60 else text[:59] + "…"
