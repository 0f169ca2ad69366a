"""The nodes from evaluation to service."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from noria.config.section import Positive, Section, Share

CandidateName = Literal["fp32", "fused", "int8", "int8-static", "int8-weights", "int4-weights"]


class EvaluateConfig(Section):
    """How the validation set judges."""

    resamples: Positive = 2_000
    """Bootstrap resamples behind each interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    min_slice_rows: Positive = 50
    """Smaller slices are shown, never judged; and on fewer rows in all no champion is replaced."""


class OptimizeConfig(Section):
    """What may become the bundle."""

    candidates: Annotated[tuple[CandidateName, ...], Field(min_length=1)] = ("fp32", "fused", "int8")
    """Forms of the model that are tried: `fp32`, `fused` (attention as one node), `int8` (activations by the range of
    each batch), `int8-static` (by that of training rows), `int8-weights` and `int4-weights` (weights alone: for
    requests of one row)."""
    max_quality_drop: Share = 0.005
    """Largest loss of the main metric against PyTorch, as a fraction (0.005 = half a point)."""
    max_slice_drop: Share = 0.03
    """The same for every slice that is large enough to be judged, where the loss is more than noise."""
    latency_repeats: Positive = 100
    """Batches of one row that are timed; of 8 and 32 rows there are fewer."""
    opset: Positive = 20
    """Of the graphs; higher ones have an attention that ONNX Runtime refuses on a CPU."""


class DeployConfig(Section):
    """Where versions live."""

    store: str = "store"
    """A directory, or a URL that fsspec writes (`s3://bucket/models`)."""
    public_key: str = ""
    """A PEM file: only versions that the owner of this Ed25519 key signed go live and are served. The private key
    is named by the environment: NORIA_SIGNING_KEY signs what `noria run` deploys."""
    publish_checkpoint: bool = True
    """Keep each version's training checkpoint beside it: `train.init_from: champion` starts from there."""


class UpdateConfig(Section):
    """When a challenger replaces the champion."""

    min_gain: Share = 0.0
    """The lower end of the paired interval of the gain must lie above this."""
    max_slice_drop: Share = 0.03
    max_latency_ratio: Annotated[float, Field(gt=0)] = 2.0
    """Challenger's p50 latency over the champion's."""


class ServeConfig(Section):
    """The model server."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    threads: Positive = 1
    """ONNX Runtime threads per request."""
    max_batch_rows: Positive = 64
    max_body_bytes: Positive = 1_000_000
