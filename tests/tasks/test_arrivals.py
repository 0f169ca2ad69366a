"""What arrives is read once, judged fairly, and refused object by object; nothing is lost and nothing comes twice."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hours
import pyarrow as pa
import pytest
import s3fs
import tiny
import yaml
from s3_server import s3_server
from workspaces import environment, good_rows

from noria.artifacts import write_artifact
from noria.data.gate import Gate
from noria.data.quarantine import read_quarantine
from noria.errors import SourceError, SourceUnavailable
from noria.serving.bundle import version_of
from noria.serving.store import store_of
from noria.workspace import Workspace
from tasks.arrivals import arrivals
from tasks.ingest import ingest


class Folder:
    """A source on disk."""

    def __init__(self, path):
        self.path = path
        path.mkdir(parents=True)

    def put(self, name, data):
        (self.path / name).write_bytes(data)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return hours.make(tmp_path / "ws", "sources/hours")


@pytest.fixture
def source(workspace) -> Folder:
    return Folder(workspace.root / "sources" / "hours")


def refused(workspace):
    return yaml.safe_load((workspace.intake / "refused.yaml").read_text()) or []


def forgive(workspace, name):
    """Delete the line of an object, as a person does."""
    path = workspace.intake / "refused.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if f'"{name}"' not in line))


def read_all(workspace):
    """Objects that training reads."""
    ingest.fn(workspace)
    return [each["name"] for each in json.loads((workspace.raw / "objects.json").read_text())]


def test_before_the_first_training_nothing_is_read_or_judged_however_much_there_is(workspace, source, monkeypatch):
    for number in range(3):
        source.put(f"0{number}.csv", hours.hour(number))
    monkeypatch.setattr(Gate, "_judge_batch", None)
    facts = hours.Found(workspace).facts
    assert (facts["objects_new"], facts["objects_listed"], facts["rows"]) == (3, 3, 0)
    assert "**3 objects**, which the first training reads and judges" in arrivals.summary(workspace)
    assert hours.Found(workspace).facts["objects_new"] == 3  # until a training has read them
    assert read_all(workspace) == ["00.csv", "01.csv", "02.csv"]
    assert hours.Found(workspace).facts["objects_new"] == 0


def test_an_hour_of_few_rows_of_one_label_is_no_bad_hour(workspace, source):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    source.put("01.csv", hours.table([row for row in good_rows(12, seed=1) if row[1] == "pos"]))
    source.put("02.csv", hours.table([]))
    found = hours.Found(workspace)
    assert found.objects == ["01.csv"]
    assert (len(found.rows), found.facts["objects_new"], found.facts["refused"]) == (6, 2, [])


def test_a_large_batch_is_judged_by_its_distributions(workspace, source):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    positive = [row for row in good_rows(200, seed=1) if row[1] == "pos"]
    source.put("01.csv", hours.table([*positive, *(row for row in good_rows(8, seed=2) if row[1] == "neg")]))
    found = hours.Found(workspace)
    assert found.rows == []
    assert found.facts["refused"] == ["01.csv"]
    (why,) = found.batches["01.csv"]["reasons"]
    assert "`smallest_class_share` should be at least 0.2" in why
    assert len(list(read_quarantine(workspace.quarantine("arrivals")))) == 104


def test_objects_that_fail_together_and_pass_apart_are_refused_and_tried_again_together(workspace, source):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    rows = good_rows(320, seed=1)
    positive, negative = ([row for row in rows if row[1] == label] for label in ("pos", "neg"))
    for number in range(1, 4):
        source.put(f"0{number}.csv", hours.table(positive[number * 40 : number * 40 + 40]))
    source.put("04.csv", hours.table(negative[:10]))
    found = hours.Found(workspace)
    assert (found.rows, found.facts["objects_refused"]) == ([], 4)
    assert len(found.batches) == 1
    assert hours.Found(workspace).facts["objects_new"] == 0
    forgive(workspace, "04.csv")
    source.put("04.csv", hours.table(negative[:40]))
    again = hours.Found(workspace)
    assert (len(again.rows), again.facts["objects_new"], refused(workspace)) == (160, 4, [])


@pytest.mark.parametrize("number", [1, 2])
def test_who_is_killed_while_the_parts_of_what_failed_are_removed_lets_nothing_in(
    workspace, source, monkeypatch, number
):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    rows = good_rows(320, seed=1)
    positive, negative = ([row for row in rows if row[1] == label] for label in ("pos", "neg"))
    source.put("01.csv", hours.table(positive[:80]))
    source.put("02.csv", hours.table([*positive[80:120], *negative[:10]]))
    remove, left = shutil.rmtree, itertools.count(1)

    def die(path, **settings):
        if Path(path).parent == workspace.batches and next(left) == number:
            raise KeyboardInterrupt
        remove(path, **settings)

    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(shutil, "rmtree", die)
        arrivals.fn(workspace)
    found = hours.Found(workspace)
    assert (found.rows, found.facts["objects_refused"]) == ([], 2)


def test_a_bad_object_holds_back_no_good_one_and_can_be_tried_again(workspace, source):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    for number in range(1, 6):
        source.put(f"0{number}.csv", hours.hour(number))
    source.put("03.csv", hours.foreign(3))
    source.put("05.csv", b"body,stars\nx,1\n")
    found = hours.Found(workspace)
    assert found.objects == ["01.csv", "02.csv", "04.csv"]
    assert {each["object"]: each["reason"] for each in refused(workspace)}.keys() == {"03.csv", "05.csv"}
    assert "12 of 12 records had to be refused" in next(e["reason"] for e in refused(workspace))
    kept = [row for row in read_quarantine(workspace.quarantine("arrivals")) if row.origin.startswith("03.csv")]
    assert len(kept) == 12 and all(row.payload["label"] for row in kept)
    assert found.facts["objects_refused"] == 2

    assert read_all(workspace) == ["00.csv", "01.csv", "02.csv", "04.csv"]
    again = hours.Found(workspace)  # of a model without a baseline, the data that was read last is what it knows
    assert (again.facts["objects_new"], again.facts["objects_refused"], again.rows) == (0, 0, [])
    assert again.facts["refused"] == ["03.csv", "05.csv"]

    forgive(workspace, "03.csv")
    assert hours.Found(workspace).facts["objects_refused"] == 1
    source.put("03.csv", hours.hour(3))  # mended: another state of it, which nobody refused
    mended = hours.Found(workspace)
    assert mended.objects == ["03.csv"]
    assert [each["object"] for each in refused(workspace)] == ["05.csv"]
    assert read_all(workspace) == ["00.csv", "01.csv", "02.csv", "03.csv", "04.csv"]


def test_an_object_that_grew_arrives_whole_and_its_earlier_rows_are_not_there_twice(workspace, source):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    source.put("01.csv", hours.hour(1))
    source.put("02.csv", hours.hour(2))
    first = hours.Found(workspace)
    source.put("01.csv", hours.table([*good_rows(12, seed=1), *good_rows(6, seed=9)]))
    second = hours.Found(workspace)
    assert set(first.ids) < set(second.ids)
    assert (len(first.ids), len(second.ids)) == (24, 30)
    assert (second.facts["objects"], second.facts["objects_new"]) == (2, 1)


def test_what_no_decision_was_made_about_stays_new(workspace, source):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    source.put("01.csv", hours.hour(1))
    assert hours.Found(workspace).facts["objects_new"] == 1
    source.put("02.csv", hours.foreign(2))
    for _ in range(2):  # the update ends before it decides
        facts = arrivals.fn(workspace).facts
        assert (facts["objects"], facts["objects_new"], facts["objects_refused"]) == (2, 1, 1)
    hours.Found(workspace)
    assert hours.Found(workspace).facts["objects_new"] == 0


def test_what_is_known_is_what_the_live_model_was_made_of_not_what_was_read_last(workspace, source, tmp_path):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    store = store_of(workspace)
    version = version_of(store.publish(tiny.opaque_bundle(tmp_path / "bundle", "x").path))
    store.promote(version, reason="test", over=None)
    with write_artifact(tmp_path / "baseline", kind="baseline") as draft:
        shutil.copy(workspace.raw / "objects.json", draft.path)
    store.baselines.publish(tmp_path / "baseline", version=version)
    source.put("01.csv", hours.hour(1))
    assert hours.Found(workspace).objects == ["01.csv"]
    ingest.fn(workspace)  # for a challenger, which was no better
    source.put("02.csv", hours.hour(2))
    assert hours.Found(workspace).objects == ["01.csv", "02.csv"]


def test_a_stricter_suite_judges_again_what_passed(workspace, source):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    source.put("01.csv", hours.hour(1))
    assert len(hours.Found(workspace).rows) == 12
    workspace.suite.write_text(workspace.suite.read_text().replace("max_value: 2000", "max_value: 20"))
    found = hours.Found(workspace)
    assert found.rows == [] and found.facts["objects_new"] == 1


def test_stopped_at_any_judgement_and_run_again_it_finds_the_same(workspace, source, tmp_path, monkeypatch):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    for number in range(1, 5):
        source.put(f"0{number}.csv", hours.hour(number))
    source.put("02.csv", hours.foreign(2))
    for stop_at in range(1, 20):
        stop_at_judgement(stop_at, monkeypatch)
        shutil.rmtree(workspace.batches, ignore_errors=True)
        forgive(workspace, "02.csv")
        try:
            arrivals.fn(workspace)
        except KeyboardInterrupt:
            pass
        else:
            break
        monkeypatch.undo()
        found = hours.Found(workspace)
        assert found.objects == ["01.csv", "03.csv", "04.csv"]
        assert len(found.ids) == len(set(found.ids)) == 36
        assert [each["object"] for each in refused(workspace)] == ["02.csv"]
    assert stop_at > 4


def stop_at_judgement(number, monkeypatch):
    """From now on the process is interrupted before it judges so many batches."""
    judge, numbers = Gate._judge_batch, itertools.count(1)

    def judge_until(self, objects):
        if next(numbers) == number:
            raise KeyboardInterrupt
        return judge(self, objects)

    monkeypatch.setattr(Gate, "_judge_batch", judge_until)


@pytest.mark.slow
def test_killed_by_force_at_random_moments_it_ends_with_every_row_once(workspace, source):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    for number in range(1, 7):
        source.put(f"0{number}.csv", hours.hour(number))
    source.put("04.csv", hours.foreign(4))
    draw = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(node(workspace), cwd=hours.CODE, env=environment(PYTHONPATH=str(hours.CODE)))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=draw.uniform(1, 12))
        process.kill()
        process.wait()
    found = hours.Found(workspace)
    assert found.objects == ["01.csv", "02.csv", "03.csv", "05.csv", "06.csv"]
    assert len(found.ids) == len(set(found.ids)) == 60
    assert [each["object"] for each in refused(workspace)] == ["04.csv"]
    assert not list(workspace.batches.glob(".*"))


def node(workspace):
    return [sys.executable, "-m", "tasks.arrivals", "-C", str(workspace.root)]


def test_with_nothing_new_no_expectation_is_even_loaded(workspace, source):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    subprocess.run(node(workspace), cwd=hours.CODE, env=environment(PYTHONPATH=str(hours.CODE)), check=True)
    events = [json.loads(line) for line in workspace.events("arrivals").read_text().splitlines()]
    (modules,) = [event["modules"] for event in events if event["kind"] == "modules"]
    assert "tasks/judge.py" not in modules and "noria/data/gate.py" in modules


def test_an_intake_in_the_folder_of_the_source_is_no_part_of_it(tmp_path):
    workspace = hours.make(tmp_path / "ws", "sources")
    (workspace.root / "sources" / "00.csv").write_bytes(hours.hour(0))
    (workspace.intake / "feedback").mkdir()
    (workspace.intake / "feedback" / "notes.csv").write_bytes(b"no,table\n")
    assert read_all(workspace) == ["00.csv"]


@pytest.mark.slow
def test_objects_of_a_bucket_are_fetched_once_for_each_state(tmp_path, monkeypatch, caplog):
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        bucket = s3fs.S3FileSystem(skip_instance_cache=True)
        bucket.mkdir("arriving")
        workspace = hours.make(tmp_path / "ws", "s3://arriving/reviews")
        bucket.pipe("arriving/reviews/00.csv", hours.hour(0, 200))
        assert read_all(workspace) == ["00.csv"]
        assert hours.Found(workspace).facts["objects_new"] == 0  # an empty hour

        bucket.pipe("arriving/reviews/01.csv", hours.hour(1))
        bucket.pipe("arriving/reviews/02.csv", hours.foreign(2))
        fetched = fetches(monkeypatch)
        assert hours.Found(workspace).objects == ["01.csv"]
        assert sorted(fetched) == ["arriving/reviews/01.csv", "arriving/reviews/02.csv"]
        fetched.clear()
        assert read_all(workspace) == ["00.csv", "01.csv"]
        assert fetched == []

        bucket.pipe("arriving/reviews/02.csv", hours.hour(2))
        bucket.rm("arriving/reviews/01.csv")
        assert hours.Found(workspace).objects == ["02.csv"]
        assert fetched == ["arriving/reviews/02.csv"]
        assert refused(workspace) == []
        assert read_all(workspace) == ["00.csv", "02.csv"]
        assert len(list(workspace.mirror.glob("*/*"))) == 2

        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(SourceError) as caught:
            arrivals.fn(workspace)
        assert "AWS_ENDPOINT_URL" in str(caught.value) and "wrong" not in str(caught.value)
    with pytest.raises(SourceUnavailable):  # nobody there: that says nothing about the objects
        arrivals.fn(workspace)
    assert refused(workspace) == []
    assert server.secret_key not in caplog.text


def fetches(monkeypatch) -> list[str]:
    """The objects whose bytes came over the network from now on."""
    seen: list[str] = []
    get = s3fs.S3FileSystem._get_file

    async def counted(self, path, target, **settings):
        seen.append(path)
        await get(self, path, target, **settings)

    monkeypatch.setattr(s3fs.S3FileSystem, "_get_file", counted)
    return seen


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("01.csv", hours.hour(1).decode().encode("utf-16"), "the header is not CSV"),
        ("01.csv.bz2", b"BZh9" + bytes(30), "Invalid data stream"),
        ("01.csv.gz", b"\x1f\x8b\x08" + bytes(7), "the source can't be read"),
    ],
)
def test_a_file_that_can_never_be_read_is_refused_and_ends_no_update(workspace, source, name, data, why):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    source.put(name, data)
    source.put("02.csv", hours.hour(2))
    found = hours.Found(workspace)
    assert found.objects == ["02.csv"]
    assert why in found.batches[name]["reasons"][0]
    assert read_all(workspace) == ["00.csv", "02.csv"]


def test_what_an_earlier_release_measured_otherwise_is_judged_again(workspace, source):
    source.put("00.csv", hours.hour(0, 200))
    ingest.fn(workspace)
    source.put("01.csv", hours.hour(1))
    before = hours.Found(workspace)
    measure = workspace.scenario.measure

    def more(rows):
        measured = measure(rows)
        return measured.append_column("num_rows_before", pa.array([0] * measured.num_rows, pa.int64()))

    workspace.__dict__["scenario"] = replace(workspace.scenario, measure=more)
    after = hours.Found(workspace)
    assert after.ids == before.ids
    assert {row["num_rows_before"] for row in after.rows} == {0}
