"""Images, recordings and JSON that are made to hurt, sent to `noria serve` as it serves real models of them."""

import base64
import io
import json
import re
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import soundfile
from PIL import Image
from server_process import go_live, running
from tiny_runs import bundled

from noria.data.audio import encode_wav
from noria.scenarios import load_scenario
from noria.serving.guard import OPEN

pytestmark = pytest.mark.slow

SPEECH, IMAGE, IMAGE_TEXT = NAMES = "speech-recognition", "image-classification", "image-text-classification"
TOKEN = {"Authorization": "Bearer secret"}
LONGEST_S = 20  # of one answer, on a machine with other work; alone it is three
MOST_MB = 1_500


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """The three in one server, as large bodies as the most generous of them allows."""
    live = []
    for name in NAMES:
        workspace = bundled(name, tmp_path_factory.mktemp(name))
        live.append(go_live(workspace, tmp_path_factory.mktemp(f"{name}-live")))
    with running(*live, NORIA_TOKEN="secret") as under_way:
        yield under_way


@pytest.fixture(scope="module")
def client(process):
    with httpx.Client(base_url=process.url, headers=TOKEN, timeout=60) as open_client:
        yield open_client


@pytest.fixture(autouse=True)
def and_the_server_is_well(process, client):
    yield
    for name in NAMES:
        assert client.post(f"/models/{name}/predict", json=dict(load_scenario(name).example)).status_code == 200
    assert process.most_memory_mb < MOST_MB


def asked(client, name, body, *, path="/models/{}/predict"):
    """The status of the answer, which came in time, is short and in JSON."""
    started = time.monotonic()
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path.format(name), content=content)
    assert time.monotonic() - started < LONGEST_S
    assert len(answer.content) < 5_000 and isinstance(answer.json(), dict)
    if answer.status_code != 200:
        assert answer.json()["error"]
    return answer.status_code


def in_base64(payload):
    return base64.b64encode(payload).decode()


