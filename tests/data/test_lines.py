import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.data import lines
from noria.data.lines import Lines, LongLine, read_lines

_LINE = st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b" ").replace(b"\r", b" "))


@settings(deadline=None)
@given(texts=st.lists(_LINE, max_size=30), max_bytes=st.integers(1, 60), chunk=st.integers(1, 50), ended=st.booleans())
def test_every_line_is_read_once_with_its_number_and_bytes(texts, max_bytes, chunk, ended):
    data = b"\n".join(texts) + (b"\n" if ended else b"")
    expected = data.removesuffix(b"\n").split(b"\n") if data.removeprefix(b"\xef\xbb\xbf") else []
    if expected:
        expected[0] = expected[0].removeprefix(b"\xef\xbb\xbf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_CHUNK_BYTES", max(chunk, 3))  # a byte order mark lies in the first chunk
        found: dict[int, bytes | int] = {}
        for part in read_lines(io.BytesIO(data), encoding="utf-8", max_bytes=max_bytes):
            if isinstance(part, LongLine):
                found[part.number] = part.num_bytes
            else:
                for number, text in enumerate(part.texts, part.first):
                    assert number not in found
                    found[number] = text.encode("utf-8", "surrogateescape")
    assert sorted(found) == list(range(1, len(found) + 1))
    for number, line in enumerate(expected, 1):
        assert found.get(number, b"") == (len(line) if len(line) > max_bytes else line)


def test_a_broken_character_does_not_swallow_the_line_end():
    data = "好".encode("gbk")[:1] + b"\n" + "很好".encode("gbk") + b"\n"
    (part,) = read_lines(io.BytesIO(data), encoding="gbk", max_bytes=100)
    assert isinstance(part, Lines)
    assert part.texts == ["\udcba", "很好"]
