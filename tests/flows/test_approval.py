"""A person is asked once, however many updates come round meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect import flow, get_client
from prefect.states import Completed, Paused
from prefect.testing.utilities import prefect_test_harness

from flows.approval import is_asked
from noria.workspace import Workspace

pytestmark = pytest.mark.slow


@flow(name="evaluate-and-update")
def asks(directory: str) -> bool:
    return is_asked(Workspace.at(directory))


def test_who_comes_while_another_run_waits_for_a_person_knows(tmp_path: Path):
    here, other = str(tmp_path), str(tmp_path / "other")
    with prefect_test_harness(), get_client(sync_client=True) as client:
        run = client.create_flow_run(asks, parameters={"directory": here}, state=Paused(timeout_seconds=600))
        assert (asks(here), asks(other)) == (True, False)
        client.set_flow_run_state(run.id, Completed(), force=True)
        assert not asks(here)
