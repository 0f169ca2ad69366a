"""Load on a server from a process of its own: many clients in turn, or requests at a rate whatever becomes of them.

    python -m benchmarks.servers.load URL BODIES --clients 64 --seconds 10
    python -m benchmarks.servers.load URL BODIES --clients 640 --seconds 10 --rate 3000

BODIES holds one JSON body a line; each request takes the next. Prints one JSON object. It speaks
just as much HTTP/1.1 as it takes, since a client library would cost more than the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

_WARM_UP = 0.2  # of the seconds: what is answered in them does not count


@dataclass
class Seen:
    """What became of the requests; `clean` counts refusals that say when to come again."""

    since_s: float
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    num_clean: int = 0
    num_broken: int = 0
    num_unsent: int = 0

    def add(self, status: int, headers: bytes, began_s: float) -> None:
        now = time.perf_counter()
        if began_s < self.since_s:
            return
        self.statuses[status] += 1
        self.num_clean += status in (429, 503) and b"retry-after:" in headers
        if status == 200:
            self.latencies_ms.append(1_000 * (now - began_s))


class Client:
    """One connection at a time, opened anew when it is lost."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._address = (parts.hostname, parts.port or 80)
        self._head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: bytes) -> tuple[int, bytes, bytes]:
        """Status, headers and body of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        headers = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, _, length = headers.partition(b"content-length:")
        if length:
            answer = await reader.readexactly(int(length.split(b"\r\n", 1)[0]))
        else:
            answer = await _read_chunks(reader)
        if b"connection: close" in headers:
            self.close()
        return int(headers.split(b" ", 2)[1]), headers, answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while size := int(await reader.readline(), 16):
        chunks.append((await reader.readexactly(size + 2))[:-2])
    await reader.readline()
    return b"".join(chunks)


async def in_turn(url: str, bodies: Sequence[bytes], *, clients: int, seconds: float) -> Seen:
    """Each client asks again as soon as it has its answer."""
    now = time.perf_counter()
    seen, end_s, following = Seen(now + _WARM_UP * seconds), now + seconds, cycle(bodies)

    async def one() -> None:
        client = Client(url)
        while time.perf_counter() < end_s:
            await _ask(client, next(following), seen)
        client.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return seen


async def at_rate(url: str, bodies: Sequence[bytes], *, clients: int, seconds: float, rate: float) -> Seen:
    """So many requests a second, each by a client that is free; where none is, it is not sent, and counted."""
    now = time.perf_counter()
    seen, following = Seen(now + _WARM_UP * seconds), cycle(bodies)
    free = [Client(url) for _ in range(clients)]
    asking: set[asyncio.Task[None]] = set()

    async def one(client: Client) -> None:
        await _ask(client, next(following), seen)
        free.append(client)

    for number in range(int(seconds * rate)):
        if (early_s := now + number / rate - time.perf_counter()) > 0:
            await asyncio.sleep(early_s)
        elif number % 16 == 0:
            await asyncio.sleep(0)  # behind: the answers must be read all the same
        if not free:
            seen.num_unsent += time.perf_counter() >= seen.since_s
            continue
        task = asyncio.create_task(one(free.pop()))
        asking.add(task)
        task.add_done_callback(asking.discard)
    await asyncio.gather(*asking)
    for client in free:
        client.close()
    return seen


async def _ask(client: Client, body: bytes, seen: Seen) -> None:
    began_s = time.perf_counter()
    try:
        status, headers, _ = await client.ask(body)
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        seen.num_broken += 1
        client.close()
        await asyncio.sleep(0.01)
        return
    seen.add(status, headers, began_s)


def summary(seen: Seen, *, seconds: float) -> dict[str, float]:
    """Numbers to print."""
    counted_s = (1 - _WARM_UP) * seconds
    refused = sum(count for status, count in seen.statuses.items() if status in (429, 503))
    return {
        "answered_per_s": seen.statuses[200] / counted_s,
        "sent_per_s": seen.statuses.total() / counted_s,
        "unsent_per_s": seen.num_unsent / counted_s,
        **{f"p{q}_ms": value for q, value in zip((50, 99), _quantiles(seen.latencies_ms), strict=True)},
        "refused": refused,
        "unclean": seen.statuses.total() - seen.statuses[200] - seen.num_clean + seen.num_broken,
    }


def _quantiles(latencies_ms: list[float]) -> Iterator[float]:
    ordered = sorted(latencies_ms) or [float("nan")]
    return (ordered[min(int(q * len(ordered)), len(ordered) - 1)] for q in (0.5, 0.99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float)
    args = parser.parse_args()
    bodies = args.bodies.read_bytes().splitlines()
    if args.rate is None:
        load = in_turn(args.url, bodies, clients=args.clients, seconds=args.seconds)
    else:
        load = at_rate(args.url, bodies, clients=args.clients, seconds=args.seconds, rate=args.rate)
    print(json.dumps(summary(asyncio.run(load), seconds=args.seconds)))


if __name__ == "__main__":
    main()
