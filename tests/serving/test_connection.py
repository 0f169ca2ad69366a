"""Bytes that no route ever sees, and bodies and answers without end, against `noria serve` in a process of its own."""

import json
import re
import socket
import time

import httpx
import pytest
from server_process import go_live, running

HASTY = """
from noria.serving import body, connection
body._READ_TIMEOUT_S = connection.HEAD_S = connection.LINGER_S = connection.UNREAD_S = 1.0
"""
"""What is minutes otherwise."""
GOOD = b'{"text": "\xe5\xa5\xbd"}'


@pytest.fixture(scope="module")
def process(optimized, tmp_path_factory):
    live = go_live(optimized, tmp_path_factory.mktemp("hostile"))
    with running(live, before=f"exec({HASTY!r})") as under_way:
        yield under_way


@pytest.fixture(autouse=True)
def and_others_are_answered(process):
    yield
    assert httpx.post(f"{process.url}/predict", content=GOOD).status_code == 200
    assert process.most_memory_mb < 700


def post(*headers, body=b"", path=b"/predict"):
    return b"\r\n".join([b"POST %s HTTP/1.1" % path, b"Host: localhost", *headers, b"", body])


def whole(body=GOOD):
    return post(b"Content-Length: %d" % len(body), body=body)


LAST = post(b"Content-Length: %d" % len(GOOD), b"Connection: close", body=GOOD)


def until_closed(client):
    """All that it says until it closes, in not too long."""
    said = b""
    started = time.monotonic()
    try:
        while part := client.recv(65_536):
            said += part
            assert time.monotonic() - started < 20
    except ConnectionResetError:
        pass
    return said


def statuses(said):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


def answer_to(process, sent):
    """What is said to these bytes before the connection is closed."""
    with process.connect() as client:
        client.sendall(sent)
        return until_closed(client)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01" * 100 + b"\r\n\r\n", 400),
        (b"GET /healthz HTTP/9\r\n\r\n", 400),
        (post(b"Content-Length: -1", body=GOOD), 400),
        (post(b"Content-Length: " + b"9" * 30, body=GOOD), 400),
        (post(b"Content-Length: 1e3", body=GOOD), 400),
        (post(b"Content-Length: 3", b"Content-Length: 4", body=GOOD), 400),
        (post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        (post(b"Transfer-Encoding: gzip", body=GOOD), 400),
        (post(b"Transfer-Encoding: chunked", body=b"zz\r\n\r\n"), 400),
        (post(b"X: a\r\n folded\x00"), 400),
        (post(b"X: " + b"x" * 70_000), 431),
        (post(*[b"X%d: y" % number for number in range(20_000)]), 431),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_what_is_no_http_or_too_long_for_it_is_refused_in_json_and_the_connection_closed(process, sent, status):
    said = answer_to(process, sent)
    assert statuses(said)[-1] == status
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["what"]


def test_a_long_head_may_come_in_pieces(process):
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX: " + b"x" * 50_000 + b"\r\n\r\n"
    with process.connect() as client:
        for start in range(0, len(head), 1_460):
            client.sendall(head[start : start + 1_460])
            time.sleep(0.001)
        assert statuses(until_closed(client)) == [200]


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX: ", b"GET /", b"POST / HTTP/1.1\r\nX: y\r\n"])
def test_headers_without_end_are_cut_off(process, head):
    with process.connect() as client:
        num_sent = 0
        try:
            client.sendall(head)
            while num_sent < 50_000_000:
                client.sendall(b"x" * 65_536 if not head.endswith(b"\r\n") else b"Xx: y\r\n" * 9_000)
                num_sent += 65_536
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert num_sent < 10_000_000


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_request_that_does_not_come_is_not_waited_for(process, sent):
    said = answer_to(process, sent)
    assert statuses(said) == ([408] if sent else [])


def test_a_header_a_byte_at_a_time_does_not_last(process):
    with process.connect() as client, pytest.raises((BrokenPipeError, ConnectionResetError)):
        client.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        for _ in range(100):
            client.sendall(b"x")
            time.sleep(0.05)


@pytest.mark.parametrize("chunks", [[b"{"], [b"1\r\n{\r\n"] * 100], ids=["length", "chunks"])
def test_a_body_that_comes_slowly_is_refused(process, chunks):
    kind = b"Content-Length: 100" if len(chunks) == 1 else b"Transfer-Encoding: chunked"
    with process.connect() as client:
        try:
            client.sendall(post(kind))
            for chunk in chunks:
                client.sendall(chunk)
                time.sleep(0.05)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert statuses(until_closed(client)) == [408]


@pytest.mark.parametrize("kind", [b"Content-Length: 999999999", b"Transfer-Encoding: chunked"])
def test_a_body_without_end_is_refused_and_not_read_for_ever(process, kind):
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    started = time.monotonic()
    with process.connect() as client, pytest.raises((BrokenPipeError, ConnectionResetError)):
        client.sendall(post(kind))
        while time.monotonic() - started < 15:
            client.sendall(chunk)


def test_a_client_that_goes_on_sending_hears_that_its_body_is_too_long_and_may_stay(process):
    with process.connect() as client:
        client.sendall(post(b"Content-Length: 90000"))
        said = client.recv(65_536)
        client.sendall(b"x" * 90_000 + LAST)
        assert statuses(said + until_closed(client)) == [413, 200]


def test_requests_behind_one_that_is_refused_are_answered_in_order(process):
    wrong = [whole(b"{"), whole(b'{"text": 5}'), post(b"Content-Length: 0", path=b"/nowhere")]
    with process.connect() as client:
        client.sendall(b"".join([whole(), *wrong, LAST]))
        assert statuses(until_closed(client)) == [200, 400, 422, 404, 200]


def test_bytes_that_are_no_http_behind_a_request_end_the_connection(process):
    assert statuses(answer_to(process, whole() + b"\x00\r\n\r\n")) == []


def test_a_thousand_requests_at_once_on_one_connection_are_answered_one_by_one(process):
    with process.connect() as client:
        client.sendall(whole(b"{") * 1_000 + LAST)
        assert statuses(until_closed(client)) == [400] * 1_000 + [200]


def test_an_answer_that_nobody_reads_is_given_up(process):
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with process.connect() as client, pytest.raises((BrokenPipeError, ConnectionResetError)):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.sendall(asked * 1_000)
        for _ in range(100):
            time.sleep(0.05)
            client.sendall(b"G")


def test_an_upgrade_is_not_taken(process):
    upgrade = [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Version: 13"]
    with process.connect() as client:
        client.sendall(b"\r\n".join([b"GET /predict HTTP/1.1", b"Host: localhost", *upgrade, b"", b""]))
        assert statuses(client.recv(65_536)) == [405]


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
def test_a_compressed_body_is_never_unpacked(process, coding):
    import gzip

    bomb = gzip.compress(b'{"text": "' + b"x" * 100_000_000 + b'"}')[:1_900]
    answer = httpx.post(f"{process.url}/predict", content=bomb, headers={"Content-Encoding": coding})
    assert answer.status_code == 400
