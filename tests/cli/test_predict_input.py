"""What `noria predict` reads: files and standard input as they come from other programs."""

import io
import sys

import pytest

from noria.cli.predict import _lines
from noria.errors import SourceError


def as_input(monkeypatch, content: bytes):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("name", ["in.jsonl", "-"])
def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path, monkeypatch, name):
    content = '\ufeff{"text": "很好"}\n差\n'.encode()
    (tmp_path / "in.jsonl").write_bytes(content)
    as_input(monkeypatch, content)
    with _lines(None, name if name == "-" else str(tmp_path / name)) as (lines, _):
        assert list(lines) == ['{"text": "很好"}\n', "差\n"]


def test_bytes_that_are_not_utf8_are_a_message_on_standard_input_too(monkeypatch):
    as_input(monkeypatch, b"\xff\xfe\n")
    with pytest.raises(SourceError, match="standard input"), _lines(None, "-") as (lines, name):
        assert name == "standard input"
        list(lines)
