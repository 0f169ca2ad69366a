"""Services for tests and benchmarks are started as systemd and containers would start them."""

from __future__ import annotations

import signal
import sys

from benchmarks.services import Service

PROGRAM = """
import signal
assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
print("heeds interrupts", flush=True)
signal.pause()
"""


def test_a_service_heeds_interrupts_also_where_a_script_has_all_that_it_starts_ignore_them(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    log, command = tmp_path / "one.log", [sys.executable, "-c", PROGRAM]
    service = Service("one", command, directory=tmp_path, is_ready=lambda: "heeds" in log.read_text())
    try:
        service.start()
    finally:
        signal.signal(signal.SIGINT, before)
        service.end()
