"""What the documentation in a package's source says: functions, their signatures, and the sections of docstrings.

Sources are parsed, never imported or run. Sections are those of numpydoc
(https://numpydoc.readthedocs.io/en/latest/format.html); other docstrings are prose.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LEFT_OUT = {"test", "tests", "testing", "idlelib", "lib2to3", "conftest", "setup", "benchmarks", "site-packages"}
_TITLE = re.compile(r"^([A-Z][A-Za-z ]+)\n-{3,}\s*$", re.MULTILINE)
_ITEM = re.compile(r"^(\S[^\n:]*?)(?: *: *([^\n]*))?\n((?:[ \t]+[^\n]*\n|\n(?=[ \t]))*)", re.MULTILINE)
_MARKUP = re.compile(r"(?::[a-z:]+:)?`[~!]?\.?([^`<>]+)`_?|``([^`]+)``|\*\*([^*\n]+)\*\*|(?<![\w*])\*(\w+)\*")
_REFERENCE = re.compile(r" ?\[\w+\]_")
_SENTENCE = re.compile(r"(?:[^.]|\.(?!\s|$))+\.(?=\s|$)")
_ADDED = re.compile(r"\.\. versionadded:: *(\d[\w.]*)")
_TEMPLATE = re.compile(r"%\(\w+\)s|\{\w+\}\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Item:
    """A parameter, a result or an exception: name, type and description, "" where there is none."""

    name: str
    type: str
    text: str


@dataclass(frozen=True)
class Documented:
    """A public function, method or class.

    Attributes
    ----------
    module:
        Where it is defined.
    name:
        As it is called, without private modules.
    parameters:
        Name -> default as it is written, "" without one.
    prose:
        The paragraphs before the first section.
    sections:
        Items by title: Parameters, Returns, Yields, Raises.
    added:
        The version that brought it, "" where nobody says.
    """

    module: str
    name: str
    kind: str
    parameters: dict[str, str]
    bases: tuple[str, ...]
    prose: tuple[str, ...]
    sections: dict[str, tuple[Item, ...]]
    added: str


def documented_in(package: Path, *, name: str) -> Iterator[Documented]:
    """Everything public that has a docstring, file by file, in the order of names."""
    for path in sorted(package.rglob("*.py")) if package.is_dir() else [package]:
        parts = path.relative_to(package).with_suffix("").parts if package.is_dir() else ()
        if _LEFT_OUT & set(parts) or any(part.startswith("test_") for part in parts):
            continue
        module = ".".join([name, *parts]).removesuffix(".__init__")
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue  # a template, or a file for another Python
        public = ".".join(part for part in module.split(".") if not part.startswith("_"))
        if public:
            yield from _members(tree.body, module=module, prefix=public)


def _members(body: list[ast.stmt], *, module: str, prefix: str) -> Iterator[Documented]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        found = _documented(node, module=module, name=name)
        if found is not None:
            yield found
        if isinstance(node, ast.ClassDef):
            yield from _members(node.body, module=module, prefix=name)


def _documented(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, *, module: str, name: str
) -> Documented | None:
    docstring = ast.get_docstring(node, clean=True)
    if not docstring or not docstring.isascii() or _TEMPLATE.search(docstring) or "\\" in docstring:
        return None
    head, sections = _sections(docstring)
    added = _ADDED.search(docstring)
    prose = tuple(plain(part) for part in re.split(r"\n\s*\n", head) if _is_prose(part))
    if not prose:
        return None
    is_class = isinstance(node, ast.ClassDef)
    maker = next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
    function = maker if isinstance(node, ast.ClassDef) else node
    return Documented(
        module=module,
        name=name,
        kind="class" if is_class else "function",
        parameters=_parameters(function) if function is not None else {},
        bases=tuple(ast.unparse(base) for base in node.bases) if isinstance(node, ast.ClassDef) else (),
        prose=prose,
        sections=sections,
        added=added[1].rstrip(".") if added else "",
    )


def _is_prose(paragraph: str) -> bool:
    return not paragraph.lstrip().startswith((">>>", "..", "|", "+-", "=", "-", "*", "::")) and bool(paragraph.strip())


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, str]:
    given = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(given) - len(node.args.defaults))
    pairs = [*zip(given, [*defaults, *node.args.defaults], strict=True)]
    pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    found = {argument.arg: ast.unparse(default) if default is not None else "" for argument, default in pairs}
    return {name: default for name, default in found.items() if name not in ("self", "cls")}


def _sections(docstring: str) -> tuple[str, dict[str, tuple[Item, ...]]]:
    """What stands before the first section, and the items of those that have items."""
    parts = _TITLE.split(docstring)
    titled = zip(parts[1::2], parts[2::2], strict=True)
    sections = {title: _items(text) for title, text in titled if title in ("Parameters", "Returns", "Yields", "Raises")}
    return parts[0], {title: items for title, items in sections.items() if items}


def _items(text: str) -> tuple[Item, ...]:
    found = []
    for name, type, description in _ITEM.findall(text.strip("\n") + "\n"):
        paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(description)) if description.strip() else [""]
        first = plain(paragraphs[0]) if _is_prose(paragraphs[0]) else ""
        found.append(Item(plain(name), plain(type), first))
    return tuple(item for item in found if len(item.name) < 80)


def plain(text: str) -> str:
    """Without markup, on one line."""
    bare = _MARKUP.sub(lambda match: next(group for group in match.groups() if group), text)
    return _REFERENCE.sub("", " ".join(bare.split()))


def first_sentence(text: str) -> str:
    """Up to the first full stop, without it; all of it where there is none."""
    match = _SENTENCE.match(text)
    return (match[0][:-1] if match else text).strip()
