"""The load generator counts what it was answered, and tells clean refusals from others."""

import asyncio
import threading
from contextlib import contextmanager

from benchmarks.servers.load import at_rate, in_turn, summary

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
CLEAN = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
SHORT = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextmanager
def answering(*answers):
    """The URL of a server that gives these answers by turns; None hangs up."""
    loop = asyncio.new_event_loop()

    async def serve(reader, writer):
        while await reader.readline():
            headers = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(headers.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
            answer = answers[next(counter) % len(answers)]
            if answer is None:
                break
            writer.write(answer)
            await asyncio.sleep(0.002)
        writer.close()

    counter = iter(range(10**9))
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/predict"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0))


def test_answers_of_either_framing_are_counted_after_the_warm_up():
    with answering(OK, CHUNKED) as url:
        seen = asyncio.run(in_turn(url, [b"{}"], clients=4, seconds=0.5))
    found = summary(seen, seconds=0.5)
    assert found["answered_per_s"] == found["sent_per_s"] > 50
    assert found["p99_ms"] >= found["p50_ms"] > 0
    assert (found["refused"], found["unclean"]) == (0, 0)


def test_a_refusal_is_clean_only_if_it_says_when_to_come_again():
    with answering(OK, CLEAN, SHORT) as url:
        seen = asyncio.run(in_turn(url, [b"{}"], clients=1, seconds=0.5))
    found = summary(seen, seconds=0.5)
    assert found["refused"] >= 2
    assert 0 < found["unclean"] < found["refused"]


def test_a_connection_that_is_lost_is_no_clean_refusal():
    with answering(OK, None) as url:
        seen = asyncio.run(in_turn(url, [b"{}"], clients=1, seconds=0.5))
    assert seen.num_broken > 0
    assert summary(seen, seconds=0.5)["unclean"] >= seen.num_broken


def test_a_rate_is_kept_and_what_no_client_was_free_for_is_told():
    with answering(OK) as url:
        calm = summary(asyncio.run(at_rate(url, [b"{}"], clients=8, seconds=0.5, rate=100)), seconds=0.5)
        busy = summary(asyncio.run(at_rate(url, [b"{}"], clients=1, seconds=0.5, rate=2_000)), seconds=0.5)
    assert 60 < calm["answered_per_s"] <= 110
    assert busy["unsent_per_s"] > 0
