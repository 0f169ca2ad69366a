"""`noria explain`, from the command line down."""

import json

import matplotlib.image
import pytest

from noria.cli import main

TEXT = "物流很快，质量好棒"


def test_people_get_a_table_and_a_picture(trained, capsys, tmp_path):
    out = tmp_path / "new" / "why.png"
    assert main(["explain", TEXT, "-C", str(trained.root), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    label, sure = lines[0].split("\t")
    assert label in ("neg", "pos") and sure.endswith("%")
    assert lines[2].split() == ["#", "together", "transformer", "n-grams", "rollout", "token"]
    assert "".join(line.split()[-1] for line in lines[3:-1]) == "物流很快,质量好棒"
    assert lines[-1] == f"picture: {out}"
    assert matplotlib.image.imread(out).shape[0] > 300


def test_programs_get_one_object_and_no_picture(trained, capsys):
    assert main(["explain", TEXT, "-C", str(trained.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["picture"] is None and not (trained.root / "reports" / "explanation.png").exists()
    total = found["base"] + found["rest"] + sum(token["contribution"] for token in found["tokens"])
    assert total + found["residual"] == pytest.approx(found["score"])
    assert found["tokens"][0].keys() == {"text", "start", "end", "parts", "rollout", "contribution"}
    assert max(found["scores"], key=found["scores"].get) == found["label"]


def test_before_the_first_training_the_next_step_is_named(tmp_path, capsys):
    import tiny

    workspace = tiny.make_workspace(tmp_path / "ws")
    assert main(["explain", TEXT, "-C", str(workspace.root)]) == 7
    said = capsys.readouterr().err
    assert "nothing has been trained here yet" in said and "`noria run` trains one" in said


@pytest.mark.parametrize("arguments", [[""], [TEXT, "--out", "why.jpeg"]])
def test_what_it_can_not_use_is_named_before_any_work(arguments, trained, capsys):
    assert main(["explain", *arguments, "-C", str(trained.root)]) == 3
    assert "expected:" in capsys.readouterr().err
