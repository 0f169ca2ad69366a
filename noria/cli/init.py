"""`noria init`: make a directory a workspace, or add what is missing to one."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from pathlib import Path

from noria.errors import ConfigError

_CODE = Path(__file__).resolve().parents[2]
_SAMPLE = "sources/reviews"
_LINES = (".txt", "")
"""Suffixes of sources without columns: text files, directories of them."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("init", help="make a workspace, or add what is missing to one")
    parser.add_argument("directory", nargs="?", default=".", metavar="DIR", help="the workspace (default: here)")
    parser.add_argument("--scenario", metavar="NAME", help="the kind of problem (default: text-classification)")
    parser.add_argument("--source", metavar="PATH", help="your data: a file, directory or URL (default: sample data)")


def run(args: argparse.Namespace) -> int:
    """Write what is not there yet; touch nothing that is."""
    from noria.config import read_params
    from noria.data.samples import copy_sample
    from noria.scenarios import load_scenario

    root = Path(args.directory).resolve()
    root.mkdir(parents=True, exist_ok=True)
    params = root / "params.yaml"
    if params.exists():
        scenario = str(read_params(params).get("scenario"))
        _check_same(params, given=args.scenario, found=scenario)
    else:
        scenario = load_scenario(args.scenario or "text-classification").name
    made = [
        *_write(params, _params_text(root, scenario=scenario, source=args.source)),
        *_write(root / "dvc.yaml", _dvc_text(root)),
        *(name for file in _as_here(scenario) for name in _write(root / file, (_CODE / file).read_text())),
        *_init_version_control(root),
    ]
    if args.source is None and f"path: {_SAMPLE}" in params.read_text() and not (root / _SAMPLE).exists():
        copy_sample(scenario, root / _SAMPLE)
        made.append(_SAMPLE)
    _commit_first(root)
    print(f"{root}: wrote {', '.join(made)}" if made else f"{root}: complete already")
    return 0


def _as_here(scenario: str) -> tuple[str, ...]:
    """The files that a new workspace has as the repository has them."""
    return ("params.schema.json", f"expectations/{scenario}.yaml", ".gitignore", ".dvcignore")


def _check_same(params: Path, *, given: str | None, found: str) -> None:
    if given is not None and given != found:
        raise ConfigError(
            f"this workspace is of another scenario than {given}",
            where=f"{params}: scenario: {found}",
            next_step="choose another directory, or edit params.yaml",
        )


def _write(path: Path, text: str) -> list[str]:
    if path.exists():
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return [path.name]


def _params_text(root: Path, *, scenario: str, source: str | None) -> str:
    """The repository's params.yaml with this workspace's name, scenario and source."""
    name = re.sub(r"[^a-z0-9]+", "-", root.name.lower()).strip("-") or "model"
    new = {"name": name, "scenario": scenario}
    if source is not None:
        new |= {"  path": _source_from(root, source)}
        new |= {"  label_from": "file" if Path(source).suffix in _LINES else "column"}
    text = (_CODE / "params.yaml").read_text(encoding="utf-8")
    for key, value in new.items():
        text, num_changed = re.subn(rf"(?m)^{key}: [^#\n]*?(?=\s*(#.*)?$)", f"{key}: {value}", text)
        assert num_changed == 1, key
    return text


def _source_from(root: Path, source: str) -> str:
    """A path as the workspace sees it; a URL as it is."""
    return source if "://" in source else os.path.relpath(Path(source).resolve(), root)


def _dvc_text(root: Path) -> str:
    """The repository's dvc.yaml, with the way from the workspace to the code."""
    text = (_CODE / "dvc.yaml").read_text(encoding="utf-8")
    return text.replace('code: "."', f'code: "{os.path.relpath(_CODE, root)}"')


def _init_version_control(root: Path) -> list[str]:
    """Git, unless the directory is in a repository already, and DVC."""
    made = []
    inside = subprocess.run(
        ["git", "rev-parse", "--show-prefix"], cwd=root, capture_output=True, text=True, check=False
    )
    if inside.returncode != 0:
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        made.append(".git")
    if not (root / ".dvc" / "config").exists():
        os.environ["DVC_NO_ANALYTICS"] = "1"
        from dvc.repo import Repo

        Repo.init(str(root), subdir=bool(inside.stdout.strip())).close()
        (root / ".dvc" / "config").write_text((_CODE / ".dvc" / "config").read_text())
        made.append(".dvc")
    return made


def _commit_first(root: Path) -> None:
    """Give a repository without commits its first: DVC's experiments and dvclive can't do without one."""
    git = ("git", "-c", "user.name=noria", "-c", "user.email=noria@localhost")
    if subprocess.run(
        [*git, "rev-parse", "--quiet", "--verify", "HEAD"], cwd=root, capture_output=True, check=False
    ).returncode:
        subprocess.run([*git, "add", "--all", "."], cwd=root, check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", "Make a Noria workspace"], cwd=root, check=True)
