"""The model and how it learns."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from noria.config.section import NonNegative, Positive, Section, Share


class TokenizerConfig(Section):
    """The subword vocabulary, trained on the training rows."""

    vocabulary_size: Positive = 5_000
    max_piece_chars: Positive = 4
    max_tokens: Positive = 128
    """Longer rows keep their head and tail."""


class WideConfig(Section):
    """The linear branch over character n-grams beside the Transformer (Cheng et al. 2016, arXiv:1606.07792)."""

    enabled: bool = True
    max_ngram: Positive = 5
    min_rows: Positive = 2
    """An n-gram must occur in so many training rows."""
    inverse_regularization: Annotated[float, Field(gt=0)] = 10.0
    """C of the L2-regularized logistic regressions."""


class GenerationConfig(Section):
    """How a model that answers with a sequence finds it."""

    beams: Positive = 1
    """Hypotheses that are kept side by side; 1 takes the likeliest token at every step (greedy)."""
    length_penalty: Annotated[float, Field(ge=0)] = 1.0
    """Exponent of the length that beams' scores are divided by (Wu et al. 2016, arXiv:1609.08144); 0 favours short."""
    max_tokens: Positive = 128
    """Longest answer."""
    max_source_ratio: Annotated[float, Field(gt=0)] = 2.0
    """With a source: so many tokens for each of its own, and ten more, are the longest answer."""


class HistoryConfig(Section):
    """What a recommender sees of a user, and what it may answer."""

    max_events: Positive = 200
    """The last events of a history that the model reads."""
    repeats: bool = False
    """Whether items of the history may be recommended (and count when the model is judged): music, groceries."""


class AudioConfig(Section):
    """What a model hears of a recording: log-mel frames (noria/data/mel.py)."""

    num_mels: Positive = 64
    """Bands between 20 Hz and 7.6 kHz."""
    dynamic_range_db: Annotated[float, Field(gt=0)] = 70.0
    """What is so far below the loudest is silence."""


class SpansConfig(Section):
    """How a model that answers with a part of a text reads the text (noria/data/windows.py)."""

    overlap: Positive = 48
    """Tokens that neighbouring windows of a long context share."""
    max_question_tokens: Positive = 64
    """What is longer loses its middle."""
    max_answer_tokens: Positive = 40
    """Longest answer that is looked for, and learned."""


