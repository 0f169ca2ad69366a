"""Catalogs: what is an entry, what is none, and that hostile bytes end in quarantine."""

import struct

import pytest

from noria.data.gettext import read_mo, read_po
from noria.errors import SourceError

PO = r"""
# a translator's comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"

#: a.py:3
#, fuzzy, python-format
msgid "Delete %s"
msgstr "删除 %s"
msgctxt "menu"
msgid "Save"
msgstr "保存"
#, python-format
msgid "%d page"
msgid_plural ""
"%d "
"pages"
msgstr[0] "第一 %d"
msgstr[1] "多 %d"

msgid "a \"b\"\n\\c"
msgstr "引\"号\"\n\\c"

msgid "Not yet"
msgstr ""

#~ msgid "Gone"
#~ msgstr "没了"
"""


def pairs(text: str) -> list[tuple[int, str, str, bool]]:
    return [(entry.number, *pair, entry.is_fuzzy) for entry in read_po(text) for pair in entry.pairs()]


def test_entries_have_their_lines_plurals_escapes_and_flags():
    assert pairs(PO) == [
        (9, "Delete %s", "删除 %s", True),
        (12, "Save", "保存", False),
        (15, "%d page", "第一 %d", False),
        (15, "%d pages", "多 %d", False),
        (22, 'a "b"\n\\c', '引"号"\n\\c', False),
        (25, "Not yet", "", False),
    ]


def test_a_language_of_one_form_translates_singular_and_plural_by_it():
    assert pairs('msgid "%d page"\nmsgid_plural "%d pages"\nmsgstr[0] "%d 页"\n') == [
        (1, "%d page", "%d 页", False),
        (1, "%d pages", "%d 页", False),
    ]


@pytest.mark.parametrize(
    "broken", ["msgid what is this", '"a string of nothing"', 'msgid "open\nmsgstr "x"', "<<<<<<< HEAD", "\x00\x01"]
)
def test_a_line_that_is_none_costs_its_own_entry_and_no_other(broken):
    entries = list(read_po(f'msgid "a"\nmsgstr "b"\n\n{broken}\n\nmsgid "c"\nmsgstr "d"\n'))
    assert [pair for entry in entries if not entry.fault for pair in entry.pairs()] == [("a", "b"), ("c", "d")]
    assert any("line 4" in entry.fault for entry in entries)


def compiled(messages: list[tuple[bytes, bytes]], *, order: str = "<") -> bytes:
    """A .mo file."""
    start = 28
    place = start + 16 * len(messages)
    tables, strings = [b"", b""], b""
    for side in (0, 1):
        for message in messages:
            tables[side] += struct.pack(f"{order}II", len(message[side]), place + len(strings))
            strings += message[side] + b"\0"
    head = struct.pack(f"{order}7I", 0x950412DE, 0, len(messages), start, start + 8 * len(messages), 0, 0)
    return head + tables[0] + tables[1] + strings


HEADER = (b"", b"Content-Type: text/plain; charset=gb18030\n")


@pytest.mark.parametrize("order", ["<", ">"])
def test_compiled_catalogs_of_both_byte_orders_are_read_in_their_own_charset(order):
    messages = [HEADER, (b"menu\x04Save", "保存".encode("gb18030")), (b"%d page\0%d pages", "%d 页".encode("gb18030"))]
    entries = list(read_mo(compiled(messages, order=order), name="a.mo", encoding="utf-8"))
    assert [pair for entry in entries for pair in entry.pairs()] == [
        ("Save", "保存"),
        ("%d page", "%d 页"),
        ("%d pages", "%d 页"),
    ]


def test_bytes_that_are_no_text_stay_as_lone_surrogates():
    (entry,) = read_mo(compiled([(b"a", b"\xff\xfe")]), name="a.mo", encoding="utf-8")
    assert entry.targets[0] == "\udcff\udcfe"


@pytest.mark.parametrize("cut", [0, 3, 10, 30, 50, -1])
def test_a_compiled_catalog_that_is_cut_off_or_none_is_refused(cut):
    whole = compiled([HEADER, (b"a", b"b")])
    with pytest.raises(SourceError, match="compiled gettext catalog"):
        list(read_mo(whole[:cut][:-2] if cut < 0 else whole[:cut], name="a.mo", encoding="utf-8"))
    with pytest.raises(SourceError):
        list(read_mo(b"\xde\x12\x04\x95" + b"\xff" * 60, name="a.mo", encoding="utf-8"))
