"""Logits of the branches over many rows.

Shapes: N rows, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from noria.data.ragged import Rows, pad
from noria.model.text_classifier import DeepBranch
from noria.model.wide import WideBranch

_BATCH_ROWS = 64


@torch.inference_mode()
def deep_logits(deep: DeepBranch, token_ids: Rows) -> Tensor:
    """Float32 (N, C) on the CPU, in evaluation mode."""
    deep.eval()
    device = next(deep.parameters()).device
    order = np.argsort(token_ids.lengths, kind="stable")
    parts = []
    for start in range(0, len(order), _BATCH_ROWS):
        batch = pad([token_ids[row] for row in order[start : start + _BATCH_ROWS]])
        parts.append(deep(torch.from_numpy(batch).to(device)).cpu())
    logits_NC = torch.cat(parts)
    return logits_NC[torch.from_numpy(np.argsort(order))]


@torch.inference_mode()
def wide_logits(wide: WideBranch, ids: Rows, values: Rows) -> Tensor:
    """Float32 (N, C) on the CPU."""
    device = wide.bias.device
    parts = []
    for start in range(0, len(ids), _BATCH_ROWS):
        rows = range(start, min(start + _BATCH_ROWS, len(ids)))
        parts.append(wide(*(torch.from_numpy(pad([x[row] for row in rows])).to(device) for x in (ids, values))).cpu())
    return torch.cat(parts)
