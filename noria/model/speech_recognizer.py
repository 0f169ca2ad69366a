"""Log-mel frames to characters: convolutional frontend, encoder, and a distribution over letters for every frame.

Shapes: B batch, T frames, U = ceil(T / 4) frames behind the frontend, F mel bands, D model dimension,
V characters with the blank (0).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noria.config import ModelConfig
from noria.model.frontends import AudioFrontend
from noria.model.layers import Linear
from noria.model.transformer import Encoder

_NEVER, _SURELY = -20.0, 0.0


class SpeechRecognizer(nn.Module):
    """For the loss of Graves et al. 2006, "Connectionist Temporal Classification".

    `compute_dtype` is the precision of the activations; parameters stay float32, and so do logits.
    """

    def __init__(self, config: ModelConfig, *, num_mels: int, num_letters: int) -> None:
        super().__init__()
        self.compute_dtype = torch.float32
        self.frontend = AudioFrontend(config, num_mels=num_mels)
        self.encoder = Encoder(config)
        self.head = Linear(config.dim, num_letters, gain=0.3, bias=True)

    def forward(self, mel: Tensor, num_frames: Tensor) -> Tensor:
        """Log-probabilities float32 (B, U, V); behind the end of a clip the blank is certain.

        Parameters
        ----------
        mel:
            float32 (B, T, F).
        num_frames:
            int64 (B): real frames; the others are padding.
        """
        x_BUD, real_BU = self.frontend(mel.to(self.compute_dtype), num_frames)
        x_BUD = self.encoder(x_BUD, real_BU)
        logits_BUV = self.head(x_BUD).float().log_softmax(-1)
        is_blank_V = torch.arange(logits_BUV.shape[-1], device=mel.device) == 0
        ended_V = torch.where(is_blank_V, _SURELY, _NEVER)
        return torch.where(real_BU[..., None], logits_BUV, ended_V)
