"""How far a merge lies from its members, their mean and the base: sums of squares gathered while it is formed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uws_core.nouns.merging import MergedLayer
from uws_core.nouns.models import LayerKey
from uws_core.use.merge.factors import Factors, Thin

# Of tensors with more entries every eighth piece is measured: distances are then known to about 0.2 %.
_MANY, _EVERY = 1 << 22, 8
# Squared lengths below this share of what they are the difference of are rounding, in float64.
_ROUNDING = 1e-14


class Sums:
    """Squared norms and distances of one tensor's merge, added piece by piece.

    Everything is taken about the members' mean, so that the small differences of near copies survive float32.
    """

    def __init__(self, n: int, entries: int) -> None:
        self._n, self._stride, self._met = n, _EVERY if entries > _MANY else 1, 0
        self._entries, self._measured = entries, 0
        # For the members and the merge: squared length about the mean, product with the mean; then |mean|^2.
        self._away2, self._along = np.zeros(n + 1), np.zeros(n + 1)
        self._across, self._mean2 = np.zeros(n), 0.0

    def add(self, updates: Tensor, merged: Tensor) -> None:
        """Adds a piece: the updates (n, ...) and the merged update (...), both about the base."""
        self._met += 1
        if (self._met - 1) % self._stride:
            return
        flat, point = updates.reshape(self._n, -1), merged.reshape(-1)
        mean = flat.mean(0)
        away = flat.new_empty(self._n + 1, flat.shape[1])
        torch.sub(flat, mean, out=away[:-1])
        torch.sub(point, mean, out=away[-1])
        products = (away @ torch.stack([mean, away[-1]]).T).double().numpy()
        self._along += products[:, 0]
        self._across += products[:-1, 1]
        self._away2 += torch.linalg.vector_norm(away, dim=1).double().square().numpy()
        self._mean2 += float(mean @ mean)
        self._measured += mean.numel()

    def absorb(self, other: Sums) -> None:
        """Adds what another has gathered of the same tensor's pieces."""
        self._away2, self._along = self._away2 + other._away2, self._along + other._along
        self._across, self._mean2 = self._across + other._across, self._mean2 + other._mean2
        self._measured += other._measured

    def layer(self, key: LayerKey, *, scale: float) -> MergedLayer:
        """Returns the layer whose merge is `scale` times what was added."""
        up = self._entries / max(self._measured, 1)
        members2 = (self._mean2 + 2 * self._along[:-1] + self._away2[:-1]).clip(0) * up
        mean2 = self._mean2 * up
        # The merge at scale 1 about the mean: (length, along the mean, across the members).
        own2, along = self._away2[-1] * up, self._along[-1] * up
        norm2 = max(mean2 + 2 * along + own2, 0.0)
        # scale * merge - mean = scale * (merge - mean) + (scale - 1) * mean
        rest = scale - 1
        to_mean2 = scale**2 * own2 + 2 * scale * rest * along + rest**2 * mean2
        toward = scale * self._across * up + rest * self._along[:-1] * up
        to_members2 = to_mean2 - 2 * toward + self._away2[:-1] * up
        return MergedLayer(
            layer=key,
            norm2=scale**2 * norm2,
            mean_norm2=mean2,
            member_norms2=members2,
            to_mean2=max(to_mean2, 0.0),
            to_members2=np.clip(to_members2, 0.0, None),
        )


def of_thin(key: LayerKey, factors: Factors, written: Thin, *, lost2: float, rank: int) -> MergedLayer:
    """Returns the layer of a merged adapter, measured in thin factors: `written` with its scale, after the cut."""
    inner, norm2 = np.array([written.inner(part) for part in factors.parts]), written.norm2
    members2 = np.diag(factors.products).clip(0)
    mean2 = max(float(factors.products.mean()), 0.0)
    return MergedLayer(
        layer=key,
        norm2=norm2,
        mean_norm2=mean2,
        member_norms2=members2,
        to_mean2=_difference(norm2, mean2, float(inner.mean())),
        to_members2=np.array([_difference(norm2, own, toward) for own, toward in zip(members2, inner, strict=True)]),
        rank=rank,
        lost2=lost2,
    )


def _difference(a2: float, b2: float, inner: float) -> float:
    found = a2 + b2 - 2 * inner
    return found if found > _ROUNDING * (a2 + b2) else 0.0
