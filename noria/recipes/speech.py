"""How a speech recognizer is trained: one phase, in which no clip is ever heard twice in the same way.

Shapes: B rows, T frames, U frames behind the frontend, L letters, V characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.config import Config
from noria.data.batching import BatchPlan
from noria.data.ctc import BLANK, greedy
from noria.data.mel import num_frames_of
from noria.data.ragged import Rows, pad
from noria.data.speech_encoder import LETTERS, MEL, NUM_FRAMES, SAMPLES, SpeechEncoder
from noria.model.speech_recognizer import SpeechRecognizer
from noria.recipes.hearing import hear
from noria.training.batch import Batch
from noria.training.data import TrainingRows
from noria.training.losses import Said
from noria.training.recipe import Phase

_JUDGED_AT_ONCE = 32


class HeardLetters:
    """Tell the letters of a changed clip (noria/recipes/hearing.py); a batch is a function of (seed, index)."""

    def __init__(self, samples: Rows, letters: Rows, *, config: Config, encoder: SpeechEncoder) -> None:
        num_frames = np.array([num_frames_of(int(length)) for length in samples.lengths])
        self._plan = BatchPlan(num_frames, batch_tokens=config.train.batch_tokens, seed=config.seed)
        self._samples = samples
        self._letters = letters
        self._hearing = config.train.hearing
        self._encoder = encoder
        self._seed = config.seed

    def __len__(self) -> int:
        return len(self._plan)

    def batch(self, index: int) -> Batch:
        """The batch at `index`."""
        rows = self._plan.batch(index).rows
        heard = [self._heard(index, int(row)) for row in rows]
        num_frames_B = np.array([len(mel_TF) for mel_TF in heard])
        mel_BTF = np.zeros((len(rows), int(num_frames_B.max()), self._encoder.num_mels), np.float32)
        for target, mel_TF in zip(mel_BTF, heard, strict=True):
            target[: len(mel_TF)] = mel_TF
        letters = [self._letters[int(row)] for row in rows]
        return Batch(
            inputs={
                MEL: torch.from_numpy(mel_BTF),
                NUM_FRAMES: torch.from_numpy(num_frames_B),
                "num_letters": torch.tensor([len(each) for each in letters]),
            },
            targets=torch.from_numpy(pad(letters).astype(np.int64)),
            positions=None,
            width=mel_BTF.shape[1],
            rows=rows,
            lengths=num_frames_B,
        )

    def largest(self) -> Batch:
        """The batch with the most cells, before clips are changed."""
        return self.batch(self._plan.largest())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sum over the rows."""
        return self.loss_of(self.said(model, batch), batch)

    def said(self, model: nn.Module, batch: Batch) -> Tensor:
        """Log-probabilities (B, U, V) of the letter in every frame."""
        out: Tensor = model(batch.inputs[MEL], batch.inputs[NUM_FRAMES])
        return out

    def loss_of(self, said: Said, batch: Batch) -> Tensor:
        """The loss, of what a model said."""
        assert isinstance(said, Tensor)
        return ctc_loss(said, batch.inputs[NUM_FRAMES], batch.targets, batch.inputs["num_letters"])

    def _heard(self, index: int, row: int) -> np.ndarray:
        return hear(
            self._samples[row],
            np.random.default_rng((self._seed, index, row, 5)),
            config=self._hearing,
            num_mels=self._encoder.num_mels,
            dynamic_range_db=self._encoder.dynamic_range_db,
        )


def ctc_loss(logits_BUV: Tensor, num_frames_B: Tensor, letters_BL: Tensor, num_letters_B: Tensor) -> Tensor:
    """Sum over the rows of -log p(letters); a transcript that does not fit into its frames teaches nothing.

    `num_frames_B` counts frames before the frontend halves them twice.
    """
    return F.ctc_loss(
        logits_BUV.transpose(0, 1),
        letters_BL,
        (num_frames_B + 3) // 4,
        num_letters_B,
        blank=BLANK,
        reduction="sum",
        zero_infinity=True,
    )


def speech_recipe(
    config: Config, *, encoder: SpeechEncoder, rows: TrainingRows, model: SpeechRecognizer
) -> tuple[Phase]:
    """The training of `model`, which changes as it learns."""
    train = config.train
    objective = HeardLetters(
        rows.view(SAMPLES, holdout=False), rows.view(LETTERS, holdout=False), config=config, encoder=encoder
    )
    return (
        Phase(
            "train",
            objective=objective,
            model=model,
            matrices=model.encoder,
            head=model.head,
            epochs=train.epochs,
            lr=train.lr,
            muon_lr=train.muon_lr,
            schedule=train.schedule,
            judge=lambda: _judge(model, rows, encoder),
        ),
    )


def _judge(model: SpeechRecognizer, rows: TrainingRows, encoder: SpeechEncoder) -> Mapping[str, float]:
    """Loss and share of exact transcripts on the hold-out, as it was recorded."""
    mels, letters = rows.view(MEL, holdout=True), rows.view(LETTERS, holdout=True)
    device = next(model.parameters()).device
    order = np.argsort(mels.lengths)
    loss, exact = 0.0, 0
    model.eval()
    for start in range(0, len(order), _JUDGED_AT_ONCE):
        chosen = [int(row) for row in order[start : start + _JUDGED_AT_ONCE]]
        batch = encoder.collate([{MEL: mels[row]} for row in chosen])
        said = [letters[row] for row in chosen]
        num_frames_B = torch.from_numpy(batch[NUM_FRAMES]).to(device)
        with torch.inference_mode():
            logits_BUV = cast("Tensor", model(torch.from_numpy(batch[MEL]).to(device), num_frames_B))
            letters_BL = torch.from_numpy(pad(said).astype(np.int64)).to(device)
            num_letters_B = torch.tensor([len(each) for each in said], device=device)
            loss += float(ctc_loss(logits_BUV, num_frames_B, letters_BL, num_letters_B))
        found = logits_BUV.cpu().numpy()
        exact += sum(greedy(logits) == each.tolist() for logits, each in zip(found, said, strict=True))
    return {"holdout_loss": loss / len(order), "holdout_exact": exact / len(order)}
