"""`noria init`: make a directory a workspace, or add what is missing to one."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

from noria.errors import ConfigError, SourceError

_CODE = Path(__file__).resolve().parents[2]
_WORKSPACES = _CODE / "workspaces"
"""What a workspace of a scenario has otherwise than the repository: `NAME/params.yaml`, `NAME/code.yaml`."""
_SAMPLES = "sources/"
_PATTERN = "  label_from: pattern"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("init", help="make a workspace, or add what is missing to one")
    parser.add_argument("directory", nargs="?", default=".", metavar="DIR", help="the workspace (default: here)")
    parser.add_argument("--scenario", metavar="NAME", help="the kind of problem (default: text-classification)")
    parser.add_argument("--source", metavar="PATH", help="your data: a file, directory or URL (default: sample data)")


def run(args: argparse.Namespace) -> int:
    """Write what is not there yet; touch nothing that is."""
    from noria.config import read_params
    from noria.data.intake import make_intake
    from noria.data.sources import INTAKE
    from noria.scenarios import load_scenario
    from noria.workspace import Workspace

    root = Path(args.directory).resolve()
    params = root / "params.yaml"
    made = []
    if params.exists():
        values = read_params(params)
        scenario = str(values.get("scenario"))
        _check_same(params, "scenario", given=args.scenario, found=scenario)
        _check_same(params, "source", given=_source_from(root, args.source), found=_path_in(values))
    else:
        scenario = load_scenario(args.scenario or "text-classification").name
        made += _write(params, _params_text(root, scenario=scenario, source=args.source))
    ours = ("params.yaml", "dvc.yaml", "prefect.yaml", *_as_here(scenario))
    made += _write(root / "dvc.yaml", _dvc_text(root, scenario))
    made += _write(root / "prefect.yaml", _deployments_text(root))
    made += [name for file in _as_here(scenario) for name in _write(root / file, (_CODE / file).read_text())]
    made += _add_sections(params)
    made += _init_version_control(root)
    if not Workspace.at(root).intake.exists():
        make_intake(root)
        made.append(INTAKE)
    source = _path_in(read_params(params))
    if source.startswith(_SAMPLES) and not (root / source).exists():
        load_scenario(scenario).sample(root / source)
        made.append(source)
    _commit_first(root, [*ours, ".dvc"])
    print(f"{root}: wrote {', '.join(made)}" if made else f"{root}: complete already")
    return 0


def _as_here(scenario: str) -> tuple[str, ...]:
    """The files that a new workspace has as the repository has them."""
    return ("params.schema.json", f"expectations/{scenario}.yaml", ".gitignore", ".dvcignore")


def _check_same(params: Path, key: str, *, given: str | None, found: str) -> None:
    if given is not None and given != found:
        raise ConfigError(
            f"this workspace has another {key} than {given}",
            where=f"{params}: {key}: {found}",
            next_step="choose another directory, or edit params.yaml",
        )


def _path_in(values: dict[str, object]) -> str:
    source = values.get("source")
    return str(source.get("path")) if isinstance(source, dict) else ""


def _write(path: Path, text: str) -> list[str]:
    if path.exists():
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return [path.name]


def _params_text(root: Path, *, scenario: str, source: str | None) -> str:
    """The scenario's params.yaml with this workspace's name and source."""
    name = re.sub(r"[^a-z0-9]+", "-", root.name.lower()).strip("-") or "model"
    own = _WORKSPACES / scenario / "params.yaml"
    text = (own if own.exists() else _CODE / "params.yaml").read_text(encoding="utf-8")
    new: dict[str, str | None] = {"name": name, "scenario": scenario}
    if f"\nscenario: {scenario}\n" not in text:  # the repository's own file, for a scenario that has none yet
        new |= {"  path": f"{_SAMPLES}{scenario}", "  label_from": "column"}
    if source is not None:
        new["  path"] = str(_source_from(root, source))
        if "  label_from: " in text:
            label_from = new["  label_from"] = _label_from(source, named="pattern" if _PATTERN in text else "directory")
            if "  format: " in text:
                new["  format"] = "media" if label_from == "directory" else "auto"
        if "  group_by: " in text:  # which suits the sample data; a few groups may all fall on one side
            new["  group_by"] = None
    for key, value in new.items():
        (written,) = re.finditer(rf"(?m)^{key}: [^#\n]*?(?=\s*(#.*)?$)", text)
        text = f"{text[: written.start()]}{key}: {_scalar(value)}{text[written.end() :]}"
    return text


def _scalar(value: str | None) -> str:
    """Text as YAML has it: in quotes (JSON's are YAML's) where it would be taken for something else."""
    import yaml

    if value is None:
        return "null"
    is_plain = re.fullmatch(r"[\w./][\w./:-]*", value) and yaml.safe_load(value) == value
    return value if is_plain else json.dumps(value, ensure_ascii=False)


def _source_from(root: Path, source: str | None) -> str | None:
    """A path as the workspace sees it; a URL as it is."""
    return source if source is None or "://" in source else os.path.relpath(Path(source).resolve(), root)


def _label_from(source: str, *, named: str) -> str:
    """Where the label is: files of text have no columns, so there it is the file's name, or its directory's.

    Media files without a table that describes them say it as `named` tells.
    """
    from noria.config import SourceConfig
    from noria.data.sources import find_files, has_media

    if "://" in source:
        return "file" if source.endswith(".txt") else "column"
    place = SourceConfig(path=str(Path(source).resolve()))
    try:
        files = find_files(place, base="")
    except SourceError:
        if has_media(place, base=""):
            return named
        raise
    if all(file.format == "text" for file in files) and has_media(place, base=""):
        return named
    if any(file.format != "text" for file in files):
        return "column"
    return "directory" if all("/" in file.name for file in files) else "file"


def _add_sections(params: Path) -> list[str]:
    """Add to params.yaml the sections that DVC needs to see, at their defaults."""
    from noria.config import Config
    from noria.preflight import unwritten_sections
    from noria.workspace import Workspace

    fields = {name: Config.model_fields[name] for name in unwritten_sections(Workspace.at(params.parent))}
    added = {name: field.default for name, field in fields.items() if not field.is_required()}
    if not added:
        return []
    lines = [f"{name}: {value if isinstance(value, int) else '{}'}\n" for name, value in added.items()]
    params.write_text(params.read_text(encoding="utf-8").rstrip() + "\n" + "".join(lines), encoding="utf-8")
    return [f"{', '.join(added)} in params.yaml"]


def _dvc_text(root: Path, scenario: str) -> str:
    """The repository's dvc.yaml, with the code that the scenario's stages use, and the way there."""
    import yaml

    from noria.stage_code import with_code

    text = (_CODE / "dvc.yaml").read_text(encoding="utf-8")
    own = _WORKSPACES / scenario / "code.yaml"
    if own.exists():
        text = with_code(text, yaml.safe_load(own.read_text(encoding="utf-8")))
    return text.replace('code: "."', f'code: "{os.path.relpath(_CODE, root)}"')


def _deployments_text(root: Path) -> str:
    """The repository's prefect.yaml, with deployments named after the workspace's model."""
    from noria.config import read_params

    ours, own = (str(read_params(path / "params.yaml")["name"]) for path in (_CODE, root))
    return (_CODE / "prefect.yaml").read_text(encoding="utf-8").replace(f"- name: {ours}\n", f"- name: {own}\n")


def _init_version_control(root: Path) -> list[str]:
    """Git, unless the directory is in a repository already that does not ignore it, and DVC."""
    if shutil.which("git") is None:
        raise ConfigError("git is not installed", where="PATH", next_step="install it: DVC keeps its records beside it")
    made = []
    inside = subprocess.run(
        ["git", "rev-parse", "--show-prefix"], cwd=root, capture_output=True, text=True, check=False
    )
    is_subdirectory = inside.returncode == 0 and bool(inside.stdout.strip())
    if inside.returncode != 0 or (is_subdirectory and _is_ignored(root)):
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        made.append(".git")
        is_subdirectory = False
    if not (root / ".dvc" / "config").exists():
        os.environ["DVC_NO_ANALYTICS"] = "1"
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.WARNING)  # it says to commit by hand
        Repo.init(str(root), subdir=is_subdirectory).close()
        (root / ".dvc" / "config").write_text((_CODE / ".dvc" / "config").read_text())
        made.append(".dvc")
    return made


def _is_ignored(root: Path) -> bool:
    """Whether the repository around it keeps nothing of the directory, as ours does of `demo/`."""
    return not subprocess.run(["git", "check-ignore", "--quiet", "."], cwd=root, check=False).returncode


def _commit_first(root: Path, paths: list[str]) -> None:
    """Give a repository without commits its first: DVC's experiments and dvclive can't do without one.

    Only what makes the workspace goes in, never what else lies in the directory.
    """
    git = ("git", "-c", "user.name=noria", "-c", "user.email=noria@localhost")
    if subprocess.run(
        [*git, "rev-parse", "--quiet", "--verify", "HEAD"], cwd=root, capture_output=True, check=False
    ).returncode:
        subprocess.run([*git, "add", "--", *paths], cwd=root, check=True)
        subprocess.run(
            [*git, "commit", "--quiet", "--message", "Make a Noria workspace", "--", *paths], cwd=root, check=True
        )
