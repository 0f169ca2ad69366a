"""What a command needs to run a flow itself: a Prefect server, no words of Prefect's, and no idle seconds."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flows.server import prefect_api
from noria.workspace import Workspace


@contextmanager
def ready_to_run(workspace: Workspace) -> Iterator[None]:
    """Import and call flows inside the block; errors come back as exceptions.

    Raises
    ------
    ConfigError
        When PREFECT_API_URL names a server that does not answer.
    """
    gc.disable()  # nothing that is imported now is garbage
    try:
        with prefect_api(workspace):
            from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

            import tasks.prefect_task  # noqa: F401

            logging.getLogger("prefect").propagate = False  # it tells its server
            gc.freeze()
            gc.enable()
            # its heart beats in steps of a second, for one of which each run would wait at its end
            with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
                yield
    finally:
        gc.enable()
