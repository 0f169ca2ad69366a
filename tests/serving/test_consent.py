"""`update.approval: required`: nothing comes to the clients without a person's word on exactly that version."""

from __future__ import annotations

import pytest
import tiny

from noria.artifacts import read_artifact
from noria.serving.bundle import version_of
from noria.serving.consent import Consent, read_consent, write_consent
from noria.serving.store import store_of
from noria.workspace import Workspace
from tasks.deploy import deploy
from tasks.propose import propose
from tasks.update import update


@pytest.fixture
def challenged(workspace, tmp_path):
    """A workspace whose bundle is better than what is live, and where somebody has to approve."""
    store = store_of(workspace)
    bad = version_of(store.publish(tiny.inverted_bundle(workspace.bundle, tmp_path / "bad").path))
    store.promote(bad, reason="by mistake", over=None)
    workspace.params.write_text(workspace.params.read_text() + "update: {approval: required}\n")
    changed = Workspace.at(workspace.root)
    deploy.fn(changed)
    return changed


def test_a_proposal_changes_nothing(challenged):
    before = store_of(challenged).production()
    num_events = len(store_of(challenged).journal.events())
    proposed = propose.fn(challenged)
    assert proposed.facts["decision"] == "promote"
    assert "**promote**" in propose.summary(challenged)
    assert store_of(challenged).production() == before
    assert len(store_of(challenged).journal.events()) == num_events


@pytest.mark.parametrize(
    ("consent", "decision", "word"),
    [
        (None, "inconclusive", "nobody approved it"),
        (Consent("this", approved=True, reason="looks good"), "promote", "approved: looks good"),
        (Consent("this", approved=False, reason="not on a Friday"), "keep", "not approved: not on a Friday"),
        (Consent("this", approved=False, reason="nobody answered", answered=False), "inconclusive", "nobody answered"),
        (Consent("000000000000", approved=True, reason="another"), "inconclusive", "nobody approved it"),
    ],
)
def test_a_better_challenger_goes_live_only_with_consent_to_it(challenged, consent, decision, word):
    version, before = version_of(read_artifact(challenged.bundle)), store_of(challenged).production()
    if consent is not None:
        named = Consent(version if consent.version == "this" else consent.version, *list(vars(consent).values())[1:])
        write_consent(challenged.consent, named)
        assert read_consent(challenged.consent) == named
    assert update.fn(challenged).facts["decision"] == decision
    live = store_of(challenged).production()
    assert live.version == (version if decision == "promote" else before.version)
    assert word in store_of(challenged).journal.events()[-1].reason
