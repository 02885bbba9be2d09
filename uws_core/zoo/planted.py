"""Synthetic weights whose shared subspace is known: the spiked covariance model, drawn layer by layer.

Model i's layer is `mean + sum_k strength_k score_ik direction_k + noise`, with orthonormal directions (of R^d) and
scores (of R^n, each summing to 0, the same in every layer). Strengths are chosen so that the population covariance
of the models has the eigenvalues `SPIKES` above noise 1. A spike is seen when it exceeds `1 + sqrt(n / d)` (Baik, Ben
Arous and Peche 2005, doi:10.1214/009117905000000233): at most 1.2 here, so all six stand far clear of the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MODELS = 40
SHAPES = {
    "blocks.0.attn.q.weight": (32, 32),
    "blocks.0.mlp.up.weight": (64, 32),
    "blocks.0.mlp.down.weight": (32, 64),
}
SPIKES = (20.0, 16.0, 13.0, 10.0, 8.0, 7.0)
NOISE_STD = 0.02
MEAN_STD = 0.1


@dataclass(frozen=True)
class Planted:
    """`models[i][layer]` (m, p); `directions[layer]` (6, m, p) orthonormal; `scores` (n, 6) orthonormal columns."""

    models: list[dict[str, Tensor]]
    directions: dict[str, Tensor]
    means: dict[str, Tensor]
    scores: Tensor


def plant(generator: torch.Generator) -> Planted:
    """Draw the collection and its truth."""
    count = len(SPIKES)
    raw = torch.randn((MODELS, count), generator=generator, dtype=torch.float64)
    scores = torch.linalg.qr(raw - raw.mean(0)).Q.contiguous()
    models: list[dict[str, Tensor]] = [{} for _ in range(MODELS)]
    directions, means = {}, {}
    for layer, (m, p) in SHAPES.items():
        d = m * p
        basis = torch.linalg.qr(torch.randn((d, count), generator=generator, dtype=torch.float64)).Q.T
        # The scores have unit columns, so a spike l adds (l - 1) noise energies of one direction, each d NOISE_STD^2.
        strengths = NOISE_STD * torch.tensor([math.sqrt((spike - 1) * d) for spike in SPIKES], dtype=torch.float64)
        mean = MEAN_STD * torch.randn(d, generator=generator, dtype=torch.float64)
        noise = NOISE_STD * torch.randn((MODELS, d), generator=generator, dtype=torch.float64)
        for model, row in zip(models, mean + scores * strengths @ basis + noise, strict=True):
            model[layer] = row.reshape(m, p).float()
        directions[layer] = basis.reshape(count, m, p).float()
        means[layer] = mean.reshape(m, p).float()
    return Planted(models, directions, means, scores)
