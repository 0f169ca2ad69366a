"""Pages as HTML: each is one file that needs nothing from elsewhere, and runs nothing."""

from __future__ import annotations

import base64
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from noria.report.parts import Bar, Code, Drawing, Link, Picture, Span, Table

_HERE = Path(__file__).parent
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What a browser may do with a page, wherever it lies (Content Security Policy)."""


def render(template: str, **values: object) -> str:
    """A page from one of the templates beside this file; everything that is put into it is escaped."""
    return _templates().get_template(template).render(policy=POLICY, **values)


def write_page(path: Path, page: str) -> Path:
    """Write a page at once, in place of an earlier one; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_bytes(page.encode("utf-8", "replace"))  # a lone surrogate of a source's broken bytes
    return draft.replace(path)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader([_HERE, _HERE.parent / "serving" / "static"]),  # the colours of the server's page
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_url"] = lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}"
    environment.filters["words"] = _words
    for kind in (Table, Picture, Drawing, Code, Bar, Span, Link):
        environment.tests[kind.__name__.lower()] = lambda value, kind=kind: isinstance(value, kind)
    return environment


def _words(text: str) -> Markup:
    """A sentence; what stands in backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
