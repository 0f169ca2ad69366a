"""The nodes from evaluation to service."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from noria.config.section import NonNegative, Positive, Section, Share

NewsKind = Literal["failure", "promotion", "refusal", "call", "approval"]
CandidateName = Literal["fp32", "fused", "fp16", "int8", "int8-static", "int8-weights", "int4-weights"]


class EvaluateConfig(Section):
    """How the validation set judges."""

    resamples: Positive = 2_000
    """Bootstrap resamples behind each interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    min_slice_rows: Positive = 50
    """Smaller slices are shown, never judged; and on fewer rows in all no champion is replaced."""


class PruneConfig(Section):
    """Taking out the attention heads and feed-forward units that matter least (noria/model/pruning.py)."""

    heads: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the heads of all layers; every attention keeps one. 0 leaves them alone."""
    feed_forward: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the feed-forward units of all layers; every layer keeps a multiple of 8. 0 leaves them alone."""
    batches: Positive = 32
    """Batches of training rows that show what matters."""
    steps: NonNegative = 300
    """Of training afterwards, to recover; 0 leaves it out."""


class StudentConfig(Section):
    """A model of fewer layers that starts from every n-th of the trained one's (Sanh et al. 2019, arXiv:1910.01108)."""

    layers: NonNegative = 0
    """Of each stack; 0 makes no student."""
    steps: Positive = 1_000
    """Of training by the trained model's answers."""


class CompressConfig(Section):
    """Smaller models made of the trained one: `pruned`, a `student`, both or none, each in every form asked for."""

    prune: PruneConfig = PruneConfig()
    distill: StudentConfig = StudentConfig()
    weight: Share = 0.5
    """Share of the loss that the trained model's answers have, in recovery as in distillation."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Softens both distributions (Hinton et al. 2015, arXiv:1503.02531)."""
    lr_factor: Annotated[float, Field(gt=0)] = 1.0
    """Of the learning rates of `train`."""

    @property
    def enabled(self) -> bool:
        """Whether any smaller model is to be made."""
        return bool(self.prune.heads or self.prune.feed_forward or self.distill.layers)


class OptimizeConfig(Section):
    """What may become the bundle."""

    candidates: Annotated[tuple[CandidateName, ...], Field(min_length=1)] = ("fp32", "fused", "int8")
    """Forms of the model that are tried: `fp32`, `fused` (attention as one node), `fp16` (half precision, for GPUs),
    `int8` (activations by the range of each batch), `int8-static` (by that of training rows), `int8-weights` and
    `int4-weights` (weights alone: for requests of one row)."""
    compress: CompressConfig = CompressConfig()
    max_quality_drop: Share = 0.005
    """Largest loss of the main metric against PyTorch, as a fraction (0.005 = half a point)."""
    max_slice_drop: Share = 0.03
    """The same for every slice that is large enough to be judged, where the loss is more than noise."""
    latency_repeats: Positive = 100
    """Batches of one row that are timed; of 8 and 32 rows there are fewer."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What will serve, so that candidates are timed on it: `auto` is CUDA where ONNX Runtime has it (`onnxruntime-gpu`
    and a GPU) and the CPU otherwise. The bundle says which."""
    opset: Positive = 20
    """Of the graphs; higher ones have an attention that ONNX Runtime refuses on a CPU."""


