"""Recordings to log-mel frames, transcripts to characters, and back.

The characters are those of the rows to fit, whose transcripts are expected again where they are few
(noria/data/known_transcripts.py). Saved as JSON; imports no torch, since the server and the data nodes use it. The
same recording gives the same frames in training, evaluation and serving. Shapes: T frames, F mel bands, L letters,
S samples, V characters with the blank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noria.config import AudioConfig
from noria.data.audio import BadAudio, Sound, decode
from noria.data.known_transcripts import KnownTranscripts, known_transcripts, most_probable
from noria.data.mel import SAMPLE_RATE_HZ, features, prepare
from noria.data.ragged import pad
from noria.data.speech import normalize
from noria.errors import ArtifactError, TrainingError

MEL, NUM_FRAMES = "mel", "num_frames"
LETTERS, SAMPLES = "letters", "samples"
_MOST_CHARACTERS = 5_000
_FILE = "encoder.json"


@dataclass(frozen=True)
class _Settings:
    """What `encoder.json` says; character i of the alphabet is letter i + 1, and 0 is the blank."""

    alphabet: str
    num_mels: int
    dynamic_range_db: float
    known: KnownTranscripts


class SpeechEncoder:
    """The fitted encoder; see noria.scenarios.base.Encoder for its protocol."""

    def __init__(self, settings: _Settings) -> None:
        self._settings = settings
        self._number = {character: number for number, character in enumerate(settings.alphabet, 1)}
        self._known = [[self._number[character] for character in text] for text in settings.known.texts]

    @property
    def num_letters(self) -> int:
        """With the blank."""
        return len(self._settings.alphabet) + 1

    @property
    def num_mels(self) -> int:
        return self._settings.num_mels

    @property
    def dynamic_range_db(self) -> float:
        return self._settings.dynamic_range_db

    def text_of(self, letters: Sequence[int]) -> str:
        """Characters by number, without the blank; single spaces."""
        return " ".join("".join(self._settings.alphabet[letter - 1] for letter in letters).split())

    def read(self, logits_TV: np.ndarray) -> tuple[str, float]:
        """What was said, from log-probabilities of characters, and the probability of exactly that."""
        letters, log_p = most_probable(logits_TV, self._known, new_share=self._settings.known.new_share)
        return self.text_of(letters), min(1.0, math.exp(log_p))

    def encode(self, values: Mapping[str, object]) -> dict[str, np.ndarray]:
        """`mel` float32 (T * F): the frames one after the other. What can't be decoded is heard as silence."""
        mel_TF = features(self._samples(values), num_mels=self.num_mels, dynamic_range_db=self.dynamic_range_db)
        return {MEL: mel_TF.reshape(-1)}

    def encode_batch(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray]]:
        """One by one: the time goes into the samples."""
        return [self.encode(row) for row in rows]

    def targets(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray] | None]:
        """`letters` int64 (L), and `samples` int16 (S), which training changes before it hears them.

        None for a transcript with a character that no row to fit has.
        """
        return [self._target(row) for row in rows]

    def collate(self, encoded: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Pad to `mel` (B, T, F), with `num_frames` int64 (B)."""
        num_frames_B = np.array([self.num_tokens(row) for row in encoded])
        mel = pad([row[MEL] for row in encoded])
        return {MEL: mel.reshape(len(encoded), -1, self.num_mels), NUM_FRAMES: num_frames_B}

    def num_tokens(self, encoded: Mapping[str, np.ndarray]) -> int:
        """Frames."""
        return len(encoded[MEL]) // self.num_mels

    def save(self, directory: Path) -> None:
        """Write `encoder.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _FILE).write_text(
            json.dumps(asdict(self._settings), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    def _samples(self, values: Mapping[str, object]) -> np.ndarray:
        payload = values["audio"]
        try:
            sound = decode(payload if isinstance(payload, bytes) else b"")
        except BadAudio:  # rows are judged before, and requests refused; this is neither's place
            sound = Sound(np.zeros(SAMPLE_RATE_HZ // 10, np.float32), SAMPLE_RATE_HZ)
        return prepare(sound)

    def _target(self, row: Mapping[str, object]) -> dict[str, np.ndarray] | None:
        letters = [self._number.get(character) for character in normalize(str(row["text"]))]
        if not letters or None in letters:
            return None
        pcm = np.clip(np.round(self._samples(row) * 32_768), -32_768, 32_767).astype(np.int16)
        return {LETTERS: np.array(letters, np.int64), SAMPLES: pcm}


def fit_speech_encoder(rows: Iterable[Mapping[str, object]], *, config: AudioConfig) -> SpeechEncoder:
    """Collect the characters of the transcripts.

    Raises
    ------
    TrainingError
        When there are none, or more than any alphabet or syllabary has.
    """
    transcripts = [normalize(str(row["text"])) for row in rows]
    characters = set("".join(transcripts))
    if not 0 < len(characters) <= _MOST_CHARACTERS:
        raise TrainingError(
            f"the transcripts hold {len(characters):,} different characters",
            where="column `text`",
            expected=f"from 1 to {_MOST_CHARACTERS:,}",
            next_step="check `source` in params.yaml: where the transcript comes from",
        )
    alphabet, known = "".join(sorted(characters)), known_transcripts(transcripts)
    return SpeechEncoder(_Settings(alphabet, config.num_mels, config.dynamic_range_db, known))


def load_speech_encoder(directory: Path) -> SpeechEncoder:
    """Read what `save` wrote.

    Raises
    ------
    ArtifactError
        When it is missing.
    """
    try:
        values: dict[str, Any] = json.loads((directory / _FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError("there is no speech encoder here", where=str(directory), expected=_FILE) from None
    known = values.pop("known", {"texts": (), "new_share": 1.0})  # encoders of before have none
    return SpeechEncoder(_Settings(**values, known=KnownTranscripts(tuple(known["texts"]), known["new_share"])))
