"""News reach a webhook, a mailbox and a Slack-compatible chat, and whatever goes wrong there holds nobody up."""

import json
import logging
import time

import pytest
import workspaces
from listeners import mailbox, posted, webhook

from noria.notify import ADDRESSES, notify
from noria.workspace import Workspace

SECRET = "s3cret-t0ken"
NEWS = {"title": "the gate refused\nthe data", "text": "num_chars: 3 of 9 rows <b>do</b> not\nNext: look."}


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    params = {"name": "reviews", "scenario": "text-classification", "source": {"path": "x"}}
    (tmp_path / "params.yaml").write_text(json.dumps(params))  # JSON is YAML
    return Workspace.at(tmp_path)


def test_a_webhook_a_chat_and_a_mailbox_hear_the_same(workspace, monkeypatch):
    with webhook() as hook, webhook() as chat, mailbox() as mail:
        addresses = (
            f"json://127.0.0.1:{hook.port}/{SECRET}",
            f"mmost://127.0.0.1:{chat.port}/{SECRET}",
            f"mailto://127.0.0.1:{mail.port}?from=noria@example.org&to=team@example.org",
        )
        monkeypatch.setenv(ADDRESSES, ", ".join(addresses))
        assert notify("refusal", **NEWS, workspace=workspace) == 3
    (said,) = posted(hook)
    assert (said["title"], said["type"]) == ("[reviews] the gate refused the data", "warning")
    assert said["message"] == NEWS["text"]
    ((path, body),) = chat.told
    assert SECRET in path
    assert NEWS["text"].splitlines()[-1] in json.loads(body)["text"]
    ((recipients, message),) = mail.told
    assert recipients == ["team@example.org"]
    assert message["Subject"] == "[reviews] the gate refused the data"
    assert "&lt;b&gt;do&lt;/b&gt;" in message.get_body(("html",)).get_content()


def test_what_is_not_asked_for_is_not_told(workspace, monkeypatch):
    workspaces.change_params(workspace.root, {"notify": {"kinds": ["failure"]}})
    with webhook() as hook:
        monkeypatch.setenv(ADDRESSES, f"json://127.0.0.1:{hook.port}")
        assert notify("promotion", **NEWS, workspace=Workspace.at(workspace.root)) == 0
        assert notify("failure", **NEWS, workspace=Workspace.at(workspace.root)) == 1
    assert len(hook.told) == 1


def test_what_fails_is_tried_twice_and_neither_it_nor_its_secrets_come_back(workspace, monkeypatch, caplog):
    with webhook(status=500) as broken, webhook() as hook:
        addresses = (
            f"json://user:{SECRET}@127.0.0.1:{broken.port}/{SECRET}",
            f"json://127.0.0.1:{hook.port}",
            f"nonsense://{SECRET}",
        )
        monkeypatch.setenv(ADDRESSES, ",".join(addresses))
        with caplog.at_level(logging.DEBUG):
            assert notify("failure", **NEWS, workspace=workspace) == 1
    assert (len(broken.told), len(hook.told)) == (2, 1)
    assert "1 of 3 addresses" in caplog.text
    assert SECRET not in caplog.text


def test_nobody_waits_for_an_address_that_hangs(workspace, monkeypatch):
    workspaces.change_params(workspace.root, {"notify": {"timeout_s": 0.5}})
    with webhook(slow_s=3) as slow:
        monkeypatch.setenv(ADDRESSES, f"json://127.0.0.1:{slow.port}")
        notify("call", **NEWS, workspace=Workspace.at(workspace.root))  # Apprise is imported
        begun = time.monotonic()
        assert notify("call", **NEWS, workspace=Workspace.at(workspace.root)) == 0
        assert time.monotonic() - begun < 2.5
