"""One rank of several: tries what needs others, and writes what it found to DIRECTORY/RANK.json."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch.distributed.tensor import DTensor
from training_fixtures import Listener, branch, fit, labels, small_job, some_tokens

from noria.config import AverageConfig
from noria.errors import TrainingError
from noria.training.averaging import Average
from noria.training.distributed import Ranks, Replica, joined, shard, whole
from noria.training.meter import over_ranks
from noria.training.optimizers import build_optimizers
from noria.training.recipe import Fit, Recipe
from noria.training.run import Job, run_job
from noria.training.state import StateStore, TrainingState, restore

_BURNT_S = 0.7


class Ended(Exception):
    pass


def used(directory: Path, ranks: Ranks) -> dict[str, float]:
    """CPU seconds: what this rank burnt, what was saved when it ended, and all in all after it went on."""

    def burn() -> Mapping[str, float]:
        until = time.process_time() + _BURNT_S
        while time.process_time() < until:
            pass
        return {}

    def end() -> Mapping[str, float]:
        raise Ended

    def job(recipe: Recipe) -> Job:
        alone = small_job(directory, branch(), recipe, told=Listener())
        return replace(alone, ranks=ranks, store=StateStore(directory, fingerprint="usage", writes=ranks.leads))

    ended = job([Fit("burn", burn), Fit("last", end)])
    try:
        run_job(ended)
    except Ended:
        ended.store.wait()
    ranks.gather(None)
    saved = ended.store.load()
    assert saved is not None
    resumed = run_job(job([Fit("burn", burn), fit("last")]))
    total = over_ranks(ranks.gather(resumed.usage))
    return {"burnt_s": _BURNT_S, "saved_cpu_s": saved.state.usage["cpu_s"], "resumed_cpu_s": total.cpu_s}


def sharded(directory: Path, ranks: Ranks) -> dict[str, object]:
    """Shards a tiny model, steps, saves and restores."""
    deep, plain = branch(), branch()
    total = sum(param.numel() for param in deep.parameters())
    shard(deep, device=torch.device("cpu"))
    mine = sum(param.to_local().numel() for param in deep.parameters() if isinstance(param, DTensor))
    objective = labels(some_tokens(), batch_tokens=64)
    replica = Replica(deep, objective, kind="fsdp2", ranks=ranks, sample=lambda: objective.batch(0))
    optimizers = build_optimizers("muon", deep, matrices=deep.encoder, lr=0.1, muon_lr=0.1, weight_decay=0.1)
    average = Average(AverageConfig(kind="ema"), deep, num_steps=9)
    for step in range(3):
        replica(objective.batch(step).part(ranks.rank, of=2)).backward()
        for optimizer in optimizers:
            if step == 2:
                optimizer.found_inf = torch.ones(())
            before = [whole(param.detach()).clone() for param in deep.parameters()]
            optimizer.step()
        averaged = {name: whole(tensor).clone() for name, tensor in average.tensors.items()}
        average.update(step, taken=torch.tensor(step < 2))
        deep.zero_grad()
    skipped = all(torch.equal(a, whole(b.detach())) for a, b in zip(before, deep.parameters(), strict=True))
    skipped &= all(torch.equal(averaged[name], whole(tensor)) for name, tensor in average.tensors.items())
    state = TrainingState("train", average=average.saved)
    with torch.no_grad():
        own = objective.loss(deep, objective.batch(0))
    replica(objective.batch(0)).backward()  # as a step does: behind it, all is sharded
    deep.zero_grad()
    with torch.no_grad():
        with average.applied():
            judged = objective.loss(deep, objective.batch(0))
        back = objective.loss(deep, objective.batch(0))
    store = StateStore(directory / "state", fingerprint="same", writes=ranks.leads)
    store.save(state, model=deep, optimizers=optimizers)
    store.wait()
    ranks.gather(None)
    saved = store.load()
    assert saved is not None
    plain.load_state_dict(dict(saved.model))  # strict: whole tensors of the plain shapes
    restore(deep, optimizers, saved)
    average.load(saved.state.average)
    average.keep()
    averaged = all(torch.equal(whole(deep.get_parameter(n).detach()), saved.state.average[n]) for n in average.tensors)
    raised = ""
    try:
        ranks.raise_any(TrainingError("only the first knew") if ranks.leads else None)
    except TrainingError as error:
        raised = error.what
    return {
        "sharded": all(isinstance(param, DTensor) for param in deep.parameters()),
        "share": mine / total,
        "whole": all(torch.equal(t, saved.model[n]) for n, t in plain.state_dict().items()),
        "restored": averaged,
        "skipped": skipped,
        "goes_on": bool(judged != own) and bool(back == own),
        "newest": ranks.newest(["first", "second"][ranks.rank], age=lambda text: (len(text),)),
        "raised": raised,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined(cuda=False) as ranks:
        out = Path(sys.argv[1])
        found = {**used(out / "usage", ranks), **sharded(out, ranks)}
        (out / f"{ranks.rank}.json").write_text(json.dumps(found))
