"""Requests in, responses out: one bundle in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxruntime import InferenceSession

from noria.evaluation.inference import Run, outputs_of, outputs_of_pieces
from noria.scenarios.base import InPieces, Row, Tensors, can_grow
from noria.serving.bundle import Bundle
from noria.serving.session import Device, device_of, open_session

VERSION_FIELD = "model_version"
IS_WHOLE = "is_whole"
"""Of an answer to a beginning: whether it is the whole answer."""


def onnx_run(model: Path, *, threads: int = 1, device: Device = "cpu") -> Run:
    """Run batches through a graph. Safe to call from several threads at once.

    Raises
    ------
    BundleError
        When ONNX Runtime refuses the graph, or `cuda` is asked for and not there.
    """
    return _run(open_session(model, threads=threads, device=device))


def _run(session: InferenceSession) -> Run:
    names, given = [put.name for put in session.get_inputs()], [put.name for put in session.get_outputs()]

    def run(tensors: Tensors) -> Tensors:
        return dict(zip(given, session.run(given, {name: tensors[name] for name in names}), strict=True))

    return run


@dataclass(frozen=True)
class Encoded:
    """One request, ready for the model.

    Attributes
    ----------
    row, pieces:
        Its values, and what the model reads of it at once each.
    longest_tokens:
        Of its longest piece: what the others of a batch are padded to.
    is_beginning:
        Whether it asks for the beginning of its answer: it is computed alone, since the next must begin with it.
    """

    row: Row
    pieces: Sequence[Tensors]
    longest_tokens: int
    is_beginning: bool = False

    @property
    def num_tokens(self) -> int:
        """Of all pieces, as long as the longest each."""
        return len(self.pieces) * self.longest_tokens


class Predictor:
    """A loaded model.

    A row's answer may move in the last digits with the rows it is batched with: int8 graphs scale
    activations by batch.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, workers: int = 1, device: Device = "auto") -> None:
        """`threads` of one batch, `workers` batches at once; `auto` is what the bundle was chosen for, if it is here.

        Raises
        ------
        BundleError
            When ONNX Runtime refuses the graph, or `cuda` is asked for and not there.
        """
        self.bundle = bundle
        chosen_for_cpu = device == "auto" and bundle.device == "cpu"
        session = open_session(bundle.model, threads=threads, device="cpu" if chosen_for_cpu else device)
        self.device = device_of(session)
        self._run = _run(session)
        self._workers = workers

    @property
    def version(self) -> str:
        return self.bundle.version

    def outputs(self, rows: Sequence[Row]) -> list[Tensors]:
        """What the graph says of each row, in the order of `rows`."""
        return outputs_of(rows, encoder=self.bundle.encoder, run=self._run, workers=self._workers)

    def answer(self, requests: Sequence[Row]) -> list[Mapping[str, object]]:
        """One response a request, in order, each with the model's version."""
        if not requests:
            return []
        return self._decode(requests, self.outputs(requests))

    def encode(self, requests: Sequence[Row]) -> list[Encoded]:
        """What `answer_encoded` takes, of each request."""
        encoder = self.bundle.encoder
        rows = encoder.encode_batch(requests)
        by_row = [encoder.pieces(row) for row in rows] if isinstance(encoder, InPieces) else [[row] for row in rows]
        longest = [max(encoder.num_tokens(piece) for piece in pieces) for pieces in by_row]
        return [Encoded(*of_row) for of_row in zip(requests, by_row, longest, strict=True)]

    def beginnings(self, encoded: Encoded) -> list[Encoded]:
        """The request, asked for more of its answer each time and at last for all; none where nothing grows."""
        encoder = self.bundle.encoder
        if not can_grow(encoder):
            return []
        (piece,) = encoded.pieces
        asked = encoder.beginnings(piece)
        return [Encoded(encoded.row, [one], self.bundle.encoder.num_tokens(one), is_beginning=True) for one in asked]

    def answer_encoded(self, batch: Sequence[Encoded]) -> list[Mapping[str, object]]:
        """`answer`, on this thread, of requests that `encode` made ready; to beginnings with `IS_WHOLE`."""
        encoder = self.bundle.encoder
        by_row = [encoded.pieces for encoded in batch]
        outputs = outputs_of_pieces(by_row, encoder=encoder, run=self._run)
        answers = self._decode([encoded.row for encoded in batch], outputs)
        if not can_grow(encoder):
            return answers
        return [
            {**answer, IS_WHOLE: encoder.is_whole(encoded.pieces[0], output)} if encoded.is_beginning else answer
            for encoded, output, answer in zip(batch, outputs, answers, strict=True)
        ]

    def _decode(self, requests: Sequence[Row], outputs: Sequence[Tensors]) -> list[Mapping[str, object]]:
        responses = self.bundle.scenario.decode(requests, outputs, self.bundle.encoder)
        return [{**response, VERSION_FIELD: self.version} for response in responses]
