"""What `infra/` declares, read as Compose and Kubernetes read it, and started as processes of this machine.

Only addresses are replaced: names of services and their ports by 127.0.0.1 and free ports.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from workspaces import environment

from benchmarks.services import heed_interrupts

INFRA = Path(__file__).parents[2] / "infra"
KUBERNETES = INFRA / "kubernetes"
_START_S = 240.0
_END_S = 60.0


@dataclass(frozen=True)
class Declared:
    """A process: its command, what it finds in the environment, and how it is asked whether it is well."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    checks: Sequence[Sequence[str]] = ()
    """Commands that succeed, or URLs that answer, when it is well."""


def compose_services(variables: Mapping[str, str]) -> dict[str, Declared]:
    """The services of compose.yaml, with `variables` for the env file."""
    document = yaml.safe_load((INFRA / "compose.yaml").read_text())
    services = {}
    for name, service in _interpolated(document["services"], variables).items():
        check = service.get("healthcheck", {}).get("test", [])
        assert check[:1] in ([], ["CMD"]), f"{name}: without a shell"
        command = [*_entrypoint(service), *service.get("command", ())]
        services[name] = Declared(command, service.get("environment", {}), [check[1:]] if check else [])
    return services


def kubernetes_containers(secret: Mapping[str, str], *, overlay: str = "base") -> dict[str, Declared]:
    """Every container of a base or an overlay, with `secret` for the secret `noria`."""
    config = dict(literal.split("=", 1) for literal in _kustomization("base")["configMapGenerator"][0]["literals"])
    containers = {}
    for resource in assembled(overlay):
        for container in _containers(resource):
            values = dict(config) if container.get("envFrom") else {}
            for variable in container.get("env", ()):
                values[variable["name"]] = variable.get("value") or secret[variable["valueFrom"]["secretKeyRef"]["key"]]
            entrypoint = [] if "command" in container else ["noria"]
            command = [*entrypoint, *container.get("command", ()), *container.get("args", ())]
            containers[container["name"]] = Declared(command, values, [*_probes(container)])
    return containers


def assembled(overlay: str) -> list[dict]:
    """The resources of a base or an overlay: namespace, images and patches put in, as `kustomize build` does."""
    kustomization = _kustomization(overlay)
    directory = KUBERNETES / overlay
    resources = []
    for name in kustomization["resources"]:
        if (directory / name).is_dir():
            resources += assembled((directory / name).resolve().relative_to(KUBERNETES).as_posix())
        else:
            resources += yaml.safe_load_all((directory / name).read_text())
    for patch in (yaml.safe_load((directory / each["path"]).read_text()) for each in kustomization.get("patches", ())):
        (target,) = (r for r in resources if (r["kind"], r["metadata"]["name"]) == _identity(patch))
        resources[resources.index(target)] = _merged(target, patch)
    images = {image["name"]: f"{image['newName']}:{image['newTag']}" for image in kustomization.get("images", ())}
    for resource in resources:
        if resource["kind"] != "Namespace":
            resource["metadata"]["namespace"] = kustomization["namespace"]
        for container in _containers(resource):
            container["image"] = images.get(container["image"], container["image"])
    return resources


class Addresses:
    """Names of services and their ports, each on a free port of this machine."""

    def __init__(self, **urls: str) -> None:
        """`urls` by what stands for them in a declaration: an endpoint that is outside of the stack."""
        self._urls = urls
        self._ports: dict[str, int] = {}

    def here(self, text: str) -> str:
        """A text of a declaration with its addresses replaced."""
        for declared, url in self._urls.items():
            text = text.replace(declared, url)
        text = re.sub(
            r"(?<=//)(s3|prefect|model-server|reports)(?=:)", "127.0.0.1", text.replace("0.0.0.0", "127.0.0.1")
        )
        return re.sub(r"\b(?:8333|4200|8080|8000|9464)\b", lambda port: str(self.port(port[0])), text)

    def port(self, declared: str) -> int:
        """The free port that stands for one."""
        if declared not in self._ports:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                self._ports[declared] = listening.getsockname()[1]
        return self._ports[declared]


@contextmanager
def running(declared: Declared, addresses: Addresses, *, cwd: Path, env: Mapping[str, str] | None = None) -> Iterator:
    """The process, once all its checks pass; it must end when it is told to."""
    command = [addresses.here(part) for part in declared.command]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    values = environment(**{name: addresses.here(value) for name, value in declared.environment.items()}, PATH=path)
    values |= {"PREFECT_HOME": str(cwd / "prefect-home"), "PREFECT_WORKER_WEBSERVER_PORT": str(addresses.port("8080"))}
    log = cwd / f"{command[0]}-{time.monotonic_ns()}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=values | (env or {}),
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )
    try:
        for check in declared.checks:
            _wait([addresses.here(part) for part in check], process, log)
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(_END_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(check: Sequence[str], process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while not _is_well(check):
        assert process.poll() is None, log.read_text(errors="replace")[-3_000:]
        assert time.monotonic() < until, f"{shlex.join(check)} fails: {log.read_text(errors='replace')[-3_000:]}"
        time.sleep(0.5)


def _is_well(check: Sequence[str]) -> bool:
    """What a container's own program would say; where it is not on this machine, its URL is asked."""
    if len(check) > 1 and shutil.which(check[0]):
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(check, env=environment(PATH=path), capture_output=True, timeout=60, check=False)
        return done.returncode == 0
    try:
        with urllib.request.urlopen(check[-1], timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def _interpolated(value, variables: Mapping[str, str]):
    """`${NAME:?message}` and `${NAME:-default}`, as Compose has them."""
    if isinstance(value, Mapping):
        return {key: _interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def put_in(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        return variables[name] if kind == "?" else variables.get(name, rest)

    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", put_in, value)


def _entrypoint(service: Mapping) -> Sequence[str]:
    """The service's own, or that of its image: of ours, the server's is `noria`."""
    return service.get("entrypoint") or (["noria"] if "noria-server" in service["image"] else [])


def _kustomization(overlay: str) -> dict:
    return yaml.safe_load((KUBERNETES / overlay / "kustomization.yaml").read_text())


def _containers(resource: Mapping) -> Sequence[dict]:
    return resource.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())


def _identity(resource: Mapping) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def _merged(old, patch):
    """A strategic merge: mappings key by key, containers by name, all else replaced."""
    if isinstance(old, Mapping) and isinstance(patch, Mapping):
        return {**old, **{key: _merged(old.get(key), value) for key, value in patch.items()}}
    if isinstance(old, list) and all(isinstance(item, Mapping) and "name" in item for item in [*old, *patch]):
        patches = {item["name"]: item for item in patch}
        return [_merged(item, patches.get(item["name"], {})) for item in old]
    return patch


def _probes(container: Mapping) -> Iterator[Sequence[str]]:
    """In the order in which the kubelet asks them."""
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container.get(name, {})
        if "httpGet" in probe:
            yield [f"http://127.0.0.1:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"]
        elif "exec" in probe:
            yield probe["exec"]["command"]
