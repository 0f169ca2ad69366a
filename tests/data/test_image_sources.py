"""Where images come from: folders, IDX, columns of pixels, Parquet."""

import gzip
import io
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from noria.config import CleanConfig, SourceConfig
from noria.data.images import repair
from noria.data.ingest import ingest
from noria.data.pixels import Picture, decode, encode_png
from noria.data.quarantine import read_quarantine
from noria.data.rows import read_rows
from noria.errors import ConfigError, NoriaError, SourceError
from noria.scenarios import load_scenario

SCENARIO = load_scenario("image-classification")
DIGITS = np.random.default_rng(0).integers(0, 256, (7, 9, 9), dtype=np.uint8)
LABELS = bytes(range(7))


def read(root, **source) -> tuple[list[dict], dict[str, str]]:
    """Rows, and the refused by origin."""
    out = root / "out"
    artifact = ingest(
        SourceConfig(**{"path": "images", **source}),
        schema=SCENARIO.schema,
        target=SCENARIO.target,
        base=root,
        raw=out / "raw",
        quarantine=out / "quarantine",
    )
    return list(read_rows(artifact.path)), {row.origin: row.rule for row in read_quarantine(out / "quarantine")}


def pixels(row) -> np.ndarray:
    found = decode(row["image"])
    assert isinstance(found, Picture)
    return found.pixels[..., 0]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "images"
    made.mkdir()
    return made


def idx(values: np.ndarray, *, announced: int | None = None) -> bytes:
    sizes = (len(values) if announced is None else announced, *values.shape[1:])
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *sizes) + values.tobytes()


def write_idx(folder, images: bytes, labels: bytes, *, ending: str = "") -> None:
    pack = gzip.compress if ending else bytes
    (folder / f"train-images-idx3-ubyte{ending}").write_bytes(pack(images))
    (folder / f"train-labels-idx1-ubyte{ending}").write_bytes(pack(labels))


def test_a_file_is_a_row_and_its_folder_the_label(folder, tmp_path):
    for label in ("maine_coon", "dog"):
        (folder / label).mkdir()
        (folder / label / "img_001.png").write_bytes(encode_png(DIGITS[0][..., None]))
    (folder / "dog" / "notes.txt").write_text("no image")
    (folder / "dog" / ".hidden.png").write_bytes(b"")
    rows, refused = read(tmp_path, format="media", label_from="directory")
    assert [(row["label"], row["origin"]) for row in rows] == [
        ("dog", "dog/img_001.png:1"),
        ("dog", "dog/notes.txt:1"),  # the cleaner says what it is, with its bytes
        ("maine_coon", "maine_coon/img_001.png:1"),
    ]
    assert not refused


def test_a_file_above_the_limit_is_set_aside_with_its_beginning(folder, tmp_path):
    (folder / "a").mkdir()
    (folder / "a" / "large.png").write_bytes(encode_png(DIGITS[0][..., None]) + bytes(5_000))
    (folder / "a" / "small.png").write_bytes(encode_png(DIGITS[0][..., None]))
    rows, refused = read(tmp_path, format="media", label_from="directory", max_row_bytes=1_000)
    assert len(rows) == 1 and refused == {"a/large.png:1": "too_long"}


def test_files_without_a_label_are_an_error_of_the_configuration(folder, tmp_path):
    (folder / "a.png").write_bytes(encode_png(DIGITS[0][..., None]))
    with pytest.raises(ConfigError, match="a file is one column, and a row of this scenario has image, label"):
        read(tmp_path, format="media", label_from="column")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_gives_each_image_with_its_label(folder, tmp_path, ending):
    write_idx(folder, idx(DIGITS), idx(np.frombuffer(LABELS, np.uint8)), ending=ending)
    rows, refused = read(tmp_path)
    assert [row["label"] for row in rows] == list("0123456") and not refused
    assert all((pixels(row) == digit).all() for row, digit in zip(rows, DIGITS, strict=True))
    assert rows[3]["origin"] == f"train-images-idx3-ubyte{ending}:4"


@pytest.mark.parametrize("cut", [100, 81 * 2 + 40])
def test_a_cut_off_idx_file_gives_what_is_whole_and_says_what_lacks(folder, tmp_path, cut):
    write_idx(folder, idx(DIGITS)[:-cut], idx(np.frombuffer(LABELS, np.uint8)))
    rows, refused = read(tmp_path)
    assert len(rows) == 7 - (cut + 80) // 81
    assert refused == {f"train-images-idx3-ubyte:{len(rows) + 1}": "truncated"}


@pytest.mark.parametrize("kept", [(3, 3), (7, 3), (3, 7)])
def test_what_an_idx_file_holds_beyond_what_it_announces_is_said(folder, tmp_path, kept):
    images, labels = (
        idx(values[:num], announced=3) for values, num in zip((DIGITS, np.arange(7, dtype=np.uint8)), kept, strict=True)
    )
    write_idx(folder, images, labels)
    rows, refused = read(tmp_path)
    assert [row["label"] for row in rows] == list("012")
    assert refused == ({} if kept == (3, 3) else {"train-images-idx3-ubyte:4": "unannounced"})


