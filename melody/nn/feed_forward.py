"""The feed-forward part of a Transformer's layer."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SwiGLU(nn.Module):
    """Gated linear unit with SiLU (Shazeer 2020, arXiv 2002.05202), without biases: ``(..., d)`` -> ``(..., d)``."""

    def __init__(self, hidden_size: int, feed_forward_size: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(hidden_size, 2 * feed_forward_size, bias=False)
        self.down = nn.Linear(feed_forward_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        output: Tensor = self.down(F.silu(gate) * up)
        return output
