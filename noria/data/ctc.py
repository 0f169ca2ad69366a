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


def log_probabilities(logits_TV: NDArray[np.float32], texts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Natural logarithm of the probability of each of K texts: the sum over all alignments (the forward variable, 4.1).

    `logits_TV` are log-probabilities. A text that needs more frames than there are has probability 0. Shapes:
    P places, letters with a blank before, between and behind.
    """
    num_places_K = 2 * np.array([len(text) for text in texts]) + 1
    spaced_KP = np.full((len(texts), int(num_places_K.max())), BLANK)
    for places_P, text in zip(spaced_KP, texts, strict=True):
        places_P[1 : 2 * len(text) : 2] = text
    may_skip_KP = np.zeros(spaced_KP.shape, bool)  # from the letter before: not where the two are the same
    may_skip_KP[:, 3::2] = spaced_KP[:, 3::2] != spaced_KP[:, 1:-2:2]
    frames_TV = logits_TV.astype(np.float64)
    forward_KP = np.full(spaced_KP.shape, -np.inf)
    forward_KP[:, :2] = frames_TV[0, spaced_KP[:, :2]]
    one_KP, two_KP = np.full_like(forward_KP, -np.inf), np.full_like(forward_KP, -np.inf)
    for frame_V in frames_TV[1:]:
        one_KP[:, 1:] = forward_KP[:, :-1]
        two_KP[:, 2:] = np.where(may_skip_KP[:, 2:], forward_KP[:, :-2], -np.inf)
        forward_KP = np.logaddexp(np.logaddexp(forward_KP, one_KP), two_KP) + frame_V[spaced_KP]
    last_K = np.arange(len(texts)), num_places_K - 1
    letter_K = last_K[0], np.maximum(num_places_K - 2, 0)
    ended_K = np.where(num_places_K > 1, forward_KP[letter_K], -np.inf)
    return np.asarray(np.logaddexp(forward_KP[last_K], ended_K))
