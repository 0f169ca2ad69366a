"""Telling people what a run can't settle alone, or has changed: webhook, e-mail, Slack and what else Apprise knows.

The addresses are URLs as Apprise has them (https://github.com/caronc/apprise/wiki), with commas between them, in the
environment variable `NORIA_NOTIFY`: they hold secrets, so they are in no file and in no log. Which kinds of news are
told is `notify.kinds` in `params.yaml`. Whatever goes wrong here takes nothing from the run.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from noria.config import NewsKind
from noria.workspace import Workspace

ADDRESSES = "NORIA_NOTIFY"
"""Environment variable: `jsons://hooks.example.org/noria, mailtos://…, slack://…`."""

logger = logging.getLogger(__name__)

_ATTEMPTS = 2
_TALKATIVE = ("apprise", "urllib3.connectionpool")  # they quote addresses: one that can't be read, the path of a hook
_SEEN_AS = {"failure": "failure", "promotion": "success", "refusal": "warning", "call": "warning", "approval": "info"}


def notify(kind: NewsKind, *, title: str, text: str, workspace: Workspace) -> int:
    """Tell everybody at `NORIA_NOTIFY`; returns how many were reached.

    Parameters
    ----------
    kind:
        What sort of news it is; one that `notify.kinds` does not name is told to nobody.
    title, text:
        What happened in a line, and all of it: plain text.
    """
    config = workspace.config.notify
    urls = [url.strip() for url in os.environ.get(ADDRESSES, "").split(",") if url.strip()]
    if not urls or kind not in config.kinds:
        return 0
    headline = f"[{workspace.config.name}] {' '.join(title.split())}"
    reached: list[str] = []
    threads = [
        threading.Thread(target=_tell, args=(url, headline, text, _SEEN_AS[kind], reached), daemon=True) for url in urls
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + config.timeout_s
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0.0))
    num_reached = len(reached)
    level = logging.INFO if num_reached == len(urls) else logging.WARNING
    logger.log(level, "told of %s (%s): %d of %d addresses", kind, headline, num_reached, len(urls))
    return num_reached


def _tell(url: str, title: str, text: str, seen_as: str, reached: list[str]) -> None:
    """Send once, and once more where that failed; says only the kind of an address, never its secrets."""
    for name in _TALKATIVE:
        logging.getLogger(name).disabled = True
    from apprise import Apprise, NotifyFormat, NotifyType

    scheme = url.partition("://")[0][:20]
    address = Apprise()
    if not address.add(url):
        logger.warning("an address of %s (%s://…) is none that Apprise can read", ADDRESSES, scheme)
        return
    for _ in range(_ATTEMPTS):
        try:
            if address.notify(title=title, body=text, notify_type=NotifyType(seen_as), body_format=NotifyFormat.TEXT):
                reached.append(scheme)
                return
        except Exception as error:  # noqa: BLE001 - of a hundred services' code; and it is only news
            logger.warning("%s://… can't be told: %s", scheme, type(error).__name__)
    logger.warning("%s://… was not reached in %d attempts", scheme, _ATTEMPTS)
