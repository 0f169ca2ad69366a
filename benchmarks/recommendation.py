"""Quality and speed of recommendation against SASRec as RecBole trains it, on one split.

    .venv-bench/bin/python -m benchmarks.recommendation WORKSPACE     (`make peers` makes the environment)

takes the split of a workspace of `recommendation` (`noria init DIR --scenario recommendation && noria run -C
DIR`) and trains both sides on it, in turn: the last event of each user judges, ranked among all items but
those of the history, by the same code for both. Ours is trained by the workspace's params.yaml, three times
with another seed. RecBole gets its defaults, as they are, in bfloat16, and with the longer histories of the
SASRec paper; after each epoch it is judged on the very rows that the comparison is made on, and compared at
the best of its epochs, which is to its advantage. It has stopped when ten epochs brought nothing.

Both sides train on the GPU where there is one. Speed is events learned a second. Ours counts everything
between the first step and the checkpoint (validation and saves too); RecBole's counts the steps alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.scale import gpu
from benchmarks.peers.recbole_sasrec import RecboleSasrec
from benchmarks.results import RESULTS, Row, write_results
from noria.artifacts import read_artifact
from noria.config import Config, EvaluateConfig
from noria.data.item_encoder import ItemEncoder
from noria.data.rows import read_rows
from noria.errors import ConfigError
from noria.evaluation.bootstrap import paired_difference
from noria.evaluation.inference import LOGITS
from noria.evaluation.judged import Judged, read_validation
from noria.evaluation.metrics import value
from noria.evaluation.ranking import RANKING, judge_ranks
from noria.evaluation.torch_run import torch_outputs
from noria.scenarios.base import Row as DataRow
from noria.training.checkpoint import load_trained
from noria.training.train import train_model
from noria.workspace import Workspace

SEEDS = (1, 2, 3)
SPEED_BAR, POPULARITY_BAR = 5.0, 1.5
_PATIENCE, _EPOCHS_A_TURN, _MOST_EPOCHS = 10, 10, 200
_SASREC: Mapping[str, Mapping[str, object]] = {
    "defaults": {},
    "bfloat16": {"enable_amp": True},
    "long": {
        "MAX_ITEM_LIST_LENGTH": 200,
        "hidden_dropout_prob": 0.2,
        "attn_dropout_prob": 0.2,
    },
}


@dataclass
class Trained:
    """What one training gave: how it was judged, and the events that it learned a second."""

    judged: Judged
    events_per_s: float


def ours(workspace: Workspace, config: Config, *, num_events: int) -> tuple[Trained, ItemEncoder]:
    """Train as `noria run` does."""
    used: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = train_model(
            read_artifact(workspace.splits),
            Path(directory) / "checkpoint",
            scenario=workspace.scenario,
            config=config,
            scratch=Path(directory) / "scratch",
            on_resources=used.update,
        )
        trained = load_trained(checkpoint.path, scenario=workspace.scenario)
    assert isinstance(trained.encoder, ItemEncoder)
    rows = read_validation(workspace.splits)
    judged = judge_ranks(rows, torch_outputs(trained.model, rows, encoder=trained.encoder), trained.encoder)
    fitted = num_events * (1 - config.train.holdout_share)
    return Trained(judged, fitted * config.train.epochs / float(str(used["wall_s"]))), trained.encoder


class BestEpoch:
    """A SASRec that is trained until ten epochs brought nothing, at the best of its epochs."""

    def __init__(
        self, sasrec: RecboleSasrec, rows: Sequence[DataRow], encoder: ItemEncoder, *, most_epochs: int
    ) -> None:
        self._sasrec, self._rows, self._encoder, self._most = sasrec, rows, encoder, most_epochs
        self._seconds: list[float] = []
        self._best: Judged | None = None
        self._best_at = 0

    @property
    def goes_on(self) -> bool:
        done = len(self._seconds)
        return done < self._most and done - self._best_at < _PATIENCE

    @property
    def num_epochs(self) -> int:
        return len(self._seconds)

    @property
    def trained(self) -> Trained:
        """The best epoch, and the median pace."""
        assert self._best is not None
        return Trained(self._best, self._sasrec.num_events / statistics.median(self._seconds))

    def train(self, epochs: int) -> None:
        """So many epochs more, judged after each."""
        for _ in range(epochs):
            if not self.goes_on:
                return
            self._seconds.append(self._sasrec.train_epoch())
            judged = self._judge()
            if self._best is None or _ndcg(judged) > _ndcg(self._best):
                self._best, self._best_at = judged, len(self._seconds)
            print(f"epoch {len(self._seconds)}: {self._seconds[-1]:.1f} s, ndcg@10 {_ndcg(judged):.4f}", flush=True)

    def _judge(self) -> Judged:
        scores = self._sasrec.scores(self._encoder.items)
        outputs = [{LOGITS: _of_user(scores, row)} for row in self._rows]
        return judge_ranks(self._rows, outputs, self._encoder)


def _of_user(scores: Mapping[str, NDArray[np.float32]], row: DataRow) -> NDArray[np.float32]:
    return scores[str(row["user"])]


def _ndcg(judged: Judged) -> float:
    return value(RANKING["ndcg@10"], judged)


def histories_of(splits: Path) -> dict[str, list[str]]:
    """Items of each user, oldest first; the last one judges.

    Raises
    ------
    ConfigError
        When some users judge and others don't: RecBole holds out an event of each.
    """
    histories = {}
    for row in read_validation(splits):
        before = row["history"]
        assert isinstance(before, list)
        histories[str(row["user"])] = [*before, str(row["item"])]
    if {str(row["user"]) for row in read_rows(splits / "train")} - histories.keys():
        raise ConfigError(
            "users that judge nothing can't be compared",
            where=str(splits),
            expected="split.validation_share: 1.0, and no user with one event",
        )
    return histories


def measure(
    workspace: Workspace, *, threads: int, settings: Mapping[str, Mapping[str, object]], most_epochs: int
) -> list[Row]:
    """Train both sides in turn: one of our trainings, then some of the epochs that each peer may take."""
    histories = histories_of(workspace.splits)
    num_events = sum(len(history) - 1 for history in histories.values())
    rows = read_validation(workspace.splits)
    our_runs: list[Trained] = []
    peers: dict[str, BestEpoch] = {}
    with tempfile.TemporaryDirectory() as directory, chdir(directory):  # RecBole leaves logs where it is run
        for seed in SEEDS:
            run, encoder = ours(workspace, workspace.config.model_copy(update={"seed": seed}), num_events=num_events)
            print(f"ours, seed {seed}: {run.events_per_s:,.0f} events/s, ndcg@10 {_ndcg(run.judged):.4f}", flush=True)
            our_runs.append(run)
            for number, (name, given) in enumerate(settings.items()):
                if name not in peers:
                    home = Path(directory) / str(number)
                    sasrec = RecboleSasrec(histories, home, settings=given, threads=threads, seed=1)
                    peers[name] = BestEpoch(sasrec, rows, encoder, most_epochs=most_epochs)
                print(f"RecBole SASRec, {name}", flush=True)
                peers[name].train(most_epochs if seed == SEEDS[-1] else _EPOCHS_A_TURN)
    return results(our_runs, peers)


def results(our_runs: Sequence[Trained], peers: Mapping[str, BestEpoch]) -> list[Row]:
    """Medians of ours beside each peer, and beside popularity."""
    typical = sorted(our_runs, key=lambda run: _ndcg(run.judged))[len(our_runs) // 2]
    rows = []
    for name, best_epoch in peers.items():
        peer = best_epoch.trained
        for metric in ("ndcg@10", "hr@10"):
            pair = [value(RANKING[metric], judged) for judged in (typical.judged, peer.judged)]
            gain = paired_difference(RANKING[metric], typical.judged, peer.judged, config=EvaluateConfig(), seed=1)
            print(f"{metric}: {pair[0]:.4f} against {pair[1]:.4f} of RecBole, {name}: {gain.points()}")
            claim = f"{metric}, full ranking, {typical.judged.num_rows:,} users"
            best = f"RecBole SASRec, {name}, the best of {best_epoch.num_epochs} epochs"
            rows.append(
                Row(claim, "fraction", round(pair[0], 4), best, round(pair[1], 4), bar=1.0, repeats=len(our_runs))
            )
        pace = statistics.median(run.events_per_s for run in our_runs)
        claim = f"events learned a second, {typical.judged.num_rows:,} histories"
        rows.append(
            Row(
                claim,
                "events/s",
                round(pace),
                f"RecBole SASRec, {name}",
                round(peer.events_per_s),
                SPEED_BAR,
                repeats=len(our_runs),
            )
        )
    trivial = replace(typical.judged, outputs=typical.judged.trivial)
    pair = [round(_ndcg(judged), 4) for judged in (typical.judged, trivial)]
    rows.append(Row("ndcg@10", "fraction", pair[0], typical.judged.trivial_name, pair[1], bar=POPULARITY_BAR))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of RecBole; ours probes")
    parser.add_argument(
        "--peers", nargs="+", choices=_SASREC, default=list(_SASREC), help="RecBole's settings: behind WORKSPACE"
    )
    parser.add_argument("--most-epochs", type=int, default=_MOST_EPOCHS, help="that a peer may take")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory of recommendation.json")
    args = parser.parse_args()
    rows = measure(
        Workspace.at(args.workspace.resolve()),
        threads=args.threads,
        settings={name: _SASREC[name] for name in args.peers},
        most_epochs=args.most_epochs,
    )
    name, _ = gpu()
    devices = {"gpu": name} if name else {}
    print(write_results("recommendation", rows, packages=("torch", "recbole"), directory=args.output, devices=devices))


if __name__ == "__main__":
    main()
