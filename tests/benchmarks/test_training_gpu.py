"""The benchmark on a GPU runs from a plain copy of the repository, in a Python that has little."""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.gpu.race import Race
from benchmarks.gpu.rows import loss_rows, seconds_to
from benchmarks.peers.contender import Contender, Measured
from benchmarks.peers.settings import Record
from benchmarks.table import _verdict
from benchmarks.workloads.translation import write_translation

REPOSITORY = Path(__file__).parent.parent.parent
WHEELS = ("pydantic", "pydantic_core", "annotated_types", "typing_inspection")
ABSENT = (*WHEELS, "ftfy", "snownlp", "prefect", "dvc", "dvclive", "great_expectations", "optuna", "onnx", "noria")
TRAINER = all(importlib.util.find_spec(name) for name in ("transformers", "accelerate"))


@pytest.fixture
def host(tmp_path):
    """The Python of a bare host: the packages of this one, but for those that such a host lacks."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "host")], check=True)
    (packages,) = (tmp_path / "host").glob("lib/python*/site-packages")
    (tmp_path / "wheels").mkdir()
    for path in Path(next(p for p in sys.path if p.endswith("site-packages"))).iterdir():
        name = path.name.removeprefix("__editable__").lstrip("._").partition("-")[0].partition(".")[0].lower()
        if name in WHEELS and path.is_dir():
            with zipfile.ZipFile(tmp_path / "wheels" / f"{path.name}.whl", "w") as archive:
                for file in path.rglob("*"):
                    archive.write(file, file.relative_to(path.parent))
        if not name.startswith(ABSENT) and not path.name.startswith("__editable__") and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    return tmp_path / "host" / "bin" / "python"


@pytest.fixture
def copy(tmp_path):
    """A plain copy, and a translation workload beside it."""
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("benchmarks", "noria"):
        shutil.copytree(REPOSITORY / folder, tmp_path / "copy" / folder, ignore=ignored)
    catalog = tmp_path / "de.po"
    entries = (
        f'msgid "Open page {i} of book {i % 7}"\nmsgstr "Seite {i} von Buch {i % 7} öffnen"\n' for i in range(400)
    )
    catalog.write_text("\n".join(entries), encoding="utf-8")
    write_translation(tmp_path / "workloads" / "translation", tiny=True, catalogs=[catalog])
    return tmp_path / "copy"


def run(host, copy, *arguments):
    command = [str(host), "-m", "benchmarks.training_gpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=800, cwd=copy)


@pytest.mark.slow
def test_every_stage_runs_on_a_bare_host_with_the_wheels_brought_along(host, copy, tmp_path):
    given = ("--wheels", tmp_path / "wheels", "--workloads", tmp_path / "workloads", "--output", tmp_path / "results")
    done = run(host, copy, "--tiny", *given)
    assert done.returncode == 0, done.stderr + done.stdout
    results = json.loads((tmp_path / "results" / "training_gpu.json").read_text(encoding="utf-8"))
    assert results["machine"]["gpu"]
    found = {(row["claim"].partition(":")[0], row["peer"]) for row in results["rows"]}
    trainer = {("decoder", "Hugging Face Trainer"), ("encoder-decoder", "Hugging Face Trainer")} if TRAINER else set()
    loop = {("decoder", "nanoGPT-style loop"), ("decoder-loss", "nanoGPT-style loop")}
    assert found >= loop | {("encoder-decoder", "tutorial loop")} | trainer
    assert ("transformers and accelerate are not installed" in done.stdout) is not TRAINER
    assert all(row["repeats"] == 2 for row in results["rows"])
    recorded = (REPOSITORY / "benchmarks" / "results" / "training_gpu.json").read_bytes()
    assert (copy / "benchmarks" / "results" / "training_gpu.json").read_bytes() == recorded  # tiny runs prove nothing


@pytest.mark.slow
def test_a_host_without_pydantic_is_told_what_to_download(host, copy):
    done = run(host, copy, "--tiny")
    assert done.returncode == 2
    assert "pip download --dest wheels" in done.stderr
    assert "pydantic_core is compiled" in done.stderr


def record(*, curve, warmup_seconds, seconds=9.0):
    return Record(
        peer="any",
        work="language-modelling",
        real_tokens=900,
        target_tokens=900,
        seconds=seconds,
        steps=9,
        parameters=1,
        curve=curve,
        settings={"num_warmup_steps": 1},
        warmup_seconds=warmup_seconds,
    )


def measured(name, *records):
    return Measured(Contender(name, "any"), records)


def test_time_to_a_loss_is_told_with_and_without_compiling():
    ours = measured("Noria (any)", record(curve=[(33.0, 3.0), (36.0, 2.0)], warmup_seconds=30.0))
    theirs = measured("loop (any)", record(curve=[(60.0, 3.0), (64.0, 2.5)], warmup_seconds=54.0))
    without, inside = loss_rows(ours, theirs)
    assert (without.ours, without.theirs, without.bar) == (7.0, 11.0, 0.6)
    assert (inside.ours, inside.theirs, inside.bar) == (36.0, 64.0, None)


def test_a_loss_that_is_not_reached_is_told_so():
    ours = measured("Noria (any)", record(curve=[(33.0, 3.0)], warmup_seconds=30.0))
    theirs = measured("loop (any)", record(curve=[(64.0, 2.5)], warmup_seconds=54.0))
    assert seconds_to(ours, 2.5) is None
    rows = loss_rows(ours, theirs)
    assert all("NOT REACHED" in row.claim and row.ratio is None for row in rows)
    assert _verdict({**asdict(rows[0]), "ratio": rows[0].ratio}) == "**missed**"


def test_a_stage_in_which_nobody_ran_costs_no_later_one(tmp_path):
    race = Race(tmp_path, deadline=time.monotonic() - 1, repeats=2)
    contender = Contender("Noria (any)", "benchmarks.peers.noria_training")
    heard = []
    race.finish([(contender,)], best=lambda candidates: candidates[0], tell=heard.append)
    assert heard == []
