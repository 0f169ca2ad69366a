"""How much each branch counts, and how sure the model may sound: set on rows that it was not fitted to.

Shapes: N rows, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from noria.model.text_classifier import TextClassifier

_TEMPERATURES = np.geomspace(0.1, 10.0, 201)


def set_blend(
    model: TextClassifier, *, wide_NC: Tensor | None, deep_NC: Tensor | None, classes_N: Tensor, deep_weight: float
) -> float:
    """Set the scales of the branches; return the loss of the blend.

    Both are brought to unit spread, so that `deep_weight` means the same whatever their
    regularization, and added; one temperature then minimizes the cross entropy (Guo et al. 2017,
    arXiv:1706.04599).
    """
    wide_scale = 0.0 if wide_NC is None else 1.0 / _spread(wide_NC)
    deep_scale = 0.0 if deep_NC is None else (1.0 if wide_NC is None else deep_weight) / _spread(deep_NC)
    blended_NC = torch.zeros(())
    if wide_NC is not None:
        blended_NC = blended_NC + wide_scale * wide_NC
    if deep_NC is not None:
        blended_NC = blended_NC + deep_scale * deep_NC
    losses = [float(F.cross_entropy(factor * blended_NC, classes_N)) for factor in _TEMPERATURES]
    best = int(np.argmin(losses))
    model.wide_scale.fill_(wide_scale * _TEMPERATURES[best])
    model.deep_scale.fill_(deep_scale * _TEMPERATURES[best])
    return losses[best]


def _spread(logits_NC: Tensor) -> float:
    """Standard deviation over rows of the logits, centred over classes; 1 where all rows get the same.

    A branch that tells no rows apart, or a hold-out of one row, must not be blown up.
    """
    centred_NC = logits_NC - logits_NC.mean(-1, keepdim=True)
    spread = float(centred_NC.std(0, correction=0).mean())
    return spread if spread > 1e-6 else 1.0
