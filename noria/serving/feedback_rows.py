"""From feedback to labelled rows: each is looked at once, and what is not believed goes to quarantine."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from noria.artifacts import write_artifact
from noria.config import FeedbackConfig
from noria.data.intake import feedback_file, feedback_files, read_feedback, write_feedback
from noria.data.media import is_optional
from noria.data.opinions import Decided, Known, Opinion, add_heard, decide
from noria.data.quarantine import QUARANTINED, QuarantineWriter, gather_quarantines, read_quarantine
from noria.data.rows import read_rows
from noria.scenarios.base import Row, Scenario
from noria.serving.bundle import open_bundle
from noria.serving.intakes import Event, Intake, Intakes
from noria.serving.store import ModelStore

logger = logging.getLogger(__name__)

ORIGIN = "feedback:"


@dataclass(frozen=True)
class Taker:
    """Takes feedback on a model into the data of its workspace.

    Attributes
    ----------
    base:
        The workspace's directory, whose intake gets the rows.
    raw:
        The rows of its source, as they were last read: what corrections are compared with.
    quarantine:
        Where what is refused goes.
    """

    store: ModelStore
    scenario: Scenario
    config: FeedbackConfig
    base: Path
    raw: Path
    quarantine: Path

    @property
    def intakes(self) -> Intakes:
        return self.store.intakes

    def take(self) -> list[Intake]:
        """Look at all feedback that waits, and return all intakes so far.

        The record in the store comes first and the rows are made from it: killed in between and run again, or run
        in another workspace of this model, it makes the same rows.

        Raises
        ------
        StoreError
            When the store can't be read or written.
        """
        done = self.intakes.all()
        if not self.raw.exists():
            logger.info("feedback waits until the source was read once: corrections are compared with its rows")
            return done
        self._make_rows(done)  # first: what is said now is held against what was said in any workspace
        while waiting := self.intakes.waiting(done):
            intake = self._decide(waiting, done)
            if self.intakes.add(intake):
                logger.info("feedback: %s became rows, %s refused", len(intake.accepted), len(intake.refused))
            done = self.intakes.all()
            self._make_rows(done)
        self._make_quarantine(done)
        return done

    def _decide(self, waiting: Sequence[str], done: Sequence[Intake]) -> Intake:
        said: dict[str, Counter[str]] = {}
        opinions, unusable = [], {}
        for name, event in self.intakes.events(waiting):
            said.setdefault(event["model_version"], Counter())["right" if event["is_right"] else "wrong"] += 1
            right = self._right(event)
            if right is None:
                continue
            row = row_of(event, right, scenario=self.scenario)
            if row is None:
                unusable[name] = ("unusable", f"a row of this scenario can't have {right[:60]!r} as its answer")
            else:
                label = str(row[self.scenario.target])
                opinions.append(Opinion(name, event.get("client", ""), self.scenario.duplicate_key(row), label))
        known = self._known(opinions, done) if opinions else Known()
        decided = decide(opinions, known=known, config=self.config)
        return Intake(
            number=max((each.number for each in done), default=0) + 1,  # a copied store may lack one
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            taken=tuple(waiting),
            accepted=tuple(each.name for each in decided.accepted),
            refused={**unusable, **decided.refused},
            clients=_clients(decided),
            heard=decided.heard,
            said={version: dict(sorted(counts.items())) for version, counts in said.items()},
        )

    def _right(self, event: Event) -> str | None:
        """What is right by this feedback, where it says so and rows are to be made of it."""
        if self.scenario.correct is None or self.config.use == "none":
            return None
        if event["is_right"] and self.config.use == "corrections":
            return None
        return right_by(event, scenario=self.scenario)

    def _known(self, opinions: Sequence[Opinion], done: Sequence[Intake]) -> Known:
        day_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        today: Counter[str] = sum((Counter(each.clients) for each in done if each.time > day_ago), Counter())
        long_ago = (datetime.now(UTC) - timedelta(days=self.config.trust_days)).isoformat()
        heard = add_heard(each.heard for each in done if each.time > long_ago)
        truth, num_rows = self._truth({each.key for each in opinions})
        asked = {_id_of(each.name) for each in opinions}  # what an intake took that this store does not know any more
        earlier = {
            self.scenario.duplicate_key(row): str(row[self.scenario.target])
            for name, row in self._earlier()
            if name not in asked
        }
        room = max(0, int(self.config.max_share * num_rows) - sum(len(each.accepted) for each in done))
        return Known(truth, earlier, self._labels(), today, room, heard)

    def _truth(self, keys: set[str]) -> tuple[dict[str, str], int]:
        """Labels of rows of the source that have these keys, and how many rows the source has."""
        labels: dict[str, set[str]] = {}
        num_rows = 0
        for row in read_rows(self.raw):
            if str(row["origin"]).startswith(ORIGIN):
                continue
            num_rows += 1
            if None not in (row[name] for name in self.scenario.schema.names):
                key = self.scenario.duplicate_key(row)
                if key in keys:
                    labels.setdefault(key, set()).add(str(row[self.scenario.target]))
        return {key: found.pop() for key, found in labels.items() if len(found) == 1}, num_rows

    def _earlier(self) -> Iterator[tuple[str, Row]]:
        """The id of the feedback, and the row that it became."""
        for file in feedback_files(self.base):
            for block in read_feedback(file, schema=self.scenario.schema):
                yield str(block.numbers[0]), {name: values[0] for name, values in block.columns.items()}

    def _labels(self) -> set[str] | None:
        production = self.store.production()
        if self.scenario.labels is None or production is None:
            return None
        bundle = open_bundle(self.store.fetch(production.version).path)
        return set(self.scenario.labels(bundle.encoder))

    def _make_rows(self, intakes: Sequence[Intake]) -> None:
        files = {feedback_file(self.base, intake.accepted): intake.accepted for intake in intakes if intake.accepted}
        missing = {path: accepted for path, accepted in files.items() if not path.exists()}
        there = {name for name, _ in self._earlier()} if missing else set()  # of a store whose later intakes are lost
        for path, accepted in missing.items():
            rows = []
            for _, event in self.intakes.events([each for each in accepted if _id_of(each) not in there]):
                right = right_by(event, scenario=self.scenario)
                row = row_of(event, right, scenario=self.scenario) if right is not None else None
                assert row is not None, "an accepted opinion has a row"
                rows.append((str(event["id"]), row))
            write_feedback(path, rows)

    def _make_quarantine(self, intakes: Sequence[Intake]) -> None:
        refused = {name: why for intake in intakes for name, why in intake.refused.items()}
        there = {row.origin.removeprefix(ORIGIN) for row in read_quarantine(self.quarantine)}
        missing = [name for name in refused if _id_of(name) not in there]
        if not missing:
            return
        self.quarantine.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=".", dir=self.quarantine.parent) as name,
            write_artifact(self.quarantine, kind="quarantine") as draft,
        ):
            new = Path(name) / self.quarantine.name
            with QuarantineWriter(new) as quarantine:
                for each, event in self.intakes.events(missing):
                    rule, reason = refused[each]
                    quarantine.add({**event, "origin": f"{ORIGIN}{event['id']}"}, rule=rule, reason=reason)
            gather_quarantines([self.quarantine / QUARANTINED, new / QUARANTINED], draft.path / QUARANTINED)
            draft.counts = {"rows": len(there) + len(missing)}


def right_by(event: Event, *, scenario: Scenario) -> str | None:
    """The correction; of an answer that was right its first field: the label, the text, the answer."""
    if not event["is_right"]:
        correction: str | None = event["correction"]
        return correction
    answer = event["response"].get(next(iter(scenario.response.model_fields)))  # another version may answer otherwise
    return str(answer) or None if answer is not None else None


def row_of(event: Event, right: str, *, scenario: Scenario) -> Row | None:
    """The content columns of a row whose answer is `right`, or None where the scenario can't have it."""
    assert scenario.correct is not None
    try:
        values = scenario.row_of(scenario.request.model_validate(event["request"]))
    except ValidationError:  # kept by another version, whose requests were others
        return None
    row = scenario.correct(values, right)
    if row is None:
        return None
    empty = {field.name: "" for field in scenario.schema if is_optional(field)}
    return {name: value for name, value in {**empty, **row}.items() if name in scenario.schema.names}


def said_of(version: str, intakes: Sequence[Intake]) -> dict[str, object]:
    """What was said of the answers of one version, and what of all feedback was refused, by rule."""
    said = sum((Counter(intake.said.get(version, {})) for intake in intakes), Counter[str]())
    refused = Counter(rule for intake in intakes for rule, _ in intake.refused.values())
    return {"right": said["right"], "wrong": said["wrong"], "refused": dict(sorted(refused.items()))}


def _clients(decided: Decided) -> Mapping[str, int]:
    return dict(sorted(Counter(each.client for each in decided.accepted).items()))


def _id_of(name: str) -> str:
    """The id in the name of a feedback object: `<time>-<id>.json`."""
    return name.removesuffix(".json").rpartition("-")[2]
