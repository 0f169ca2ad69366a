"""What `infra/` declares is what Docker, Compose and Kubernetes understand, and safe by the rules of checkov."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from declared import INFRA, KUBERNETES, assembled
from workspaces import environment

ROOT = INFRA.parent
VALIDATORS = ROOT / ".venv-infra" / "bin"
OVERLAYS = ["base", "overlays/gpu"]
needs_validators = pytest.mark.skipif(
    not VALIDATORS.exists(), reason="the validators are not installed: `make infra` makes .venv-infra"
)


def validate(program: str, *arguments: str) -> str:
    """Standard output of a validator that finds nothing wrong."""
    environment = {**os.environ, "NO_COLOR": "1", "PATH": f"{VALIDATORS}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [VALIDATORS / program, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
    return done.stdout


@pytest.mark.slow
@needs_validators
def test_hadolint_finds_nothing_in_the_images():
    validate("hadolint", *map(str, sorted((INFRA / "images").glob("*.Dockerfile"))))


@pytest.mark.slow
@needs_validators
def test_compose_understands_its_file_once_every_secret_is_there(tmp_path):
    filled = re.sub(r"(?m)^(\w+)=$", r"\1=value", (INFRA / ".env.example").read_text())

    def check(text: str) -> None:
        (tmp_path / "env").write_text(text)
        files = ("--env-file", str(tmp_path / "env"), "-f", "infra/compose.yaml")
        validate("docker-compose", *files, "--profile", "gpu", "config", "--quiet")

    check(filled)
    for name in set(re.findall(r"(?m)^(\w+)=value$", filled)) - {"NORIA_NOTIFY"}:
        with pytest.raises(AssertionError, match=f"{name}.*set it in infra/.env"):
            check(filled.replace(f"{name}=value\n", ""))


@pytest.mark.slow
@needs_validators
def test_kubernetes_knows_every_field_and_checkov_finds_nothing(tmp_path):
    for overlay in OVERLAYS:
        (tmp_path / f"{overlay.replace('/', '-')}.yaml").write_text(yaml.safe_dump_all(assembled(overlay)))
    files = [*map(str, tmp_path.glob("*.yaml")), str(KUBERNETES / "components" / "ingress" / "ingress.yaml")]
    validate("kubernetes-validate", "--strict", "--quiet", *files)
    directories = ["-d", str(INFRA / "images"), "-d", str(tmp_path)]
    said = validate("checkov", "--config-file", str(INFRA / "checkov.yaml"), *directories)
    passed = [int(number) for number in re.findall(r"Passed checks: (\d+), Failed checks: 0", said)]
    assert len(passed) >= 2
    assert min(passed) > 50, "it has looked at the manifests and at the images"


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")
def test_manifests_are_assembled_here_as_kustomize_does(overlay):
    built = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / overlay)], capture_output=True, text=True, check=True
    ).stdout
    text = re.sub(
        r"(name: (?:noria|model-params))-[a-z0-9]{10}\b", r"\1", built
    )  # names of configurations end in their digest
    theirs = [resource for resource in yaml.safe_load_all(text) if resource["kind"] != "ConfigMap"]

    def by_name(resources):
        return {(resource["kind"], resource["metadata"]["name"]): resource for resource in resources}

    assert by_name(assembled(overlay)) == by_name(theirs)


def test_every_container_is_hardened():
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys(), name
        assert "healthcheck" in service, name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} is published beyond this machine"
        assert not re.search(r":(latest)?$", service["image"]), name


def test_compose_refuses_no_secret_and_prometheus_has_one_token_where_it_looks_for_it(tmp_path):
    document = yaml.safe_load((INFRA / "compose.yaml").read_text())
    for name, service in document["services"].items():
        for kind in ("secrets", "configs"):  # copied into the container, which a read-only root does not take
            for given in service.get(kind, ()):
                assert "file" in document[kind][given] or not service["read_only"], f"{name}: {given}"
    prometheus = document["services"]["prometheus"]
    (job,) = (
        job
        for job in yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
        if "authorization" in job
    )
    directory, _, name = job["authorization"]["credentials_file"].rpartition("/")
    assert directory in {place.split(":")[0] for place in prometheus["tmpfs"]}
    shell, option, script, *rest = (part.replace("$$", "$") for part in prometheus["entrypoint"])
    script = script.replace(directory, str(tmp_path)).replace("/bin/prometheus", "echo")
    command = [shell, option, script, *rest, *prometheus["command"]]
    done = subprocess.run(command, env={"NORIA_TOKEN": "one,another"}, capture_output=True, text=True, check=True)
    assert (tmp_path / name).read_text() == "one"
    assert done.stdout.split() == prometheus["command"]


def test_who_tells_of_runs_knows_whom():
    """A worker tells how runs end, a watch which were killed."""
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    (worker,) = (resource for resource in assembled("base") if resource["kind"] == "StatefulSet")
    containers = worker["spec"]["template"]["spec"]["containers"]
    assert all("NORIA_NOTIFY" in services[name]["environment"] for name in ("worker-cpu", "worker-gpu", "watch"))
    told = [each["name"] for each in containers if "NORIA_NOTIFY" in {variable["name"] for variable in each["env"]}]
    assert told == ["worker", "watch"]


def test_images_hold_what_they_copy_and_run_as_nobody_in_particular():
    ignored = (ROOT / ".dockerignore").read_text()
    for path in sorted((INFRA / "images").glob("*.Dockerfile")):
        text = path.read_text()
        for sources in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", text):
            for source in sources.split():
                assert (ROOT / source).exists(), f"{path.name} copies {source}"
                assert f"!{source.split('/')[0]}" in ignored or f"!{source}" in ignored, f"{source} never gets there"
        assert re.findall(r"(?m)^USER (.+)$", text) == ["10001:10001"]
        assert text.count("--require-hashes") == text.count("--requirement")


@pytest.mark.slow
def test_the_worker_s_image_holds_what_makes_a_workspace(tmp_path):
    text, image = (INFRA / "images" / "worker.Dockerfile").read_text(), tmp_path / "image"
    for sources, target in re.findall(r"(?m)^COPY (?!--from|requirements)(.+) (\S+)$", text):
        for source in (ROOT / name for name in sources.split()):
            if source.is_dir():
                shutil.copytree(source, image / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place = image / target / source.name if target.endswith("/") else image / target
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)
    command = [sys.executable, "-m", "noria.cli", "init", str(tmp_path / "workspace")]
    env = environment(PYTHONPATH=str(image))
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "- name: workspace\n" in (tmp_path / "workspace" / "prefect.yaml").read_text()


def test_the_server_s_requirements_are_those_of_the_worker_without_torch():
    def pins(name):
        return set(re.findall(r"(?m)^([a-z0-9][\w.-]*==[^ ;]+)", (ROOT / "requirements" / name).read_text()))

    assert pins("server.txt") <= pins("base.txt")
    assert not re.search(
        r"(?m)^(torch|prefect|dvc|great-expectations|onnx)==", (ROOT / "requirements/server.txt").read_text()
    )


@pytest.mark.parametrize("place", ["grafana/provisioning", "grafana/dashboards", "prometheus/prometheus.yml"])
def test_what_compose_mounts_is_there_and_names_its_services(place):
    assert (INFRA / place).exists()
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert f"./{place.removesuffix('/prometheus.yml')}" in mounted
    if place.endswith(".yml"):
        scraped = yaml.safe_load((INFRA / place).read_text())["scrape_configs"]
        targets = {
            target.split(":")[0] for job in scraped for each in job["static_configs"] for target in each["targets"]
        }
        assert targets <= services.keys()
