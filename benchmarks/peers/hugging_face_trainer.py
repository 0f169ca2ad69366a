"""Hugging Face Trainer: BERT, Marian and GPT-2 of the benchmark's sizes.

    python -m benchmarks.peers.hugging_face_trainer WORKLOAD_DIR --settings JSON

`Trainer` (Seq2SeqTrainer for translation) at its default arguments except that it writes no checkpoints,
logs and bars, which would be counted against it. Its batch of 8 rows is 32 here (64 pairs, 8 blocks), as
in the other contenders. `{"group_by_length": true, "precision": "bf16"}` and `attention` are its options;
the fused AdamW is its default since transformers 5.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    PreTrainedModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from benchmarks.peers.batches import (
    IGNORED,
    Item,
    Rows,
    blocks,
    classified,
    pad_classified,
    pad_translated,
    translated,
)
from benchmarks.peers.hugging_face_models import bert, gpt2, marian
from benchmarks.peers.modules import context
from benchmarks.peers.optimization import autocast, mean_loss, prepare_torch
from benchmarks.peers.settings import Record, Settings, read_arguments
from benchmarks.peers.stopwatch import Stopwatch
from benchmarks.workloads.format import Workload

PEER = "Hugging Face Trainer"
_VALIDATION_BLOCKS = 8


@dataclass(frozen=True)
class Task:
    """What the Trainer gets, and how tokens are counted: (real, with a loss) of a batch."""

    model: PreTrainedModel
    train: Dataset[dict[str, Tensor]]
    validation: Sequence[Sequence[Item]]
    collate: Callable[[Sequence[Item]], dict[str, Tensor]]
    count: Callable[[Mapping[str, Tensor]], tuple[int | Tensor, int | Tensor]]
    batch_size: int


class Watched(TrainerCallback):
    """Tells the stopwatch, and validates when it is time."""

    def __init__(self, task: Task, settings: Settings, watch: Stopwatch) -> None:
        self._task, self._settings, self._watch = task, settings, watch

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._watch.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self._watch.step():
            with self._watch.validation() as losses:
                losses.append(validation_loss(self._task, self._settings, args.device))


def main() -> None:
    workload, settings = read_arguments(__doc__, defaults={"fused": True})
    settings.without(PEER, batch_tokens=0, optimizer="adamw")
    print(train(workload, settings).to_json())


def train(workload: Workload, settings: Settings) -> Record:
    """`Trainer.train` for `settings.steps`."""
    prepare_torch(settings)
    work = workload.description.work
    task = TASKS[work](workload, settings)
    watch = Stopwatch(settings)

    class Counted(Seq2SeqTrainer if work == "translation" else Trainer):  # type: ignore[misc]
        def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: object, **kwargs: object) -> object:
            """Counts outside of the model, which may be compiled."""
            real, target = task.count(inputs)
            watch.count(real_tokens=real, target_tokens=target)
            return super().compute_loss(model, inputs, *args, **kwargs)

    with tempfile.TemporaryDirectory() as directory:
        trainer = Counted(
            model=task.model,
            args=arguments(directory, task, settings, work=work),
            train_dataset=task.train,
            data_collator=task.collate,
            callbacks=[Watched(task, settings, watch)],
        )
        trainer.train()
    return watch.record(peer=PEER, work=work, model=task.model, packages=("transformers", "accelerate"))


def arguments(directory: str, task: Task, settings: Settings, *, work: str) -> TrainingArguments:
    """The Trainer's own names for the settings."""
    schedules = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
    kind = Seq2SeqTrainingArguments if work == "translation" else TrainingArguments
    return kind(
        output_dir=directory,
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size or task.batch_size,
        learning_rate=settings.lr,
        lr_scheduler_type=schedules[settings.schedule],
        warmup_steps=settings.lr_warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused" if settings.fused else "adamw_torch",
        bf16=settings.precision == "bf16",
        train_sampling_strategy="group_by_length" if settings.group_by_length else "random",
        dataloader_num_workers=settings.workers,
        dataloader_persistent_workers=settings.workers > 0,
        torch_compile=settings.compile,
        seed=settings.seed,
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def validation_loss(task: Task, settings: Settings, device: torch.device) -> float:
    """Mean per row for classification, per target token elsewhere."""

    def loss(batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        labels = batch["labels"]
        if isinstance(task.train, Blocks):  # these labels are shifted already
            batch = {"input_ids": batch["input_ids"]}
        logits = task.model(**batch).logits
        total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return total, int((labels != IGNORED).sum())

    batches = ({name: t.to(device) for name, t in task.collate(items).items()} for items in task.validation)
    with autocast(settings, device):
        return mean_loss(task.model, batches, loss)


def classification(workload: Workload, settings: Settings) -> Task:
    """Batches of 32 rows, padded to their longest."""
    begin = workload.description.vocabulary_size  # one id more than the workload has

    def count(inputs: Mapping[str, Tensor]) -> tuple[Tensor, int]:
        num_rows = len(inputs["labels"])
        return inputs["attention_mask"].sum() - num_rows, num_rows

    return Task(
        model=bert(workload, settings),
        train=classified(workload, "train", begin=begin),
        validation=list(classified(workload, "validation", begin=begin).sorted_batches()),
        collate=partial(pad_classified, pad=workload.pad),
        count=count,
        batch_size=32,
    )


def translation(workload: Workload, settings: Settings) -> Task:
    """Batches of 64 pairs, padded to their longest; the model puts the begin of the target itself."""

    def count(inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        targets = (inputs["labels"] != IGNORED).sum()
        return inputs["attention_mask"].sum() + targets - 2 * len(inputs["labels"]), targets

    return Task(
        model=marian(workload, settings),
        train=translated(workload, "train", begin=False),
        validation=list(translated(workload, "validation", begin=False).sorted_batches()),
        collate=partial(pad_translated, pad=workload.pad),
        count=count,
        batch_size=64,
    )


class Blocks(Dataset[dict[str, Tensor]]):
    """Blocks of a token stream, as the library's own language modelling script cuts them."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": self._rows[row], "labels": self._rows[row]}


def language_modelling(workload: Workload, settings: Settings) -> Task:
    """Batches of 8 blocks of 512; a block has 511 targets, as its first token has no context."""
    validation = blocks(workload, "validation", context=context(settings))
    rows = Rows(list(validation[:, :-1]), list(validation[:, 1:]))

    def collate(items: Sequence[Item]) -> dict[str, Tensor]:
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def count(inputs: Mapping[str, Tensor]) -> tuple[int, int]:
        rows = inputs["input_ids"]
        return rows.numel(), rows.numel() - len(rows)

    return Task(
        model=gpt2(workload, settings),
        train=Blocks(blocks(workload, "train", context=context(settings))[:, :-1]),
        validation=list(rows.sorted_batches(_VALIDATION_BLOCKS)),
        collate=collate,
        count=count,
        batch_size=8,
    )


TASKS: Mapping[str, Callable[[Workload, Settings], Task]] = {
    "text-classification": classification,
    "translation": translation,
    "language-modelling": language_modelling,
}


if __name__ == "__main__":
    main()