class ImageConfig(Section):
    """How an image becomes a sequence (Dosovitskiy et al. 2020, arXiv:2010.11929)."""

    size: Positive = 28
    """Pixels each way; larger and smaller images are scaled to fit."""
    channels: Literal[1, 3] = 1
    """1 reads images in grey, 3 in colour."""
    patch: Positive = 8
    """Pixels each way of a patch."""
    stride: Positive = 4
    """Pixels from one patch to the next; less than `patch` lets them overlap."""

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        return ((self.size - self.patch) // self.stride + 1) ** 2

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.patch > self.size or (self.size - self.patch) % self.stride:
            raise ValueError(
                f"patches must cover the image: size ({self.size}) = patch ({self.patch}) + n * stride ({self.stride})"
            )
        return self


class ModelConfig(Section):
    """The Transformer, and what stands beside it."""

    layers: Positive = 3
    dim: Positive = 128
    heads: Positive = 2
    feed_forward_dim: Positive = 384
    positions: Literal["learned", "rotary"] = "learned"
    bigram_buckets: NonNegative = 32_768
    """Vectors for hashed token bigrams, added to the token embeddings; 0 leaves them out."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of embeddings, attention weights, hidden and added values that is zeroed in each training step."""
    generation: GenerationConfig = GenerationConfig()
    history: HistoryConfig = HistoryConfig()
    audio: AudioConfig = AudioConfig()
    spans: SpansConfig = SpansConfig()
    image: ImageConfig = ImageConfig()
    wide: WideConfig = WideConfig()
    deep_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the Transformer against the wide branch, both brought to unit spread; 0 leaves it out."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        parts = self.heads * (2 if self.positions == "rotary" else 1)
        if self.dim % parts:
            raise ValueError(f"dim must be a multiple of {parts} for {self.heads} heads, {self.positions} positions")
        if not self.wide.enabled and not self.deep_weight:
            raise ValueError("either wide.enabled or a deep_weight above 0")
        return self


class PretrainConfig(Section):
    """Masked-token pretraining on the training rows (Devlin et al. 2019, arXiv:1810.04805)."""

    epochs: Annotated[float, Field(ge=0)] = 5.0
    """0 leaves it out."""
    lr: Annotated[float, Field(gt=0)] = 2e-3
    muon_lr: Annotated[float, Field(gt=0)] = 0.02
    """Rate of the Transformer's matrices under `muon`; `lr` is then AdamW's, for everything else."""
    batch_tokens: Positive = 2_048
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    mask_share: Share = 0.2
    """Share of the tokens to be guessed."""
    cooccurrence_window: NonNegative = 4
    """Token embeddings start from co-occurrence within so many tokens; 0 starts them at random."""


class ImagesConfig(Section):
    """Learning from images alone before images and texts are learned together."""

    epochs: Annotated[float, Field(ge=0)] = 20.0
    """0 leaves it out."""
    lr: Annotated[float, Field(gt=0)] = 2e-3
    muon_lr: Annotated[float, Field(gt=0)] = 0.02
    """Rate of the Transformer's matrices under `muon`; `lr` is then AdamW's, for everything else."""
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"


class GuardConfig(Section):
    """When training is in trouble, and what is done about it."""

    max_skipped: NonNegative = 20
    """Steps with a loss or gradient that is no finite number: they are left out, but no more than so many."""
    divergence: Annotated[float, Field(gt=1)] = 3.0
    """A median loss of 20 steps this many times the lowest, above the first and above 1, is divergence."""
    max_rollbacks: NonNegative = 2
    """How often a divergence goes back to the last state in which all was well, before training fails."""
    rollback_rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Factor of the learning rate at each rollback."""


class AverageConfig(Section):
    """Averaged weights, judged and kept in place of the last ones."""

    kind: Literal["none", "ema", "tail"] = "none"
    """`ema`: exponential (Polyak & Juditsky 1992); `tail`: the mean over the last steps (Izmailov et al. 2018)."""
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """`ema`: weight of the past at each step."""
    tail_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """`tail`: share of the phase's steps that is averaged."""


class HearingConfig(Section):
    """How recordings are changed while training on them (noria/recipes/hearing.py); 0 leaves a change out."""

    speed_octaves: Annotated[float, Field(ge=0, le=1)] = 0.35
    """Tape speed, up or down by at most so many octaves: pitch, formants and tempo together."""
    tempo_octaves: Annotated[float, Field(ge=0, le=1)] = 0.35
    """Tempo alone."""
    vocal_tract: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    """Formants alone: the frequency axis is stretched by a factor from 1 - x to 1 + x."""
    noise_share: Share = 0.6
    """Share of the clips that get noise, of a random colour."""
    min_snr_db: float = 3.0
    max_snr_db: float = 40.0
    equalizer_db: Annotated[float, Field(ge=0)] = 6.0
    """Spread of the random curve over the frequencies that stands for microphones and rooms."""
    reverb_share: Share = 0.2
    overdrive_share: Share = 0.1
    """Share of the clips that are recorded too loud, and clipped."""
    shift_s: Annotated[float, Field(ge=0)] = 0.15
    """Silence before and behind a clip, at most; or a cut into it of a fifth of that."""
    band_mask_share: Share = 0.15
    time_mask_share: Share = 0.1
    """SpecAugment (Park et al. 2019, arXiv:1904.08779): the widest of two bands, and of two times, that are hidden."""


class SeeingConfig(Section):
    """How far images are changed while training on them, at random and anew each time; 0 leaves a change out."""

    shift: Share = 0.1
    """As a share of the image's side."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 12.0
    """Degrees either way."""
    scale: Share = 0.15
    """Up to so much larger or smaller, each way by itself."""
    shear: Share = 0.15
    """Pixels to the side per pixel of height."""
    erase: Share = 0.1
    """Share of the images of which a rectangle is blotted out."""
    flip: bool = False
    """Half of the images are mirrored left to right: right for photographs, wrong for letters and digits."""


class DistillConfig(Section):
    """Learning from another model's answers beside the labels (Hinton et al. 2015, arXiv:1503.02531)."""

    teacher: str = "none"
    """`none`, `champion`, or the directory of a bundle."""
    weight: Share = 0.5
    """Share of the loss that the teacher's answers have."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Softens both distributions."""


class LoraConfig(Section):
    """Low-rank updates of the Transformer's matrices instead of the matrices (Hu et al. 2021, arXiv:2106.09685)."""

    rank: NonNegative = 0
    """0 trains everything; more needs `train.init_from`."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """The update is scaled by alpha / rank."""


class TrainConfig(Section):
    """How the model learns from labels, and from the text alone before that."""

    lr: Annotated[float, Field(gt=0)] = 7e-4
    muon_lr: Annotated[float, Field(gt=0)] = 5e-3
    """Rate of the Transformer's matrices under `muon`; `lr` is then AdamW's, for everything else."""
    epochs: Annotated[float, Field(gt=0)] = 2.0
    batch_tokens: Positive = 2_048
    """Token budget of a micro-batch, padding included."""
    accumulate: Positive = 1
    """Micro-batches per optimizer step; the loss is divided by the targets of all of them."""
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    """`mse` regresses the classes' indicators (Hui & Belkin 2021, arXiv:2006.07322)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    token_mask: Share = 0.1
    """Share of tokens hidden while training on labels."""
    clause_shuffle: Share = 0.5
    """Share of rows whose clauses are put in another order while training on labels."""
    modality_dropout: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Of rows with an image and a text: the share that is learned from the one alone, and from the other."""
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "linear"
    warmup_share: Share = 0.05
    """Share of the steps in which the rate rises."""
    decay_share: Share = 0.2
    """`wsd`: share of the steps in which the rate falls at the end."""
    holdout_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of the training rows, by hash, that picks the best epoch and sets the blend; never the validation set."""
    patience: NonNegative = 0
    """Stop after so many epochs without a better hold-out loss; 0 never stops early."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` probes which is faster here; parameters and optimizer states are float32 in any case."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: NonNegative = 0
    """CPU threads; 0 probes one against one per core."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the blocks; `auto` tries it when the phase is long enough to pay for compiling."""
    deterministic: bool = False
    """Nothing is probed by the clock and only deterministic kernels run: the same bytes again on the same machine."""
    distributed: Literal["none", "ddp", "fsdp2"] = "none"
    """One process per GPU (or `processes` on CPUs), by torchrun; fsdp2 shards parameters and optimizer states."""
    processes: NonNegative = 0
    """Processes on this machine when distributed; 0 means one per GPU."""
    nodes: Positive = 1
    """Machines; start the training on each of them, with the same data and settings (docs/distributed.md)."""
    rendezvous: str = ""
    """HOST:PORT of one of the machines, where they meet; needed with more than one."""
    max_restarts: NonNegative = 3
    """How often the ranks start again after one of them died, each time from the saved state."""
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds of work that a kill may cost."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third more time for much less memory."""
    price_per_hour: Annotated[float, Field(ge=0)] = 0.0
    """What an hour of one machine costs, in your currency, for the report; 0 means unknown."""
    init_from: str = "none"
    """Weights to start from: `none`, `champion`, or the directory of a checkpoint; the encoder comes with them."""
    guard: GuardConfig = GuardConfig()
    average: AverageConfig = AverageConfig()
    hearing: HearingConfig = HearingConfig()
    seeing: SeeingConfig = SeeingConfig()
    distill: DistillConfig = DistillConfig()
    lora: LoraConfig = LoraConfig()
    pretrain: PretrainConfig = PretrainConfig()
    images: ImagesConfig = ImagesConfig()

    @model_validator(mode="after")
    def _ranks_can_meet(self) -> Self:
        if self.nodes > 1 and (self.distributed == "none" or not self.rendezvous.rpartition(":")[2].isdigit()):
            raise ValueError("several nodes need train.distributed (ddp or fsdp2), and a train.rendezvous HOST:PORT")
        if self.distributed == "fsdp2" and self.lora.rank:
            raise ValueError("fsdp2 can't shard low-rank updates: set train.distributed: ddp, or train.lora.rank: 0")
        return self

    @model_validator(mode="after")
    def _low_rank_has_a_start(self) -> Self:
        if self.lora.rank and self.init_from == "none":
            raise ValueError(
                "low-rank updates are of trained matrices: set train.init_from (champion, or the directory of a "
                "checkpoint), or train.lora.rank: 0"
            )
        return self
