"""`noria explain`: which tokens made the trained model answer so, as a table and a picture."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from noria.cli.options import add_directory, add_json, print_json

if TYPE_CHECKING:
    from noria.explain.explanation import Explanation
    from noria.workspace import Workspace


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("explain", help="show what made the trained model answer so")
    parser.add_argument("input", metavar="TEXT", help="one input")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.png",
        help="where to draw contributions and attention maps (default: reports/explanation.png; with --json: nowhere)",
    )
    add_directory(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Explain with the checkpoint of the last training, which need not be what is live."""
    from noria.artifacts import MANIFEST
    from noria.errors import ArtifactError
    from noria.explain import load_explainer
    from noria.workspace import Workspace

    workspace = Workspace.at(args.directory)
    explain = load_explainer(workspace.scenario.name)
    request = _request(workspace, args.input)
    picture = _picture(args, workspace)
    if not (workspace.checkpoint / MANIFEST).exists():
        raise ArtifactError(
            "nothing has been trained here yet",
            where=str(workspace.checkpoint),
            expected="the checkpoint of a training: a bundle has no attention to show",
            next_step="`noria run` trains one",
        )
    from noria.training.checkpoint import load_trained

    explanation = explain(load_trained(workspace.checkpoint, scenario=workspace.scenario), request)
    if picture is not None:
        _draw(explanation, picture)
    if args.json:
        print_json({**explanation.as_json(), "picture": picture})
    else:
        _show(explanation)
        print(f"picture: {picture}")
    return 0


def _request(workspace: Workspace, text: str) -> Mapping[str, object]:
    """The text as the first field of the scenario's request."""
    from pydantic import ValidationError

    from noria.errors import SourceError

    model = workspace.scenario.request
    try:
        return model.model_validate({next(iter(model.model_fields)): text}).model_dump()
    except ValidationError as error:
        raise SourceError(
            f"not a request: {error.errors()[0]['msg']}", where="the input", expected="one text"
        ) from error


def _picture(args: argparse.Namespace, workspace: Workspace) -> Path | None:
    """Where to draw: said early, so that a wrong name costs no work."""
    from noria.errors import SourceError

    if args.out is None:
        return None if args.json else workspace.root / "reports" / "explanation.png"
    out: Path = args.out
    if out.suffix.lower() != ".png" or out.is_dir():
        raise SourceError("the picture is a PNG", where=f"--out {out}", expected="a file name that ends in .png")
    return out


def _draw(explanation: Explanation, picture: Path) -> None:
    from noria.errors import SourceError
    from noria.explain.pictures import draw_explanation

    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_explanation(explanation, picture)
    except OSError as error:
        raise SourceError(f"the picture can't be written: {error.strerror}", where=str(picture)) from error


def _show(explanation: Explanation) -> None:
    """A table in the order of the text, tokens last: they are of any width."""
    print(f"{explanation.label}\t{explanation.scores[explanation.label]:.1%}")
    rest = f" {explanation.rest:+.3f} from outside of them" if abs(explanation.rest) >= 0.0005 else ""
    added = sum(token.contribution for token in explanation.tokens)
    name = "log-odds" if len(explanation.scores) == 2 else "logit less mean of others"
    print(f"{name} {explanation.score:+.3f} = {explanation.base:+.3f} without any token {added:+.3f} from tokens{rest}")
    parts = list(explanation.tokens[0].parts)
    print("   #   together" + "".join(f"{part:>13}" for part in parts) + "  rollout  token")
    for number, token in enumerate(explanation.tokens):
        cells = "".join(f"{token.parts[part]:>+13.3f}" for part in parts)
        rollout = "" if token.rollout is None else f"{token.rollout:.3f}"
        print(f"{number:>4}{token.contribution:>+11.3f}{cells}{rollout:>9}  {token.text}")
