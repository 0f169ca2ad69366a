"""The units of systemd: they are valid, and what they start works."""

from __future__ import annotations

import configparser
import json
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from server_process import go_live
from workspaces import change_params

from benchmarks.services import Service, answers, free_port, quiet

UNITS = sorted((Path(__file__).parents[2] / "infra" / "systemd").glob("*.service"))
BIN, HOME = "/opt/noria/.venv/bin/", "/var/lib/noria"
STRICT = {"ProtectSystem": "strict", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "User": "noria"}


def read_unit(path: Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read_string(path.read_text())
    return unit


def start_command(name: str, root: Path) -> list[str]:
    """ExecStart of a unit as it is, except for where Python and the workspace lie."""
    (path,) = (unit for unit in UNITS if unit.stem == name)
    line = read_unit(path)["Service"]["ExecStart"]
    return shlex.split(line.replace(BIN, f"{Path(sys.executable).parent}/").replace(f"{HOME}/%i", str(root)))


def asked(url: str, body: object) -> object:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.5)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_hardened_and_comes_back(path):
    service = read_unit(path)["Service"]
    assert {name: service[name] for name in STRICT} == STRICT
    assert service["Restart"] == "always"
    assert service["EnvironmentFile"] == "/etc/noria/noria.env"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd on this machine")
def test_systemd_finds_nothing_wrong(tmp_path):
    for path in UNITS:  # it wants to see the programs, too
        (tmp_path / path.name).write_text(path.read_text().replace(BIN, f"{Path(sys.executable).parent}/"))
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_what_the_units_start_works_together(workspace, tmp_path):
    live = go_live(workspace, tmp_path)
    ports = free_port(), free_port(), free_port()
    change_params(live.root, {"serve": {"port": ports[1]}})
    api = f"http://127.0.0.1:{ports[0]}/api"
    env = quiet(PREFECT_API_URL=api, PREFECT_SERVER_API_PORT=str(ports[0]), PREFECT_HOME=str(tmp_path / "prefect"))
    ready = {
        "noria-server": lambda: answers(f"{api}/health"),
        "noria-serve@": lambda: answers(f"http://127.0.0.1:{ports[1]}/readyz"),
        "noria-reports@": lambda: answers(f"http://127.0.0.1:{ports[2]}/metrics"),
    }
    services: list[Service] = []
    try:
        for name in ("noria-server", "noria-watch", "noria-worker", "noria-serve@", "noria-reports@"):
            command = start_command(name, live.root)
            command += ["--port", str(ports[2])] if name == "noria-reports@" else []  # others have theirs from settings
            services.append(Service(name, command, directory=tmp_path, env=env, is_ready=ready.get(name, lambda: True)))
            services[-1].start()
            if name == "noria-server":
                asked(f"{api}/work_pools/", {"name": "noria", "type": "process"})
                asked(f"{api}/work_pools/noria/queues", {"name": "cpu"})
        wait_for(lambda: asked(f"{api}/work_pools/noria/workers/filter", {}))
        flow = asked(f"{api}/flows/", {"name": "pipeline"})["id"]
        running = {"type": "RUNNING", "name": "Running"}
        labels = {"noria.host": socket.gethostname(), "noria.pid": 2**22}  # above every pid
        run = asked(f"{api}/flow_runs/", {"flow_id": flow, "state": running, "labels": labels})["id"]
        only = {"flow_runs": {"id": {"any_": [run]}}}
        wait_for(lambda: asked(f"{api}/flow_runs/filter", only)[0]["state"]["type"] == "CRASHED", 90)
        for service in reversed(services):
            service.terminate(within_s=60)
    finally:
        for service in services:
            service.end()
