"""JoeyNMT (Kreutzer et al. 2019, arXiv:1907.12484): its own model, loop and batches of tokens.

    python -m benchmarks.peers.joeynmt_training WORKLOAD_DIR --settings JSON

It reads text, so every token id is written as a word and the vocabulary lists them. Its configuration is
that of its small Transformer examples with the sizes of the benchmark: pre-norm, tied embeddings, Adam.
It has no squared ReLU, no bfloat16, and no buckets of like length; the default is 4,096 tokens a batch,
padding included.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import yaml
from joeynmt.batch import Batch
from joeynmt.config import load_config, parse_global_args, set_validation_args
from joeynmt.datasets import BaseDataset
from joeynmt.helpers_for_ddp import get_logger
from joeynmt.model import Model
from joeynmt.prediction import prepare
from joeynmt.training import TrainManager

from benchmarks.peers.modules import TRANSLATOR
from benchmarks.peers.optimization import prepare_torch
from benchmarks.peers.settings import Record, Settings, read_arguments
from benchmarks.peers.stopwatch import Stopwatch
from benchmarks.workloads.format import SIDES, Workload
from noria.data.ragged import Ragged

PEER = "JoeyNMT"
_BATCH_TOKENS = 4_096
_NEVER = 1_000_000_000
_SPECIAL = {"unk_id": 0, "pad_id": 1, "bos_id": 2, "eos_id": 3}  # JoeyNMT's own order
_LANGUAGES = {"source": "en", "target": "de"}


class Watched(TrainManager):
    """JoeyNMT's loop, unchanged, beside a stopwatch."""

    watch: Stopwatch
    valid_data: BaseDataset

    def observe(self, watch: Stopwatch, valid_data: BaseDataset) -> None:
        """Tell `watch` of every step; validate on `valid_data` when it says so."""
        self.watch, self.valid_data = watch, valid_data
        self.optimizer.register_step_post_hook(lambda *_: self._stepped())
        watch.start()

    def _train_step(self, batch: Batch) -> tuple[float, int]:
        # without the end of the source and of the target
        real = int(batch.src_length.sum()) + batch.ntokens - 2 * batch.nseqs
        self.watch.count(real_tokens=real, target_tokens=batch.ntokens)
        result: tuple[float, int] = super()._train_step(batch)
        return result

    def _stepped(self) -> None:
        if self.watch.step():
            with self.watch.validation() as losses:
                losses.append(validation_loss(self.model, self.valid_data))


@torch.no_grad()
def validation_loss(model: Model, data: BaseDataset) -> float:
    """Mean per target token."""
    model.eval()
    total, number = 0.0, 0
    for batch in data.make_iter(batch_size=64, eos_index=model.eos_index, pad_index=model.pad_index):
        total += float(model(return_type="loss", **vars(batch))[0])
        number += batch.ntokens
    model.train()
    return total / number


def main() -> None:
    workload, settings = read_arguments(__doc__, defaults={"activation": "relu"})
    settings.without(
        PEER,
        precision="fp32",
        schedule="constant",
        lr_warmup_steps=0,
        batch_size=0,
        group_by_length=False,
        fused=False,
        attention="sdpa",
        compile=False,
        optimizer="adamw",
        context=0,
        vocabulary_size=0,
    )
    print(train(workload, settings).to_json())


def train(workload: Workload, settings: Settings) -> Record:
    """`TrainManager.train_and_validate` for `settings.steps` updates."""
    prepare_torch(settings)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "model").mkdir()
        write_text(workload, directory)
        (directory / "config.yaml").write_text(yaml.safe_dump(configuration(directory, settings)), encoding="utf-8")
        get_logger("joeynmt", log_file=directory / "train.log")
        args = parse_global_args(load_config(directory / "config.yaml"), rank=0, mode="train")
        model, train_data, valid_data, _ = prepare(args, rank=0, mode="train")
        manager = Watched(
            rank=0,
            model=model,
            model_dir=args.model_dir,
            device=args.device,
            n_gpu=args.n_gpu,
            num_workers=args.num_workers,
            autocast=args.autocast,
            seed=args.seed,
            train_args=args.train,
            dev_args=set_validation_args(args.test),
        )
        watch = Stopwatch(settings)
        manager.observe(watch, valid_data)
        manager.train_and_validate(train_data=train_data, valid_data=valid_data)
    return watch.record(peer=PEER, work=workload.description.work, model=model, packages=("joeynmt",))


def write_text(workload: Workload, directory: Path) -> None:
    """`<side>.<language>` with ids as words, and `vocabulary.txt`."""
    unknown = workload.description.special_ids["unk"]
    for side in SIDES:
        for column, language in _LANGUAGES.items():
            rows: Ragged = workload.rows(side, column)
            lines = (
                " ".join("<unk>" if token == unknown else str(token) for token in rows[row].tolist())
                for row in range(len(rows))
            )
            (directory / f"{side}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    specials = ["<unk>", "<pad>", "<s>", "</s>"]
    words = map(str, range(len(specials), workload.description.vocabulary_size))
    (directory / "vocabulary.txt").write_text("\n".join([*specials, *words]) + "\n", encoding="utf-8")


def configuration(directory: Path, settings: Settings) -> dict[str, object]:
    """What JoeyNMT reads as `config.yaml`."""
    side = {"max_length": -1, "level": "word", "voc_file": str(directory / "vocabulary.txt")}
    return {
        "name": "benchmark",
        "model_dir": str(directory / "model"),
        "use_cuda": torch.cuda.is_available(),
        "random_seed": settings.seed,
        "num_workers": settings.workers,
        "data": {
            "train": str(directory / "train"),
            "dev": str(directory / "validation"),
            "dataset_type": "plain",
            "src": {"lang": _LANGUAGES["source"], **side},
            "trg": {"lang": _LANGUAGES["target"], **side},
            "special_symbols": _SPECIAL,
        },
        "testing": {"eval_metrics": []},
        "training": _training(settings),
        "model": {
            "initializer": "xavier_uniform",
            "tied_embeddings": True,
            "tied_softmax": True,
            "encoder": _stack(settings),
            "decoder": _stack(settings),
        },
    }


def _training(settings: Settings) -> dict[str, object]:
    return {
        "optimizer": "adam",
        "learning_rate": settings.lr,
        "learning_rate_min": 0.0,
        "scheduling": "exponential",  # by a factor of 1: without a schedule, JoeyNMT 2.3 refuses to start
        "decrease_factor": 1.0,
        "weight_decay": settings.weight_decay,
        "clip_grad_norm": settings.max_grad_norm or None,
        "normalization": "tokens",
        "batch_type": "token",
        "batch_size": settings.batch_tokens or _BATCH_TOKENS,
        "epochs": _NEVER,
        "updates": settings.steps,
        "validation_freq": _NEVER,
        "logging_freq": 100,
    }


def _stack(settings: Settings) -> dict[str, object]:
    sizes = TRANSLATOR.given(settings)
    return {
        "type": "transformer",
        "num_layers": sizes.layers,
        "num_heads": sizes.heads,
        "hidden_size": sizes.dim,
        "ff_size": sizes.feed_forward_dim,
        "embeddings": {"embedding_dim": sizes.dim, "scale": True, "dropout": settings.dropout},
        "dropout": settings.dropout,
        "layer_norm": "pre",
        "activation": settings.activation,
    }


if __name__ == "__main__":
    main()
