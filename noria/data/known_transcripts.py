"""What is to be expected of a speaker: the transcripts of the training rows, and now and then another one.

A new voice bends letters, and the best path then spells what nobody says. Where few different things are said, as in
commands, the answer is the most probable text: of those that training rows have, or the best path's own, which counts
as much as it is likely that something new is said. That is the share of rows whose transcript no other row has (Good
1953, "The population frequencies of species and the estimation of population parameters",
doi:10.1093/biomet/40.3-4.237), with one more of them, so that it is never 0. Shapes: T frames, V characters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noria.data.ctc import greedy, log_probabilities

_MOST_LETTERS = 5_000  # of all of them, each as long as the longest: a few milliseconds a clip


@dataclass(frozen=True)
class KnownTranscripts:
    """Transcripts that may be said again; none where there are too many to try each.

    Attributes
    ----------
    texts:
        In order, each once.
    new_share:
        How likely it is that something else is said; 1 without `texts`.
    """

    texts: tuple[str, ...] = ()
    new_share: float = 1.0


def known_transcripts(transcripts: Iterable[str]) -> KnownTranscripts:
    """Of training rows."""
    counts = Counter(transcripts)
    if not counts or len(counts) * max(map(len, counts)) > _MOST_LETTERS:
        return KnownTranscripts()
    num_single = sum(count == 1 for count in counts.values())
    return KnownTranscripts(tuple(sorted(counts)), (num_single + 1) / (counts.total() + 1))


def most_probable(
    logits_TV: NDArray[np.float32], known: Sequence[Sequence[int]], *, new_share: float
) -> tuple[Sequence[int], float]:
    """The letters that were said, and the natural logarithm of their probability among all texts."""
    said = greedy(logits_TV)
    texts = [said, *known]
    log_p = log_probabilities(logits_TV, texts)
    weighed = log_p.copy()
    weighed[0] += math.log(new_share)  # where it is known, it comes again behind
    best = int(weighed.argmax())
    return texts[best], float(log_p[best])
