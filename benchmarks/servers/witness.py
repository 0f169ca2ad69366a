"""Clients that ask without a break and write down, of every answer, which versions spoke in it.

    python -m benchmarks.servers.witness URL BODIES OUTPUT --clients 16 --rate 100

Each line of OUTPUT is one answer: [when it was asked and when it came (`time.time`), status, versions]; status 0
is no answer. Requests are sent at a rate, whatever becomes of them: what one waits, no other is spared. Ends with
SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from benchmarks.servers.load import Client

_VERSION = re.compile(rb'"model_version":\s*"([0-9a-f]{12})"')
Answer = tuple[float, float, int, list[str]]


async def watch(url: str, bodies: Sequence[bytes], *, clients: int, rate: float) -> list[Answer]:
    """Until the process is told to end."""
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    free: asyncio.Queue[Client] = asyncio.Queue()
    for _ in range(clients):
        free.put_nowait(Client(url))
    answers: list[Answer] = []

    async def one(client: Client, body: bytes, due_s: float) -> None:
        try:
            status, _, answer = await client.ask(body)
        except (OSError, ValueError, asyncio.IncompleteReadError):
            client.close()
            status, answer = 0, b""
        versions = sorted({version.decode() for version in _VERSION.findall(answer)})
        answers.append((due_s, time.time(), status, versions))
        free.put_nowait(client)

    following, started_s, number = cycle(bodies), time.time(), 0
    asking: set[asyncio.Task[None]] = set()
    while not end.is_set():
        due_s = started_s + number / rate
        await asyncio.sleep(max(due_s - time.time(), 0))
        task = asyncio.create_task(one(await free.get(), next(following), due_s))
        asking.add(task)
        task.add_done_callback(asking.discard)
        number += 1
    await asyncio.gather(*asking)
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    args = parser.parse_args()
    bodies = args.bodies.read_bytes().splitlines()
    answers = asyncio.run(watch(args.url, bodies, clients=args.clients, rate=args.rate))
    args.output.write_text("".join(json.dumps(answer) + "\n" for answer in answers), encoding="utf-8")


if __name__ == "__main__":
    main()
