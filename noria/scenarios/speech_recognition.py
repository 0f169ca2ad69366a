"""Speech recognition: a recording, its transcript. Set for short clips of few speakers: spoken digits, commands."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from noria.config import Config
from noria.data import speech
from noria.data.media import OPTIONAL, file_as_base64, from_base64, to_base64
from noria.scenarios.base import Encoder, Row, Scenario, Tensors, relabelled

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from noria.data.speech_encoder import SpeechEncoder
    from noria.evaluation.judged import Judged
    from noria.training.data import TrainingRows
    from noria.training.recipe import Recipe

SCHEMA = pa.schema(
    [
        pa.field("audio", pa.binary()),
        pa.field("text", pa.string()),
        pa.field("speaker", pa.string(), metadata=OPTIONAL),
    ]
)

DEFAULTS: Mapping[str, object] = {
    "source": {"max_row_bytes": 10_000_000},
    "preprocess": {"batch_rows": 1_000},
    "clean": {"near_duplicate_similarity": 1.0},
    "split": {"near_duplicate_similarity": 1.0},
    "model": {
        "layers": 3,
        "dim": 128,
        "heads": 4,
        "feed_forward_dim": 384,
        "positions": "rotary",
        "dropout": 0.1,
    },
    "train": {
        "optimizer": "muon",
        "lr": 1e-3,
        "muon_lr": 5e-3,
        "schedule": "cosine",
        "epochs": 40.0,
        "batch_tokens": 2_048,
        "holdout_share": 0.05,
    },
    "serve": {"max_body_bytes": 16_000_000},
}
"""The recipe behind the measured quality (docs/scenarios/speech-recognition.md)."""


def _beep() -> str:
    """A twentieth of a second, 8 kHz, 8 bits: short enough to be shown, and no word."""
    tone = bytes(round(128 + 100 * math.sin(i / 3) * (1 - i / 400)) for i in range(400))
    form = struct.pack("<HHIIHH", 1, 1, 8_000, 8_000, 1, 8)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(tone)) + tone
    return to_base64(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)


class Request(BaseModel):
    """One recording: the bytes of a WAV, FLAC, Ogg or MP3 file in base64."""

    model_config = ConfigDict(extra="forbid")

    audio: str = Field(
        min_length=1,
        max_length=14_000_000,
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "audio/*"},
    )

    @field_validator("audio")
    @classmethod
    def _can_be_decoded(cls, value: str) -> str:
        from noria.data.audio import decode

        decode(from_base64(value))  # BadAudio is a ValueError
        return value


class Response(BaseModel):
    """What was said, and the probability of exactly that."""

    text: str
    confidence: float


def _request_of(row: Row) -> Mapping[str, object]:
    return {"audio": to_base64(row["audio"])}


def _row_of(request: BaseModel) -> Row:
    assert isinstance(request, Request)
    return {"audio": from_base64(request.audio)}


def _request_of_text(text: str) -> Mapping[str, object]:
    """`noria predict FILE.wav`: the file's bytes.

    Raises
    ------
    ValueError
        When it can't be read.
    """
    from noria.data.audio import MAX_BYTES

    return {"audio": file_as_base64(text.strip(), what="recording", most=MAX_BYTES)}


def _fit_encoder(rows: Iterable[Mapping[str, object]], config: Config) -> SpeechEncoder:
    from noria.data.speech_encoder import fit_speech_encoder

    return fit_speech_encoder(rows, config=config.model.audio)


def _load_encoder(directory: Path) -> SpeechEncoder:
    from noria.data.speech_encoder import load_speech_encoder

    return load_speech_encoder(directory)


def _speech(encoder: Encoder) -> SpeechEncoder:
    from noria.data.speech_encoder import SpeechEncoder

    assert isinstance(encoder, SpeechEncoder)
    return encoder


def _build_model(config: Config, encoder: Encoder) -> torch.nn.Module:
    from noria.model.speech_recognizer import SpeechRecognizer

    fitted = _speech(encoder)
    return SpeechRecognizer(config.model, num_mels=fitted.num_mels, num_letters=fitted.num_letters)


def _recipe(config: Config, encoder: Encoder, rows: TrainingRows, model: torch.nn.Module) -> Recipe:
    from noria.model.speech_recognizer import SpeechRecognizer
    from noria.recipes.speech import speech_recipe

    assert isinstance(model, SpeechRecognizer)
    return speech_recipe(config, encoder=_speech(encoder), rows=rows, model=model)


def _decode(requests: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> list[dict[str, object]]:
    from noria.evaluation.inference import LOGITS

    read = (_speech(encoder).read(output[LOGITS]) for output in outputs)
    return [{"text": text, "confidence": sure} for text, sure in read]


def _judge(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> Judged:
    from noria.evaluation.transcripts import judge_transcripts

    answers = _decode(rows, outputs, encoder)
    return judge_transcripts(
        rows,
        said=[speech.normalize(str(row["text"])) for row in rows],
        heard=[str(answer["text"]) for answer in answers],
        confidence=[float(str(answer["confidence"])) for answer in answers],
        slices=speech.slices,
    )


def _report(rows: Sequence[Row], outputs: Sequence[Tensors], judged: Judged, encoder: Encoder, directory: Path) -> None:
    from noria.evaluation.transcripts import write_transcript_report

    write_transcript_report(judged, [str(row["origin"]) for row in rows], directory)


def _sample(directory: Path) -> None:
    """Digits and commands, spoken by eSpeak NG in many voices; some takes are spoilt as recordings are."""
    from noria.data.spoken_sample import write_spoken_sample

    write_spoken_sample(directory)


SCENARIO = Scenario(
    name="speech-recognition",
    schema=SCHEMA,
    target="text",
    defaults=DEFAULTS,
    measure=speech.measure,
    repair=speech.repair,
    duplicate_key=speech.duplicate_key,
    augment=speech.augment,
    fit_encoder=_fit_encoder,
    load_encoder=_load_encoder,
    build_model=_build_model,
    recipe=_recipe,
    judge=_judge,
    decode=_decode,
    slices=speech.slices,
    request=Request,
    response=Response,
    example={"audio": _beep()},
    sample=_sample,
    request_of=_request_of,
    row_of=_row_of,
    request_of_text=_request_of_text,
    report=_report,
    correct=relabelled("text"),
)
