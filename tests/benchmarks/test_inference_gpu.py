"""The benchmark of graphs on a GPU, where there is none: everything but the card."""

import json

from benchmarks.gpu.graphs import measure


def test_every_form_that_runs_is_judged_and_timed_against_pytorch(trained, tmp_path):
    path = measure([trained.root], output=tmp_path, repeats=1, device="cpu")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    lost = {row["claim"]: row["ours"] for row in rows if row["unit"] == "fraction"}
    assert [claim.partition(" lost by ")[2].partition(" on ")[0] for claim in lost] == [
        "ONNX fp32",
        "ONNX fused",
        "ONNX fp16",
    ]
    assert list(lost.values())[:2] == [0.0, 0.0]
    speeds = [row for row in rows if row["unit"] == "rows/s"]
    assert {row["peer"] for row in speeds if row["bar"]} == {"PyTorch eager, fp32", "PyTorch eager, fp16"}
    assert {row["claim"].rpartition(" ")[2] for row in speeds} == {"1", "16", "64"}
    assert all(row["ours"] > 0 and row["theirs"] > 0 for row in speeds)
