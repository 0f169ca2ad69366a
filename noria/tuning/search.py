"""A search: which trial is next, its training, and what came of it; goes on where it was killed."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from noria.artifacts import Artifact, read_artifact
from noria.config import Config, TuneConfig
from noria.config.tune import Scalar
from noria.errors import StageFailed, WorkspaceBusy
from noria.evaluation.inference import num_cores
from noria.lease import occupy
from noria.serving.predecessor import pinned
from noria.tuning.space import Space, read_space
from noria.tuning.study import BASELINE, REFUSED, importances, open_study, prepare_sampler, resume, study_name, suggest
from noria.tuning.worker import FINAL_LOSS, Ended, TrialFiles, run_worker, unheard_s
from noria.workspace import Workspace

logger = logging.getLogger(__name__)

_TRIES = 50  # at values that are refused or were tried: then the space holds hardly more
_MOST_ATTEMPTS = 3
_SPLITS = "splits"


@dataclass(frozen=True)
class Limits:
    """How long this call searches, and how many trainings at once."""

    trials: int
    minutes: float
    parallel: int

    @classmethod
    def of(
        cls, tune: TuneConfig, *, trials: int | None = None, minutes: float | None = None, parallel: int | None = None
    ) -> Limits:
        """What `params.yaml` says, where the call says nothing else."""
        return cls(
            trials=tune.trials if trials is None else trials,
            minutes=tune.minutes if minutes is None else minutes,
            parallel=tune.parallel if parallel is None else parallel,
        )


@dataclass(frozen=True)
class TrialJob:
    """One training to be run."""

    number: int
    values: Mapping[str, Scalar]
    files: TrialFiles

    @property
    def title(self) -> str:
        """For a person: "trial 3: lr 0.001, optimizer muon"."""
        values = ", ".join(f"{path.rsplit('.', 1)[-1]} {value}" for path, value in self.values.items())
        return f"trial {self.number}: {'as it is, ' if self.number == 0 else ''}{values}"


@dataclass(frozen=True)
class TrialRecord:
    """A trial of the study.

    Attributes
    ----------
    loss:
        Hold-out loss of the finished model.
    metrics:
        What else was said of the finished model.
    epochs:
        Hold-out loss after each epoch, of what is being trained: another measure than `loss`.
    """

    number: int
    state: Literal["complete", "pruned", "failed", "running"]
    values: Mapping[str, Scalar]
    loss: float | None
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    epochs: tuple[float, ...] = ()
    error: str = ""


class Search:
    """Hands out trials, runs them and keeps what came of them. Its methods may be called from several threads."""

    def __init__(self, directory: Path, *, name: str, space: Space, splits: Artifact, limits: Limits) -> None:
        self.name, self.space, self.splits, self.limits = name, space, splits, limits
        self.directory = directory
        self.error: StageFailed | None = None
        """Why it ended before its time."""
        self._study = open_study(directory, name=name, space=space)
        self._lock = threading.RLock()
        self._active: dict[int, int] = {}  # trial -> its place among those at once: 0, 1, …
        self._num_running = 0
        self._stopped = threading.Event()
        self._until = time.monotonic() + limits.minutes * 60 if limits.minutes else float("inf")

    def ask(self) -> TrialJob | None:
        """The next trial: one that was left unfinished, else a new one; None when the search is over."""
        with self._lock:
            trials = self._counted()
            unfinished = [t for t in trials if t.state == TrialState.RUNNING and t.number not in self._active]
            if self._over() or (not unfinished and len(trials) >= self.limits.trials):
                return None
            job = self._again(unfinished[0]) if unfinished else self._new()
            if job is not None:
                taken = self._active.values()
                self._active[job.number] = next(place for place in itertools.count() if place not in taken)
            return job

    def run(self, job: TrialJob) -> Ended:
        """Train, and keep what came of it."""
        started = time.monotonic()
        with self._lock:
            trial = resume(self._study, self._trial(job.number))
            if self._over():
                return Ended("interrupted")
            self._num_running += 1
            _count(trial, unheard_s(job.files, since=trial.user_attrs.get("heard_at", 0.0)))
        try:
            ended = run_worker(
                job.files,
                place=self._active[job.number] if self.limits.parallel > 1 else None,
                on_epoch=lambda step, loss: self._worth(trial, step, loss),
                stopping=self._over,
            )
            with self._lock:
                _count(trial, time.monotonic() - started)
                self._keep(job, trial, ended)
        except BaseException as error:  # not kept, it would be asked for again and again
            self._give_up(f"{job.title} can't be run: {error!r}")
            raise
        finally:
            with self._lock:
                self._num_running -= 1
                self._active.pop(job.number, None)
        logger.info("%s: %s%s", job.title, ended.state, _said(ended))
        return ended

    def stop(self) -> None:
        """End: the trainings under way save their state, and a later search goes on with them."""
        self._stopped.set()

    def wait(self) -> None:
        """Return once no training is under way."""
        while self._num_running:
            time.sleep(0.1)

    def records(self) -> tuple[TrialRecord, ...]:
        """Every trial so far, by number."""
        with self._lock:
            return tuple(_record(trial) for trial in self._counted() if "values" in trial.user_attrs)

    def importances(self) -> Mapping[str, float]:
        """Share of each path in what tells good trials from the rest."""
        return importances(self._study)

    def _over(self) -> bool:
        return self._stopped.is_set() or time.monotonic() > self._until

    def _counted(self) -> list[FrozenTrial]:
        """Without the values that nobody trained with."""
        trials = self._study.get_trials(deepcopy=False)
        return [t for t in trials if t.state != TrialState.WAITING and REFUSED not in t.user_attrs]

    def _trial(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _new(self) -> TrialJob | None:
        for _ in range(_TRIES):
            prepare_sampler(self._study, self.space)
            job = self._prepare(self._study.ask())
            if job is not None:
                return job
        logger.info("all that the space holds was tried")
        return None

    def _again(self, left: FrozenTrial) -> TrialJob | None:
        prepare_sampler(
            self._study, self.space, number=left.number
        )  # it may have been left before its values were drawn
        return self._prepare(resume(self._study, left)) or self._new()

    def _prepare(self, trial: optuna.Trial) -> TrialJob | None:
        """The job of a trial; None where its values can't be, or were tried before."""
        values: dict[str, Scalar] = trial.user_attrs.get("values") or suggest(trial, self.space)
        config = self.space.config(values)
        earlier = [t.user_attrs.get("values") for t in self._counted() if t.number != trial.number]
        if config is None or values in earlier:
            trial.set_user_attr(REFUSED, "tried before" if config else "the configuration refuses it")
            self._study.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr("values", values)
        files = TrialFiles(self.directory / f"trial-{trial.number:04d}")
        files.root.mkdir(exist_ok=True)
        text = json.dumps(self._job(config, files), indent=2, ensure_ascii=False)
        partial = files.job.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(files.job)
        return TrialJob(trial.number, values, files)

    def _job(self, config: Config, files: TrialFiles) -> dict[str, object]:
        plain = config.model_dump(mode="json", exclude={"tune"})
        if files.job.exists():  # begun before: with other threads it would be another training
            begun = json.loads(files.job.read_text(encoding="utf-8"))
            plain["train"]["threads"] = begun["config"]["train"]["threads"]
        elif self.limits.parallel > 1 and not config.train.threads:  # one thread a core, over all of them
            plain["train"]["threads"] = max(1, num_cores() // self.limits.parallel)
        paths = {"splits": self.splits.path, "output": files.output, "scratch": files.scratch, "events": files.events}
        return {**{name: str(path) for name, path in paths.items()}, "config": plain}

    def _worth(self, trial: optuna.Trial, step: int, loss: float) -> bool:
        """Keep an epoch's loss; epochs are counted, as steps differ with the batch. Is the trial to go on?"""
        with self._lock:
            steps: list[int] = trial.user_attrs.get("steps", [])
            if step in steps:  # told again by a training that was resumed
                return True
            trial.set_user_attr("steps", [*steps, step])
            trial.report(loss, len(steps) + 1)
            return bool(trial.user_attrs.get(BASELINE)) or not trial.should_prune()

    def _keep(self, job: TrialJob, trial: optuna.Trial, ended: Ended) -> None:
        if ended.state == "interrupted":
            if self._over():  # the search ended, not the trial: it stays unfinished, the next one asked for
                return
            attempts = trial.user_attrs.get("attempts", 0) + 1
            trial.set_user_attr("attempts", attempts)
            if attempts < _MOST_ATTEMPTS:
                return
        if ended.state in ("failed", "interrupted"):
            if trial.user_attrs.get(BASELINE):
                self._give_up(f"the training with the current parameters failed: {ended.error}")
                return
            trial.set_user_attr("error", ended.error or "it was interrupted again and again")
            self._study.tell(trial, state=TrialState.FAIL)
        elif ended.state == "pruned":
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            trial.set_user_attr("metrics", dict(ended.metrics))
            self._study.tell(trial, ended.metrics[FINAL_LOSS])
        shutil.rmtree(job.files.output, ignore_errors=True)
        shutil.rmtree(job.files.scratch, ignore_errors=True)

    def _give_up(self, why: str) -> None:
        self.error = self.error or StageFailed(
            why, where=str(self.directory), next_step="put that right first; `noria tune` then goes on"
        )
        self.stop()


@contextmanager
def begin_search(workspace: Workspace, limits: Limits, *, wait_s: float) -> Iterator[Search]:
    """A search over the workspace's splits, as they are now; the workspace is held only until they are its own.

    Raises
    ------
    ConfigError
        When `tune.space` is empty or wrong.
    ArtifactError
        When there are no splits.
    WorkspaceBusy
        When another search is under way here, or a run holds the workspace longer than `wait_s`.
    """
    space = read_space(pinned(workspace), workspace.params)
    workspace.tuning.mkdir(parents=True, exist_ok=True)
    with _alone(workspace):
        with occupy(workspace, wait_s=wait_s):
            splits = read_artifact(workspace.splits)
            name = study_name(splits, space)
            for left in workspace.tuning.glob(f"*/{_SPLITS}"):  # of a search that was killed
                shutil.rmtree(left)
            own = shutil.copytree(splits.path, workspace.tuning / name / _SPLITS, copy_function=_link)
        search = Search(own.parent, name=name, space=space, splits=read_artifact(own, verify=False), limits=limits)
        try:
            yield search
        finally:
            search.stop()
            search.wait()
            shutil.rmtree(own)
    if search.error is not None:
        raise search.error


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    lock = FileLock(workspace.tuning / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise WorkspaceBusy(
            "another search is under way in this workspace",
            where=str(workspace.root),
            next_step="let it end, or end that process: a search goes on where it was",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _link(source: str, target: str) -> str:
    """Artifacts are replaced, never written into: another name for a file keeps its bytes, without a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _count(trial: optuna.Trial, seconds: float) -> None:
    """Add to the time of a trial; what its training says of the time up to now is counted."""
    trial.set_user_attr("seconds", trial.user_attrs.get("seconds", 0.0) + seconds)
    trial.set_user_attr("heard_at", time.time())


def _record(trial: FrozenTrial) -> TrialRecord:
    names: dict[TrialState, Literal["complete", "pruned", "failed", "running"]] = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    attributes = trial.user_attrs
    return TrialRecord(
        number=trial.number,
        state=names.get(trial.state, "running"),
        values=attributes["values"],
        loss=trial.value if trial.state == TrialState.COMPLETE else None,
        seconds=round(attributes.get("seconds", 0.0), 1),
        metrics=attributes.get("metrics", {}),
        epochs=tuple(loss for _, loss in sorted(trial.intermediate_values.items())),
        error=attributes.get("error", ""),
    )


def _said(ended: Ended) -> str:
    if ended.state == "complete":
        return f", hold-out loss {ended.metrics[FINAL_LOSS]:.4f}"
    return f": {ended.error}" if ended.error else ""
