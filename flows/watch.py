"""The process that keeps Prefect's records true while nothing runs: `python -m flows.watch`, one on each machine.

Every few seconds it marks as crashed what died (`flows.crashes`): a dead run would keep its place, and with it the
next one from starting.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading

from flows.crashes import Crashes

_EVERY_S = 10.0


def watch(*, every_s: float, until: threading.Event) -> None:
    """Look, and look again, until told to end."""
    crashes = Crashes()
    while True:
        crashes.sweep()
        if until.wait(every_s):
            return


def main() -> None:
    """Watch until SIGINT or SIGTERM; with --once, look once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="look once")
    parser.add_argument("--every-s", type=float, default=_EVERY_S, metavar="S", help="seconds between (default: 10)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    until = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: until.set())
    if args.once:
        until.set()
    watch(every_s=args.every_s, until=until)


if __name__ == "__main__":
    main()
