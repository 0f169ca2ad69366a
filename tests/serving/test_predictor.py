"""A bundle in ONNX Runtime: answers, golden requests, and no torch."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import httpx
import numpy as np
import pytest
import tiny
from pydantic import BaseModel, field_validator

from noria.artifacts import write_artifact
from noria.config import ServeConfig
from noria.errors import BundleError
from noria.evaluation.judged import read_validation
from noria.serving.app import create_app
from noria.serving.bundle import open_bundle, read_bundle
from noria.serving.golden import prove
from noria.serving.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(optimized) -> Predictor:
    return Predictor(open_bundle(optimized.bundle))


def test_answers_come_in_order_with_the_version(predictor, optimized):
    rows = read_validation(optimized.splits)
    answers = predictor.answer(rows)
    alone = [predictor.answer([row])[0] for row in rows[:20]]
    for answer, single in zip(answers, alone, strict=False):
        assert answer["model_version"] == predictor.version == single["model_version"]
        assert answer["label"] == max(answer["scores"], key=answer["scores"].get)
        assert answer["scores"] == pytest.approx(single["scores"], abs=0.25)  # int8 near a tie; others lie 0.9 apart
        assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert np.mean([a["label"] == row["label"] for a, row in zip(answers, rows, strict=True)]) > 0.5
    assert predictor.answer([]) == []


def test_a_bundle_answers_its_golden_requests(predictor):
    assert prove(predictor) == 7


def test_a_model_that_answers_otherwise_fails_its_golden_requests(optimized, tmp_path):
    tiny.inverted_bundle(optimized.bundle, tmp_path / "inverted")
    with pytest.raises(BundleError, match="does not answer as it did"):
        prove(Predictor(open_bundle(tmp_path / "inverted")))


def test_a_graph_that_onnx_runtime_refuses_is_a_bundle_error(tmp_path, optimized):
    bundle = open_bundle(optimized.bundle)
    tiny.opaque_bundle(tmp_path / "opaque", "no graph")
    with pytest.raises(BundleError, match="refuses the graph"):
        Predictor(replace(bundle, artifact=read_bundle(tmp_path / "opaque")))


def test_what_is_no_bundle_is_refused(optimized, tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        read_bundle(optimized.checkpoint)
    with write_artifact(tmp_path / "empty", kind="bundle"):
        pass
    with pytest.raises(BundleError, match=r"has no model\.onnx"):
        read_bundle(tmp_path / "empty")


def test_an_unknown_scenario_is_refused(tmp_path):
    with write_artifact(tmp_path / "odd", kind="bundle") as draft:
        for name in ("model.onnx", "golden.json"):
            (draft.path / name).touch()
        (draft.path / "config.json").write_text(json.dumps({"scenario": "mind-reading"}))
    with pytest.raises(BundleError, match="no scenario `mind-reading`"):
        open_bundle(tmp_path / "odd")


def test_a_whole_bundle_of_another_format_is_refused(optimized, tmp_path):
    with write_artifact(tmp_path / "old", kind="bundle") as draft:
        shutil.copytree(optimized.bundle, draft.path, dirs_exist_ok=True)
        settings = draft.path / "encoder" / "encoder.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "forgotten": 1}))
    with pytest.raises(BundleError, match="another version of Noria"):
        open_bundle(tmp_path / "old")


def test_serving_imports_no_torch(optimized):
    program = (
        "import sys; from pathlib import Path\n"
        "import noria.serving.app, noria.serving.server, noria.serving.update, noria.serving.deployment\n"
        "import noria.cli.predict, noria.cli.serve, noria.cli.promote, noria.cli.rollback\n"
        "from noria.serving.bundle import open_bundle; from noria.serving.predictor import Predictor\n"
        f"Predictor(open_bundle(Path({str(optimized.bundle)!r}))).answer([{{'text': '好'}}])\n"
        "assert not {'torch', 'prefect', 'dvc', 'onnx', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_request_that_takes_long_to_look_at_holds_up_no_other(predictor):
    is_alive = threading.Event()

    class Slow(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def _look(cls, value: str) -> str:
            assert is_alive.wait(timeout=20), "nothing else was answered meanwhile"
            return value

    class Slowly(Predictor):
        def __init__(self) -> None:
            self.bundle = replace(predictor.bundle, scenario=replace(predictor.bundle.scenario, request=Slow))
            self.encode, self.answer_encoded = predictor.encode, predictor.answer_encoded

    async def both() -> list[int]:
        app = create_app({"slow": Slowly()}, config=ServeConfig())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            asked = asyncio.create_task(client.post("/predict", json={"text": "很好"}))
            await asyncio.sleep(0.2)
            health = await client.get("/healthz")
            is_alive.set()
            return [health.status_code, (await asked).status_code]

    assert asyncio.run(both()) == [200, 200]
