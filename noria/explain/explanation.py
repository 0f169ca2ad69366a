"""What an explanation holds, whatever the scenario.

Shapes: H heads, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Token:
    """One token and its share in the answer.

    Attributes
    ----------
    text, start, end:
        Its characters, and where they stand in the normalized text.
    parts:
        What it adds to the score, by branch of the model.
    rollout:
        Share of the attention that reaches it through all layers; None without a Transformer.
    """

    text: str
    start: int
    end: int
    parts: Mapping[str, float]
    rollout: float | None

    @property
    def contribution(self) -> float:
        """What it adds to the score."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Explanation:
    """An answer, taken apart: score = base + rest + the contributions of the tokens, up to `residual`.

    Attributes
    ----------
    label, scores:
        The answer, and the probability of each label.
    score:
        Logit of the answer less the mean logit of the other labels: with two labels, the log-odds.
    base:
        The same with every token hidden.
    rest:
        What characters outside of all tokens add: white space, and the middle of a text that is too long.
    attention:
        Weights (H, T, T) of each layer: row by column is how much a token takes from another.
    """

    label: str
    scores: Mapping[str, float]
    score: float
    base: float
    rest: float
    tokens: tuple[Token, ...]
    attention: tuple[NDArray[np.float32], ...]

    @property
    def residual(self) -> float:
        """What the numerical integration left over; close to 0."""
        return self.score - self.base - self.rest - sum(token.contribution for token in self.tokens)

    def as_json(self) -> dict[str, Any]:
        """Everything but the maps, as JSON takes it."""
        return {
            "label": self.label,
            "scores": dict(self.scores),
            "score": self.score,
            "base": self.base,
            "rest": self.rest,
            "residual": self.residual,
            "tokens": [{**asdict(token), "contribution": token.contribution} for token in self.tokens],
        }
