"""What benchmarks/training_gpu.py measures: stages, who takes part in each, and how they take turns.

Every stage has groups of candidates. All candidates train once; the best of each group goes on, in turn
with the others, until there are three records of each or the time of the stage is over.

- `decoder`: tokens/s at 12 x 768, 12 heads, context 1,024, in bfloat16. The tables have GPT-2's 50,304 rows, of
  which the workload (the source of the standard library) uses 8,000: the same work, 124M parameters.
- `decoder-loss`: seconds until ours has the validation loss that the nanoGPT-style loop ends with.
- `encoder-decoder`: target tokens/s at 6 + 6 x 512, on the sentence pairs of the translation workload.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from benchmarks.gpu.race import Group, Race
from benchmarks.gpu.rows import Results, final_loss, loss_rows, seconds_to, speed_row, utilization
from benchmarks.gpu.scale import Scale, fitting_rows, full_scale, gpu, tiny_scale
from benchmarks.peers.contender import Contender, Measured
from benchmarks.results import Row
from benchmarks.workloads.prepare import prepare
from noria.errors import ConfigError, SourceError

OURS, LOOP, TUTORIAL, TRAINER = "Noria", "nanoGPT-style loop", "tutorial loop", "Hugging Face Trainer"
_MODULES = {
    OURS: "benchmarks.peers.noria_training",
    LOOP: "benchmarks.peers.nanogpt_loop",
    TUTORIAL: "benchmarks.peers.tutorial_loop",
    TRAINER: "benchmarks.peers.hugging_face_trainer",
}
_WORKS = {"decoder": "language-modelling", "decoder-loss": "language-modelling", "encoder-decoder": "translation"}
_SHARES = {"decoder": 0.4, "decoder-loss": 0.35, "encoder-decoder": 0.25}  # of the time


def measure(stages: Sequence[str], *, workloads: Path, output: Path, seconds: float, rows: int, tiny: bool) -> Path:
    """Run the stages and write training_gpu.json into `output`; rows of stages that don't run stay in it.

    Raises
    ------
    ConfigError
        When there is no GPU and `tiny` was not asked for.
    """
    name, gib = gpu()
    if not name and not tiny:
        raise ConfigError("there is no CUDA device", expected="a GPU", next_step="--tiny tries the script on a CPU")
    scale = tiny_scale() if tiny else full_scale(rows or fitting_rows(gib))
    results = Results(output, device=name or "no GPU")
    deadline = time.monotonic() + seconds
    for number, stage in enumerate(stages):
        directory = _workload(_WORKS[stage], workloads, tiny=tiny)
        if directory is None:
            continue
        left, shares = deadline - time.monotonic(), [_SHARES[later] for later in stages[number:]]
        race = Race(directory, time.monotonic() + left * shares[0] / sum(shares), scale.repeats)
        _RUNS[stage](race, scale, lambda found, stage=stage: results.put(stage, found))
    return results.path


def _decoder(race: Race, scale: Scale, tell: Callable[[Sequence[Row]], None]) -> None:
    settings = {**scale.common, **scale.decoder, **scale.speed}
    ours = {**settings, "optimizer": "muon", "batch_tokens": scale.rows * int(str(scale.decoder["context"]))}
    theirs = {**settings, "batch_size": scale.rows}
    groups = [
        (_contender(OURS, ours, "bf16, Muon and AdamW", compiled=scale.compiles),),
        (_contender(LOOP, theirs, "bf16 autocast, TF32, fused AdamW", compiled=scale.compiles),),
        _trainers(theirs, "GPT-2, bf16, fused AdamW", scale),
    ]

    def rows(found: Sequence[Measured]) -> None:
        ours, *peers = found
        if not ours.contender.name.startswith(OURS):
            return
        bars = {LOOP: 1.1, TRAINER: 1.5}
        speeds = [speed_row("decoder", ours, peer, bars=bars, size=f"{scale.rows} x {context}") for peer in peers]
        tell([*utilization(ours, scale, context=context), *speeds])

    context = int(str(scale.decoder["context"]))
    race.finish(groups, best=_quickest, tell=rows)


def _encoder_decoder(race: Race, scale: Scale, tell: Callable[[Sequence[Row]], None]) -> None:
    settings = {**scale.common, **scale.translator, **scale.speed}
    theirs = {**settings, "batch_size": scale.pairs}
    variants = (False, True) if scale.compiles else (False,)
    ours = {**settings, "optimizer": "muon", "batch_tokens": scale.batch_tokens}
    groups = [
        tuple(_contender(OURS, ours, "bf16, Muon and AdamW", compiled=on) for on in variants),
        tuple(
            _contender(TUTORIAL, {**theirs, "fused": True}, "nn.Transformer, bf16 autocast, fused Adam", compiled=on)
            for on in variants
        ),
        _trainers({**theirs, "group_by_length": True}, "Marian, bf16, length grouping, fused AdamW", scale),
    ]

    def rows(found: Sequence[Measured]) -> None:
        ours, *peers = found
        if not ours.contender.name.startswith(OURS):
            return  # it failed, as its line said
        size = f"{scale.batch_tokens} tokens, theirs of {scale.pairs} pairs"
        bars = {TUTORIAL: 1.5, TRAINER: 1.5}
        tell([speed_row("encoder-decoder", ours, peer, bars=bars, size=size) for peer in peers])

    race.finish(groups, best=_quickest, tell=rows)


def _decoder_loss(race: Race, scale: Scale, tell: Callable[[Sequence[Row]], None]) -> None:
    context, steps = int(str(scale.decoder["context"])), scale.loss_steps
    settings = {**scale.common, **scale.decoder, "num_warmup_steps": scale.speed["num_warmup_steps"]}
    settings |= {"evaluate_every_steps": max(1, steps // 40), "lr_warmup_steps": max(1, steps // 20)}
    loops = tuple(
        _contender(
            LOOP,
            {**settings, "steps": steps, "batch_size": scale.rows, "lr": lr, "schedule": "cosine"},
            f"{steps} steps, lr {lr:g} cosine",
            compiled=scale.compiles,
        )
        for lr in (6e-4, 1.2e-3)
    )
    ours = tuple(
        _contender(
            OURS,
            {
                **settings,
                "steps": round(share * steps),
                "batch_tokens": scale.rows * context,
                "optimizer": "muon",
                "lr": 2e-3,
                "schedule": "linear",
            },
            f"{round(share * steps)} steps, Muon",
            compiled=scale.compiles,
        )
        for share in (0.4, 0.55)
    )

    def best(candidates: Sequence[Measured]) -> Measured:
        """Of the loop the lowest loss; of ours the first to have it, or the lowest."""
        if candidates[0].contender.module == _MODULES[LOOP]:
            return min(candidates, key=final_loss)
        target = min((final_loss(m) for c in loops if (m := race.measured(c))), default=0.0)
        return min(candidates, key=lambda m: (seconds_to(m, target) or float("inf"), final_loss(m)))

    def rows(found: Sequence[Measured]) -> None:
        if len(found) == 2:
            tell(loss_rows(*found))

    race.finish([ours, loops], best=best, tell=rows)


_RUNS: Mapping[str, Callable[[Race, Scale, Callable[[Sequence[Row]], None]], None]] = {
    "decoder": _decoder,
    "decoder-loss": _decoder_loss,
    "encoder-decoder": _encoder_decoder,
}


def _contender(name: str, settings: Mapping[str, object], note: str, *, compiled: bool) -> Contender:
    """Its name tells candidates of one group apart."""
    told = f"{note}, {'compiled' if compiled else 'not compiled'}"
    return Contender(f"{name} ({told})", _MODULES[name], {**settings, "compile": compiled}, told)


def _trainers(settings: Mapping[str, object], note: str, scale: Scale) -> Group:
    """With and without torch_compile; none where the library is not there."""
    if not all(importlib.util.find_spec(name) for name in ("transformers", "accelerate")):
        print(f"left out: {TRAINER}: transformers and accelerate are not installed", flush=True)
        return ()
    return tuple(_contender(TRAINER, settings, note, compiled=on) for on in sorted({False, scale.compiles}))


def _quickest(candidates: Sequence[Measured]) -> Measured:
    return max(candidates, key=lambda measured: measured.target_tokens_per_s)


def _workload(work: str, workloads: Path, *, tiny: bool) -> Path | None:
    """None, and a line that says why, where its data is not there."""
    directory = workloads / work
    try:
        workload = prepare(work, directory, tiny=tiny)
    except (SourceError, PackageNotFoundError) as error:
        print(
            f"left out: {work}: {error}; carry a workload along: `python -m benchmarks.workloads {work} DIR/{work}` "
            "where its packages are, and --workloads DIR here",
            flush=True,
        )
        return None
    print(f"{work}: {workload.description.num_tokens}, {', '.join(workload.description.sources)}", flush=True)
    return directory
