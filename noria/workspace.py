"""A workspace: the directory of one model, and the name of every path in it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a process that only needs to know where things are pays for nothing else
    from noria.config import Config
    from noria.scenarios.base import Scenario


@dataclass(frozen=True)
class Workspace:
    """Paths, configuration and scenario of the workspace at `root`."""

    root: Path

    @classmethod
    def at(cls, directory: str | Path = ".") -> Workspace:
        """The workspace in `directory`, by absolute path."""
        return cls(Path(directory).resolve())

    @cached_property
    def scenario(self) -> Scenario:
        from noria.config import read_params
        from noria.errors import ConfigError
        from noria.scenarios import load_scenario

        values = read_params(self.params)
        name = values.get("scenario")
        if not isinstance(name, str):
            near = difflib.get_close_matches("scenario", map(str, values.keys() - {"scenario"}), n=1, cutoff=0.8)
            raise ConfigError(
                "`scenario` is missing",
                where=str(self.params),
                expected="scenario: text-classification",
                next_step=f"`{near[0]}` should be `scenario`" if near else "name the scenario",
            )
        return load_scenario(name)

    @cached_property
    def config(self) -> Config:
        from noria.config import load_config

        return load_config(self.params, defaults=self.scenario.defaults)

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def suite(self) -> Path:
        """The scenario's expectations, for the data owner to edit."""
        return self.root / "expectations" / f"{self.scenario.name}.yaml"

    @property
    def raw(self) -> Path:
        return self.root / "data" / "raw"

    @property
    def preprocessed(self) -> Path:
        return self.root / "data" / "preprocessed"

    @property
    def cleaned(self) -> Path:
        return self.root / "data" / "cleaned"

    @property
    def augmented(self) -> Path:
        return self.root / "data" / "augmented"

    @property
    def splits(self) -> Path:
        return self.root / "data" / "splits"

    @property
    def intake(self) -> Path:
        """What the update adds to the source: objects that it refused, and rows that feedback became."""
        return self.root / "sources" / "intake"

    def quarantine(self, stage: str) -> Path:
        """Rows that `stage` refused."""
        return self.root / "data" / "quarantine" / stage

    def quality(self, stage: str) -> Path:
        """The report of one judgement: `check` or `recheck`."""
        return self.root / "reports" / "quality" / stage

    @property
    def checkpoint(self) -> Path:
        return self.root / "models" / "checkpoint"

    @property
    def training_report(self) -> Path:
        return self.root / "reports" / "training"

    @property
    def evaluation(self) -> Path:
        return self.root / "reports" / "evaluation"

    @property
    def run_reports(self) -> Path:
        """A page a run, and `index.html`, that of the last."""
        return self.root / "reports" / "run"

    @property
    def bundle(self) -> Path:
        return self.root / "models" / "bundle"

    @property
    def optimization(self) -> Path:
        return self.root / "reports" / "optimization"

    @property
    def store(self) -> str:
        """Path or URL of the model store."""
        store = self.config.deploy.store
        return store if "://" in store else str(self.root / store)

    @property
    def scratch(self) -> Path:
        """What only this machine needs: events, locks, resumable training. Never an output of a stage."""
        return self.root / ".noria"

    @property
    def arrivals(self) -> Path:
        """Rows that arrived since the champion's data was read, and passed the gate."""
        return self.scratch / "arrivals"

    @property
    def monitoring(self) -> Path:
        """How the champion does on what arrived, and how that differs from what it knows."""
        return self.root / "reports" / "monitoring"

    @property
    def decision(self) -> Path:
        """What the last update decided to do about what arrived, and why."""
        return self.scratch / "decision"

    @property
    def baseline(self) -> Path:
        """The baseline of the version that was deployed last, before it is copied into the store."""
        return self.scratch / "baseline"

    @property
    def deployment(self) -> Path:
        """What the last deploy staged, and where."""
        return self.scratch / "deployment"

    @property
    def proposal(self) -> Path:
        """What the next update would decide, for whoever has to approve."""
        return self.scratch / "proposal"

    @property
    def consent(self) -> Path:
        """What a person said of the last proposal."""
        return self.scratch / "consent"

    @property
    def clients_key(self) -> Path:
        """The secret behind the pseudonyms of those who gave feedback."""
        return self.scratch / "clients.key"

    @property
    def mirror(self) -> Path:
        """Objects of a remote source, on this machine."""
        return self.scratch / "mirror"

    @property
    def tags(self) -> Path:
        """Digests of the source's files, so that none is read for nothing."""
        return self.scratch / "tags.json"

    @property
    def batches(self) -> Path:
        """What the gate said of objects that arrived, a directory a batch."""
        return self.scratch / "batches"

    @property
    def verdict(self) -> Path:
        """What the last update decided, and why. The store's journal has them all."""
        return self.scratch / "verdict"

    @property
    def trial(self) -> Path:
        """What the last look at the canary decided, and why."""
        return self.scratch / "trial"

    @property
    def store_cache(self) -> Path:
        """Versions of a remote store, on this machine."""
        return self.scratch / "store-cache"

    @property
    def tuning(self) -> Path:
        """Searches for hyperparameters: a directory each, to go on from."""
        return self.scratch / "tune"

    @property
    def tuning_report(self) -> Path:
        return self.root / "reports" / "tuning"

    def events(self, stage: str) -> Path:
        """What the stage's process has to say while it runs, one JSON object a line."""
        return self.scratch / "events" / f"{stage}.jsonl"

    @property
    def history(self) -> Path:
        """One line a node and run, by the runner: state and seconds. Feeds `noria plan` and `noria status`."""
        return self.scratch / "history.jsonl"
