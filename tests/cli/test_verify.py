"""`noria verify` on a model store: versions and checkpoints."""

from __future__ import annotations

import json

from workspaces import noria

from noria.errors import StoreError
from noria.serving.store import store_of
from tasks.deploy import deploy


def test_verify_reads_every_checkpoint_of_the_store(workspace):
    deploy.fn(workspace)
    done = noria("verify", "--json", cwd=workspace.root)
    verified = json.loads(done.stdout)["verified"]
    assert (verified["versions"], verified["checkpoints"]) == (1, 1)
    store = store_of(workspace)
    (digest,) = store.checkpoints.names()
    with (store.checkpoints.fetch(digest).path / "model.safetensors").open("ab") as file:
        file.write(b"more")
    done = noria("verify", cwd=workspace.root)
    assert done.returncode == StoreError.exit_code
    assert "the checkpoint can't be trusted" in done.stderr
