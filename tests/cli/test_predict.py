"""`noria predict`, `promote` and `rollback`, from the command line down."""

from __future__ import annotations

import io
import json
import sys

import pytest

from noria.cli import main
from noria.serving.bundle import version_of
from noria.serving.store import store_of


@pytest.fixture
def live(workspace):
    store = store_of(workspace)
    store.promote(version_of(store.publish(workspace.bundle)), reason="test", over=None)
    return workspace


def objects(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_text_gets_one_object(live, capsys):
    assert main(["predict", "物流很快，质量很好", "--json", "-C", str(live.root)]) == 0
    (answer,) = objects(capsys)
    assert answer.keys() == {"label", "scores", "model_version"}
    assert answer["model_version"] == store_of(live).production().version


def test_a_file_is_answered_in_input_order_whatever_its_lines_look_like(live, capsys, tmp_path, monkeypatch):
    texts = [f"{'好棒' * (i % 9 + 1)}{'差烂' * (i * 7 % 11)}" for i in range(100)]
    assert main(["predict", "--json", "-C", str(live.root), texts[3]]) == 0
    (fourth,) = objects(capsys)
    lines = [json.dumps({"text": t, "stars": 5}, ensure_ascii=i % 4 == 0) if i % 2 else t for i, t in enumerate(texts)]
    (tmp_path / "in.jsonl").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    assert main(["predict", "--file", str(tmp_path / "in.jsonl"), "--json", "-C", str(live.root)]) == 0
    answers = objects(capsys)
    assert len(answers) == 100
    assert answers[3]["label"] == fourth["label"]
    assert answers[3]["scores"] == pytest.approx(fourth["scores"], abs=0.02)  # int8: its batch moves it a little
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    assert main(["predict", "--file", "-", "--json", "-C", str(live.root)]) == 0
    assert objects(capsys) == answers


def test_people_get_a_word_and_a_number(live, capsys):
    assert main(["predict", "好棒", "-C", str(live.root)]) == 0
    label, sure = capsys.readouterr().out.split()
    assert label in ("neg", "pos")
    assert sure.endswith("%")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"text": "x"}\n{"txt": "y"}\n', "in.jsonl:2"),
        (b'{"text": \n', "in.jsonl:1"),
        (b"\xff\xfe\n", "not UTF-8"),
    ],
)
def test_a_bad_line_is_named(live, capsys, tmp_path, content, said):
    (tmp_path / "in.jsonl").write_bytes(content)
    assert main(["predict", "--file", str(tmp_path / "in.jsonl"), "-C", str(live.root)]) == 3
    assert said in capsys.readouterr().err


def test_before_the_first_promotion_the_next_step_is_named(workspace, capsys):
    assert main(["predict", "x", "-C", str(workspace.root)]) == 11
    assert "`noria run` makes and promotes one" in capsys.readouterr().err
    version = version_of(store_of(workspace).publish(workspace.bundle))
    assert main(["rollback", "-C", str(workspace.root)]) == 11
    assert f"noria promote {version}" in capsys.readouterr().err


def test_promote_and_rollback_say_what_is_live(live, capsys, tmp_path):
    import tiny

    store = store_of(live)
    first = store.production().version
    second = version_of(store.publish(tiny.inverted_bundle(live.bundle, tmp_path / "second").path))
    assert main(["promote", second, "--reason", "try it", "-C", str(live.root)]) == 0
    assert main(["promote", second, "--reason", "again", "-C", str(live.root)]) == 0
    assert main(["rollback", "--reason", "worse", "-C", str(live.root)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{second} is live, {first} was before"
    assert said[1] == f"{second} is already live"
    assert said[2] == f"{first} is live again in place of {second}"
    broken = version_of(store.publish(tiny.opaque_bundle(tmp_path / "broken", "no graph").path))
    assert main(["promote", broken, "--reason", "x", "-C", str(live.root)]) == 10  # what can't answer stays out
    assert store.production().version == first
    assert main(["promote", "ffffffffffff", "--reason", "x", "-C", str(live.root)]) == 11
    assert first in capsys.readouterr().err


def test_where_a_key_is_set_only_what_is_signed_is_asked_and_verified(live, capsys, tmp_path):
    import yaml
    from keys import key_pair

    keys = key_pair(tmp_path, "team")
    values = yaml.safe_load(live.params.read_text(encoding="utf-8"))
    values["deploy"] = {**values.get("deploy", {}), "public_key": str(keys.public)}
    live.params.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    version, root = store_of(live).production().version, str(live.root)
    assert main(["predict", "好棒", "-C", root]) == 10
    assert f"where:    {store_of(live).place(version)}" in capsys.readouterr().err
    assert main(["verify", "-C", root, "--key", str(keys.public)]) == 10
    assert main(["sign", version, "--key", str(keys.private), "-C", root]) == 0
    assert main(["predict", "好棒", "-C", root]) == 0
    assert main(["verify", "-C", root, "--key", str(keys.public)]) == 0
    assert "signed by the key's owner" in capsys.readouterr().out