def png(width, height, *, colour=0, bits=8, body=None):
    """Black, as compressed as it can be; or with a body that is not what its header says."""
    num_channels = {0: 1, 2: 3, 6: 4}[colour]
    if body is None:
        pack, line = zlib.compressobj(9), bytes(1 + width * num_channels * bits // 8)
        body = b"".join([*(pack.compress(line) for _ in range(height)), pack.flush()])
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    framed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def saved(image, kind, **how):
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def animated(kind, number=100):
    first, *others = (Image.new("RGB", (200, 200), (n, 0, 255 - n)) for n in range(number))
    return saved(first, kind, save_all=True, append_images=others)


def recording(seconds, rate_hz, channels, kind):
    """Silence."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate_hz, channels, format=kind) as file:
        for _ in range(int(seconds)):
            file.write(np.zeros((rate_hz, channels), np.int16))
    return out.getvalue()


def wav(*, rate_hz=8_000, channels=1, num_samples=800):
    """A header that says what it likes."""
    payload = bytearray(encode_wav(np.zeros(num_samples, np.float32), sample_rate_hz=8_000))
    struct.pack_into("<HI", payload, 22, channels, rate_hz)
    return bytes(payload)


BOMB = zlib.compress(bytes(100_000))
CMYK = saved(Image.new("CMYK", (64, 64), (10, 20, 30, 40)), "JPEG")
IMAGES = {
    "50,000 x 50,000": (lambda: png(50_000, 50_000, body=BOMB), 422),
    "as large as a header says": (lambda: png(2**31 - 1, 2**31 - 1, body=BOMB), 422),
    "24,000,000 in colour, half transparent": (lambda: png(6_000, 4_000, colour=6), (200, 503)),
    "16 bits": (lambda: png(6_000, 4_000, bits=16), (200, 503)),
    "one line": (lambda: png(24_000_000, 1), (200, 503)),
    "no pixels": (lambda: png(0, 0), 422),
    "one pixel": (lambda: png(1, 1), 200),
    "more data than pixels": (lambda: png(4, 4, body=BOMB), (200, 422)),
    "fewer data than pixels": (lambda: png(4_000, 4_000, body=zlib.compress(b"\0")), 422),
    "data that are none": (lambda: png(40, 40, body=b"\xff" * 1_000), 422),
    "cut off": (lambda: png(40, 40)[:50], 422),
    "an animated GIF": (lambda: animated("GIF"), 200),
    "an animated PNG": (lambda: animated("PNG"), 200),
    "an animated WebP": (lambda: animated("WEBP"), 200),
    "CMYK": (lambda: CMYK, 200),
    "CMYK, cut off": (lambda: CMYK[: len(CMYK) // 2], 422),
    "a format that is not read": (lambda: saved(Image.new("RGB", (9, 9)), "TIFF"), 422),
    "a text": (lambda: b"GIF89a, said the file", 422),
}


@pytest.mark.parametrize("name", [IMAGE, IMAGE_TEXT])
@pytest.mark.parametrize("what", IMAGES)
def test_an_image_is_answered_or_refused_whatever_it_claims_to_be(client, name, what):
    make, expected = IMAGES[what]
    body = {"image": in_base64(make()), **({"text": "tall"} if name == IMAGE_TEXT else {})}
    assert asked(client, name, body) in np.atleast_1d(expected)


RECORDINGS = {
    **{f"{rate_hz:,} Hz": (lambda rate_hz=rate_hz: wav(rate_hz=rate_hz), 422) for rate_hz in (0, 1, 2**31, 2**32 - 1)},
    **{f"{number} channels": (lambda number=number: wav(channels=number), 422) for number in (0, 9, 65_535)},
    "no samples": (lambda: wav(num_samples=0), 422),
    "one sample": (lambda: wav(num_samples=1), 200),
    "as long as is read": (lambda: recording(60, 192_000, 8, "FLAC"), (200, 503)),
    "ten minutes": (lambda: recording(600, 8_000, 1, "FLAC"), 422),
    "an odd rate": (lambda: wav(rate_hz=7_919), 200),
    "cut off": (lambda: wav()[:100], 422),
    "FLAC, cut off": (lambda: recording(9, 8_000, 1, "FLAC")[:-200], 422),
    "Ogg, cut off": (lambda: recording(9, 8_000, 1, "OGG")[:1_000], 422),
    "a header alone": (lambda: b"RIFF\xff\xff\xff\xffWAVE", 422),
    "chunks without end": (lambda: b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 100_000, 422),
    "a text": (lambda: b"OggS, said the file", 422),
}


@pytest.mark.parametrize("what", RECORDINGS)
def test_a_recording_is_answered_or_refused_whatever_it_claims_to_be(client, what):
    make, expected = RECORDINGS[what]
    assert asked(client, SPEECH, {"audio": in_base64(make())}) in np.atleast_1d(expected)


@pytest.mark.parametrize(
    ("name", "field", "payload"),
    [
        (IMAGE, "image", lambda: png(6_000, 4_000, colour=6)),
        (IMAGE_TEXT, "image", lambda: png(6_000, 4_000, colour=6)),
        (SPEECH, "audio", lambda: recording(60, 192_000, 8, "FLAC")),
    ],
)
def test_a_body_that_is_minutes_of_work_is_given_up_in_seconds(client, name, field, payload):
    assert asked(client, name, {"inputs": [{field: in_base64(payload())}] * 64}) == 503


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    ["", "=", "====", "AAA", "A A A A", "AAAA\n", "é", "\0", "-_-_", "data:image/png;base64,AAAA", "A" * 100_001],
)
def test_what_is_no_base64_is_refused(client, name, text):
    field = "audio" if name == SPEECH else "image"
    assert asked(client, name, {field: text}) == 422


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (lambda field: b'{"%s": [' % field + b"[]," * 4_000_000 + b"[]]}", 422),
        (lambda field: b'{"inputs": [' + b"{}," * 4_000_000 + b"{}]}", 413),
        (lambda field: b"{" + b",".join(b'"%d":0' % n for n in range(1_000_000)) + b"}", 400),
        (lambda field: b'{"%s": ' % field + b"[" * 10_000_000, 400),
        (lambda field: b'{"%s": ' % field + b"1" * 10_000_000 + b"}", 400),
        (lambda field: b'{"%s": -Infinity}' % field, 400),
        (lambda field: b'{"%s": "\xff\xfe"}' % field, 400),
        (lambda field: b'{"%s": "\\udfff"}' % field, 422),
        (lambda field: b'{"%s": {"bytes": "AAAA"}}' % field, 422),
        (lambda field: b'{"%s": "%s"}' % (field, b"A" * 15_000_000), 422),
        (lambda field: b"x" * 17_000_000, 413),
    ],
    ids=["lists", "objects", "names", "depth", "digits", "infinity", "bytes", "surrogate", "type", "base64", "long"],
)
def test_json_that_is_made_to_hurt_is_refused(client, body, status):
    assert asked(client, SPEECH, body(b"audio")) == status


def test_many_at_once_take_no_more_memory_than_one(client):
    body = b'{"audio": [' + b"[]," * 4_000_000 + b"[]]}"
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: httpx.post(f"{client.base_url}/predict", content=body, headers=TOKEN, timeout=120), range(8)
            )
        )
    assert {answer.status_code for answer in answers} <= {422, 429, 503}


def tensors(**changes):
    tensor = {"name": "audio", "shape": [1], "datatype": "BYTES", "data": [load_scenario(SPEECH).example["audio"]]}
    return {"inputs": [{**tensor, **changes}]}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (tensors(), 200),
        (tensors(shape=[-1]), 400),
        (tensors(shape=[-(2**63)]), 400),
        (tensors(shape=[2**31, 2**33]), 413),
        (tensors(shape=[2**63]), 413),
        (tensors(shape=[1] * 100_000), 400),
        (tensors(shape=[1, 2**62]), 400),
        (tensors(shape=["1"]), 400),
        (tensors(shape=["a"] * 1_000_000), 400),
        (tensors(shape=[True]), 400),
        (tensors(shape=[1.0]), 400),
        (tensors(datatype="FP32", data=[1.0]), 400),
        (tensors(datatype="BYTES", data=[1.0]), 400),
        (tensors(datatype="INT64"), 400),
        (tensors(datatype="x" * 100_000), 400),
        (tensors(name="x" * 100_000), 400),
        (tensors(data=[[[[]]]]), 400),
        (tensors(data="audio"), 400),
        (tensors(data=[{}]), 400),
        ({"inputs": tensors()["inputs"] * 10_000}, 400),
        ({**tensors(), "outputs": [{"name": "text"}] * 100_000}, 400),
    ],
    ids=lambda value: str(value)[:60],
)
def test_tensors_that_do_not_fit_are_refused(client, body, status):
    assert asked(client, SPEECH, body, path="/v2/models/{}/infer") == status


def operations(client):
    """Method and path of every route that the document has, parameters filled in."""
    paths = client.get("/openapi.json").json()["paths"]
    filled = {path: re.sub(r"\{name\}", SPEECH, path).replace("{version}", "x") for path in paths}
    return [(method.upper(), filled[path]) for path in paths for method in paths[path]]


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic secret", "Bearer secret secret"])
def test_every_route_wants_the_token_and_the_right_one_opens_it(process, client, header):
    headers = {} if header is None else {"Authorization": header}
    asked_for = operations(client)
    assert len(asked_for) >= 20
    for method, path in asked_for:
        closed = httpx.request(method, process.url + path, json={}, headers=headers)
        assert (closed.status_code == 401) == (path not in OPEN), (method, path)
        assert client.request(method, path, json={}).status_code not in (401, 500), (method, path)