class DeployConfig(Section):
    """Where versions live, and how a better one comes to the clients."""

    store: str = "store"
    """A directory, or a URL that fsspec writes (`s3://bucket/models`)."""
    public_key: str = ""
    """A PEM file: only versions that the owner of this Ed25519 key signed go live and are served. The private key
    is named by the environment: NORIA_SIGNING_KEY signs what `noria run` deploys."""
    publish_checkpoint: bool = True
    """Keep each version's training checkpoint beside it: `train.init_from: champion` starts from there."""
    canary: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the requests that a challenger which beat the champion answers before it goes live; 0: it goes live at
    once."""
    shadow: Share = 0.0
    """Share of the requests that it answers after the champion did, unseen by clients; 0: none. Not beside `canary`."""
    canary_requests: Positive = 200
    """So many requests must it have answered, and the champion meanwhile, before it may go live."""
    canary_days: Annotated[float, Field(gt=0)] = 7.0
    """What is tried for longer without a verdict is told to people as overdue; it goes on."""

    @model_validator(mode="after")
    def _is_tried_in_one_way(self) -> Self:
        if self.canary and self.shadow:
            raise ValueError(
                f"`canary: {self.canary:g}` beside `shadow: {self.shadow:g}`: a challenger is tried in one of the two "
                "ways; set the other to 0"
            )
        return self


class DriftConfig(Section):
    """When arrivals differ from what the champion was made of: surely, and by so much that it matters."""

    alpha: Annotated[float, Field(ge=0.001, lt=0.5)] = 0.01
    """Chance of any false alarm among all features of one look (Holm's correction)."""
    min_psi: Annotated[float, Field(ge=0)] = 0.2
    """Of a number or a category, the population stability index from which on a difference matters."""
    min_energy: Share = 0.05
    """Of the model's representation of rows, the same in energy coefficients: 0 none, 1 nothing in common. A shift of
    half a standard deviation in every dimension is 0.06."""
    min_rows: Positive = 30
    """Fewer new rows are shown, never judged."""
    sample_rows: Positive = 2_000
    """Of the training rows, the validation rows and the arrivals, at most so many are compared."""
    ignore: tuple[str, ...] = ()
    """Features that move by their nature, such as the year of an event."""


class TriggersConfig(Section):
    """What calls for a new training; `null` switches one off. None fires unless something came since the last one."""

    metric_drop: Share | None = 0.02
    """Loss of the main metric on fresh rows, from which on it counts; its whole interval must be a loss."""
    drift: Positive | None = 1
    """So many features must have drifted."""
    new_rows: Positive | None = 1_000
    """So many rows that no training has seen."""
    age_days: Annotated[float, Field(gt=0)] | None = 30.0
    """Of the champion, since it went live."""


class StopConfig(Section):
    """When not to train but to call a person; `null` switches one off."""

    metric_drop: Share | None = 0.25
    """The lower end of the loss on fresh rows: so much at once is a fault of the data sooner than of the world."""
    refused_share: Share | None = 0.5
    """Of the objects that came since the last look, the share that the gate refused as a whole."""
    label_shift: Share | None = 0.25
    """Total variation between the labels of training and of fresh rows, beyond doubt."""
    tries: Positive | None = 3
    """Trainings in a row, since the last promotion, without a better model."""


class ArrivalsConfig(Section):
    """How the gate judges what arrived, beside the suite of expectations."""

    min_profile_rows: Positive = 200
    """On fewer rows no distribution is judged: no class balance, median or share says much of so few. Repeated and
    contradicting rows are; how many rows or classes there are in all is never asked of a part."""
    max_refused_share: Share = 0.5
    """An object of whose records the cleaner had to refuse more, repetitions aside, is refused as a whole."""


class FeedbackConfig(Section):
    """What is learned of feedback on answers, and how much of it one client or all may say."""

    use: Literal["none", "corrections", "all"] = "corrections"
    """`all`: answers that were said to be right become rows, too."""
    max_client_rows: Positive = 50
    """Rows of one client a day; what is more is refused."""
    max_share: Share = 0.1
    """Rows of feedback over rows of the source; what is more is refused."""
    max_contradictions: Share = 0.5
    """A client of whose corrections a larger share contradicts labelled rows is believed nothing."""
    min_contradictions: Positive = 3
    """From so many on."""
    trust_days: Positive = 90
    """For so long it counts what a client said about labelled rows."""


class UpdateConfig(Section):
    """When a new model is trained, and when a challenger replaces the champion."""

    min_gain: Share = 0.0
    """The lower end of the paired interval of the gain must lie above this."""
    max_slice_drop: Share = 0.03
    max_latency_ratio: Annotated[float, Field(gt=0)] = 2.0
    """Challenger's p50 latency over the champion's; of a canary also p99."""
    max_size_ratio: Annotated[float, Field(gt=0)] = 2.0
    """Challenger's graph over the champion's, in bytes."""
    approval: Literal["none", "required"] = "none"
    """`required`: `noria update` asks a person in the Prefect UI before a better challenger goes live."""
    approval_hours: Annotated[float, Field(gt=0)] = 24.0
    """How long it waits for an answer; without one the champion stays."""
    triggers: TriggersConfig = TriggersConfig()
    stop: StopConfig = StopConfig()
    drift: DriftConfig = DriftConfig()


class ServeConfig(Section):
    """The model server."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    hosts: tuple[str, ...] = ()
    """More names that clients may call this server by (their `Host` header) than `host` and `localhost`; `*` allows
    any. Where `host` is all addresses, any address will do."""
    token_env: str | None = None
    """The environment variable that holds the bearer token which clients must send, or several with commas between
    them, one for each client; without it the server does not start. Where this is not set, `NORIA_TOKEN` holds it, if
    anything does."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is what the bundle was chosen for (`optimize.device`) where this machine has it, else the CPU."""
    threads: Positive = 1
    """ONNX Runtime threads of one batch."""
    workers: Positive | None = None
    """Batches computed at once, each on `threads`; by default one per core, and a core left for the connections."""
    batch_tokens: Positive = 2_048
    """Rows of like length are computed together up to so many tokens, padding included."""
    max_delay_ms: Annotated[float, Field(ge=0)] = 2.0
    """Longest that a row waits for company while another batch is computed; with all workers idle it goes at once."""
    max_wait_ms: Annotated[float, Field(gt=0)] = 2_000.0
    """A request that would wait longer than this before it is computed is refused at once (429), and one that did
    after all is given up (503)."""
    max_requests: Positive = 512
    """Requests that are read, wait or are computed at once; their bodies may together be 64 times `max_body_bytes`."""
    max_client_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of `max_requests` and of the bytes of their bodies, what one client may hold that is alone; several hold less
    each, so that another always finds room. A client is a token where there are several, or else an address: behind
    a proxy that is the address of all clients, set 1."""
    max_batch_rows: Positive = 64
    """Rows of one request."""
    max_body_bytes: Positive = 1_000_000
    follow_s: Annotated[float, Field(gt=0)] = 1.0
    """How often the store is asked what is live; another version is then loaded, proven and swapped in."""
    drain_s: Annotated[float, Field(ge=0)] = 0.0
    """After SIGTERM, how long requests are still taken while `/readyz` says 503, so that a balancer can look away."""
    access_log: bool = True
    """One JSON line a request: id, route, status, milliseconds; nothing of what was asked or answered."""


class NotifyConfig(Section):
    """What people are told of, at the addresses in the environment variable NORIA_NOTIFY (docs/alarms.md)."""

    kinds: tuple[NewsKind, ...] = ("failure", "promotion", "refusal", "call", "approval")
    """`failure`: a run failed or was killed. `promotion`: what clients get has changed. `refusal`: the gate refused
    data as a whole. `call`: somebody should look. `approval`: a promotion waits for somebody's word."""
    timeout_s: Annotated[float, Field(gt=0)] = 20.0
    """A run waits no longer than this for its news to be delivered."""
