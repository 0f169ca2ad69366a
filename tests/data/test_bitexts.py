"""Sources of pairs, through `ingest`: rows where there are pairs, quarantine for the rest, nothing read or expanded."""

from pathlib import Path

import pytest

from noria.config import SourceConfig
from noria.data.ingest import ingest
from noria.data.quarantine import read_quarantine
from noria.data.rows import read_rows
from noria.errors import ConfigError, SourceError
from noria.scenarios.translation import SCHEMA

EN_DE = {"source": "en", "target": "de"}


def read(base: Path, **settings: object) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs, and (origin, rule) of what was refused."""
    source = SourceConfig.model_validate({"path": ".", **settings})
    ingest(source, schema=SCHEMA, target="target", base=base / "in", raw=base / "raw", quarantine=base / "refused")
    rows = [(str(row["source"]), str(row["target"])) for row in read_rows(base / "raw")]
    return rows, [(row.origin, row.rule) for row in read_quarantine(base / "refused")]


def write(base: Path, name: str, content: str | bytes) -> None:
    path = base / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_catalogs_of_a_language_are_found_by_their_path_and_what_is_no_pair_is_kept_in_quarantine(tmp_path):
    for locale in ("de", "de_AT", "fr", "zh_CN"):
        write(tmp_path, f"{locale}/LC_MESSAGES/a.po", f'msgid "in"\nmsgstr "{locale}"\n')
    write(
        tmp_path, "po/app.de.po", '#, fuzzy\nmsgid "a"\nmsgstr "b"\n\nmsgid "c"\nmsgstr ""\n\nmsgid "x"\nmsgstr "y"\n'
    )
    rows, refused = read(tmp_path, languages={"target": "de"})
    assert rows == [("in", "de"), ("in", "de_AT"), ("x", "y")]
    assert refused == [("po/app.de.po:2", "fuzzy"), ("po/app.de.po:5", "untranslated")]
    assert len(read(tmp_path)[0]) == 5


def test_a_broken_byte_costs_its_entry_alone(tmp_path):
    write(tmp_path, "a.po", b'msgid "a"\nmsgstr "\xff"\n\nmsgid "b"\nmsgstr "\xc3\xa4"\n')
    assert read(tmp_path) == ([("b", "ä")], [("a.po:1", "invalid_encoding")])


TMX = """<?xml version="1.0"?><!DOCTYPE tmx SYSTEM "tmx14.dtd"><tmx version="1.4"><body>
<tu><tuv xml:lang="en-US"><seg>One <bpt i="1">&lt;b&gt;</bpt>bold<ept i="1">&lt;/b&gt;</ept></seg></tuv>
<tuv xml:lang="de-DE"><seg>Ein <bpt i="1">&lt;b&gt;</bpt>fettes<ept i="1">&lt;/b&gt;</ept></seg></tuv></tu>
<tu><tuv xml:lang="fr"><seg>un</seg></tuv><tuv xml:lang="de"><seg>eins</seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>Two</seg></tuv><tuv xml:lang="de"><seg>Zwei</seg></tuv></tu>"""


def test_units_of_a_translation_memory_are_read_by_language(tmp_path):
    write(tmp_path, "a.tmx", TMX + "</body></tmx>")
    rows, refused = read(tmp_path, languages=EN_DE)
    assert rows == [("One <b>bold</b>", "Ein <b>fettes</b>"), ("Two", "Zwei")]
    assert refused == [("a.tmx:2", "no_pair")]


def test_a_file_that_is_cut_off_gives_what_stands_before(tmp_path):
    write(tmp_path, "a.tmx", TMX)
    rows, refused = read(tmp_path, languages=EN_DE)
    assert len(rows) == 2 and refused == [("a.tmx:2", "no_pair"), ("a.tmx:4", "malformed_xml")]


def test_xliff_of_both_versions_keeps_what_stands_for_something_else(tmp_path):
    unit = '<trans-unit id="1"><source>Press <x id="1"/> now</source><target>Jetzt <x id="1"/></target></trans-unit>'
    empty = '<trans-unit id="2"><source>New</source></trans-unit>'
    write(tmp_path, "a.xlf", f'<xliff xmlns="urn:oasis:names:tc:xliff:document:1.2"><file>{unit}{empty}</file></xliff>')
    segment = "<segment><source>Yes</source><target>Ja</target></segment>"
    write(tmp_path, "b.xliff", f"<xliff><file><unit>{segment}</unit></file></xliff>")
    rows, refused = read(tmp_path)
    assert rows == [("Press {x1} now", "Jetzt {x1}"), ("Yes", "Ja")]
    assert refused == [("a.xlf:2", "no_pair")]


@pytest.mark.parametrize(
    "declared",
    [
        '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">',
        '<!ENTITY b SYSTEM "file:///etc/passwd">',
        '<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd">%p;',
    ],
)
def test_entities_are_neither_expanded_nor_read(tmp_path, declared):
    unit = "<segment><source>&b;</source><target>x</target></segment>"
    write(tmp_path, "bad.xlf", f"<!DOCTYPE x [{declared}]><xliff>{unit}</xliff>")
    write(tmp_path, "good.xlf", "<xliff><segment><source>Yes</source><target>Ja</target></segment></xliff>")
    assert read(tmp_path) == ([("Yes", "Ja")], [("bad.xlf:1", "unsafe_xml")])


def test_two_files_are_read_side_by_side(tmp_path):
    write(tmp_path, "news.en", "one\n\ntwo\n" + "x" * 2_000 + "\nthree\n")
    write(tmp_path, "news.de", b"eins\n\nzwei\nlang\ndrei \xff\n")
    rows, refused = read(tmp_path, languages=EN_DE, max_row_bytes=1_000)
    assert rows == [("one", "eins"), ("two", "zwei")]
    assert refused == [("news.en:4", "too_long"), ("news.en:5", "invalid_encoding")]


def test_files_of_unequal_length_are_refused_with_the_line(tmp_path):
    write(tmp_path, "news.en", "one\ntwo\n")
    write(tmp_path, "news.de", "eins\n")
    with pytest.raises(SourceError, match=r"news\.de ends at line 1"):
        read(tmp_path, languages=EN_DE)


def test_a_scenario_of_other_columns_is_told_so(tmp_path):
    write(tmp_path, "a.po", 'msgid "a"\nmsgstr "b"\n')
    with pytest.raises(ConfigError, match="pairs of `source` and `target`"):
        read(tmp_path, carry=["context"])
