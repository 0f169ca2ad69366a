"""Connectionist temporal classification, read back: the best text of a frame-by-frame answer, and how sure it is.

Graves et al. 2006, "Connectionist Temporal Classification" (doi:10.1145/1143844.1143891). Plain numpy:
a bundle is served without torch. Shapes: T frames, V characters with the blank (0), L letters of a text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLANK = 0


def greedy(logits_TV: NDArray[np.float32]) -> list[int]:
    """The most probable character of every frame, repeats joined and blanks left out.

    Frames behind the end of a clip say blank, so no length is needed.
    """
    best_T = logits_TV.argmax(axis=1)
    changed_T = np.concatenate(([True], best_T[1:] != best_T[:-1]))
    return [int(letter) for letter in best_T[changed_T] if letter != BLANK]


def log_probability(logits_TV: NDArray[np.float32], letters: Sequence[int]) -> float:
    """Natural logarithm of the probability of a text: the sum over all alignments (the forward variable, 4.1).

    `logits_TV` are log-probabilities. A text that needs more frames than there are has probability 0.
    """
    spaced = np.full(2 * len(letters) + 1, BLANK)
    spaced[1::2] = letters
    may_skip = np.zeros(len(spaced), bool)  # from the letter before: not where the two are the same
    may_skip[3::2] = spaced[3::2] != spaced[1:-2:2]
    frames_TP = logits_TV.astype(np.float64)[:, spaced]
    forward = np.full(len(spaced), -np.inf)
    forward[:2] = frames_TP[0, :2]
    for frame_P in frames_TP[1:]:
        one = np.concatenate(([-np.inf], forward[:-1]))
        two = np.where(may_skip, np.concatenate(([-np.inf, -np.inf], forward[:-2]))[: len(spaced)], -np.inf)
        forward = np.logaddexp(np.logaddexp(forward, one), two) + frame_P
    return float(np.logaddexp.reduce(forward[-2:]))