def test_a_folder_that_begins_with_an_underscore_is_a_class_like_others(folder, tmp_path):
    (folder / "_background_").mkdir()
    (folder / "_background_" / "_3.png").write_bytes(encode_png(DIGITS[0][..., None]))
    rows, _ = read(tmp_path, format="media", label_from="directory")
    assert [row["label"] for row in rows] == ["_background_"]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (b"", idx(np.zeros(7, np.uint8)), "no IDX file of 3 axes"),
        (b"\x1f\x8bthis is no IDX file at all", idx(np.zeros(7, np.uint8)), "no IDX file of 3 axes"),
        (idx(DIGITS), idx(np.zeros(6, np.uint8)), "7 images and 6 labels"),
        (idx(np.zeros((7, 0, 5), np.uint8)), idx(np.zeros(7, np.uint8)), "images of 0 x 5 pixels"),
        (struct.pack(">BBBBIII", 0, 0, 8, 3, 7, 2**31, 2**31), idx(np.zeros(7, np.uint8)), "2,147,483,648 x"),
    ],
)
def test_a_wrong_idx_file_is_a_source_error_before_anything_is_allocated(folder, tmp_path, images, labels, message):
    write_idx(folder, images, labels)
    with pytest.raises(SourceError, match=message):
        read(tmp_path)


def test_idx_without_its_labels_is_a_source_error(folder, tmp_path):
    (folder / "train-images-idx3-ubyte").write_bytes(idx(DIGITS))
    with pytest.raises(SourceError, match="train-labels-idx1-ubyte"):
        read(tmp_path)


def test_columns_of_pixels_make_an_image(folder, tmp_path):
    lines = [",".join([str(n), *map(str, digit.ravel())]) for n, digit in enumerate(DIGITS)]
    spoilt = [lines[0].replace(",", ",x", 1), "0," + ",".join(["999"] * 81), "3,4"]
    header = ",".join(["label", *(f"pixel{n}" for n in range(81))])
    (folder / "train.csv").write_text("\n".join([header, *lines, *spoilt]) + "\n")
    rows, refused = read(tmp_path, columns={"image": "pixel*"})
    assert [row["label"] for row in rows] == list("0123456")
    assert all((pixels(row) == digit).all() for row, digit in zip(rows, DIGITS, strict=True))
    assert refused == {"train.csv:9": "bad_pixels", "train.csv:10": "bad_pixels", "train.csv:11": "field_count"}


def test_pixels_that_are_no_square_are_refused(folder, tmp_path):
    (folder / "train.csv").write_text("label,pixel0,pixel1,pixel2\na,1,2,3\n")
    with pytest.raises(NoriaError, match="3 pixels are no square image"):
        read(tmp_path, columns={"image": "pixel*"})


def test_a_pattern_that_no_column_follows_is_said(folder, tmp_path):
    (folder / "train.csv").write_text("label,p0\na,1\n")
    with pytest.raises(SourceError, match=r"no column `pixel\*`"):
        read(tmp_path, columns={"image": "pixel*"})


@pytest.mark.parametrize("form", ["bytes", "hugging_face", "pixels"])
def test_parquet_holds_bytes_or_what_hugging_face_writes_or_columns_of_pixels(folder, tmp_path, form):
    payloads = [encode_png(digit[..., None]) for digit in DIGITS]
    labels = [str(n) for n in range(7)]
    if form == "pixels":
        columns = {f"pixel{n}": DIGITS.reshape(7, 81)[:, n] for n in range(81)}
    elif form == "bytes":
        columns = {"image": pa.array(payloads, pa.binary())}
    else:
        columns = {"image": [{"bytes": payload, "path": None} for payload in payloads]}
    pq.write_table(pa.table({"label": labels, **columns}), folder / "train.parquet")
    rows, refused = read(tmp_path, **({"columns": {"image": "pixel*"}} if form == "pixels" else {}))
    assert not refused and [row["label"] for row in rows] == labels
    assert all((pixels(row) == digit).all() for row, digit in zip(rows, DIGITS, strict=True))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises a large image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return png_of(header, zlib.compress(b"\0" * 100))


def png_of(header: bytes, body: bytes, *more: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    parts = ((b"IHDR", header), *more, (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)


def jpeg_cut() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.tile(DIGITS[0], (4, 4))).save(out, format="JPEG")
    return out.getvalue()[:300]


NOTE = b"note\0\0" + zlib.compress(bytes(50_000_000), 9)
"""Text of fifty million bytes in fifty thousand."""


@pytest.mark.parametrize(
    ("payload", "rule"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"this is a text", "not_an_image"),
        (b"\x89PNG\r\n\x1a\n", "not_an_image"),
        (b"%PDF-1.7 ...", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (encode_png(DIGITS[0][..., None])[:-40], "broken_image"),
        (jpeg_cut(), "broken_image"),
        (bomb(100_000, 100_000), "too_many_pixels"),
        (bomb(2**31 - 1, 1), "too_many_pixels"),
        (bomb(1_000, 1_000), "broken_image"),
        (
            png_of(struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0), zlib.compress(bytes(90)), (b"zTXt", NOTE)),
            "broken_image",
        ),
        (encode_png(DIGITS[0][:5, :, None]), "too_small"),
        (encode_png(np.full((20, 20, 1), 9, np.uint8)), "blank"),
        (bytes(20_000_001), "too_large"),
    ],
)
def test_a_hostile_or_useless_image_is_refused_with_its_rule_and_a_reason(payload, rule):
    refused = repair({"image": payload, "label": "a"}, CleanConfig())
    assert (refused.values, refused.rule) == (None, rule) and refused.reason


def test_a_label_is_trimmed_and_a_row_without_one_is_refused():
    image = encode_png(DIGITS[0][..., None])
    assert repair({"image": image, "label": " a "}, CleanConfig()).values == {"image": image, "label": "a"}
    assert [repair({"image": image, "label": label}, CleanConfig()).rule for label in (None, " ")] == [
        "missing_label"
    ] * 2
