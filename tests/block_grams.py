"""Grams with blocks, made from dense arrays: what the pass must give."""

from __future__ import annotations

import numpy as np

from tests.planted import entry_stats_of
from uws_core.nouns.block_grams import BlockGrams
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import LayerKey


def blocks_of(weights: np.ndarray, *, most: int = 64) -> BlockGrams:
    """The blocks of weights (n, m, p), about their mean; float64."""
    mean = weights.mean(axis=0)
    stack = np.concatenate([weights - mean, mean[None]])

    def view(values: np.ndarray) -> np.ndarray:
        height = -(-values.shape[1] // most)
        parts = [values[:, start : start + height] for start in range(0, values.shape[1], height)]
        return np.stack([np.einsum("iab,jab->ij", part, part) for part in parts])

    return BlockGrams(view(stack), view(stack.transpose(0, 2, 1)), len(weights))


def gram_of(weights: np.ndarray, *, most: int = 64) -> Gram:
    """The Gram of weights (n, m, p) with its blocks."""
    n, m, p = weights.shape
    blocks = blocks_of(weights, most=most)
    total = blocks.rows.sum(axis=0)
    return Gram(
        layers=(LayerKey("layer", (m, p)),),
        labels=tuple(f"m{i}" for i in range(n)),
        values=total[:n, :n],
        to_center=total[:n, -1],
        center_norm2=float(total[-1, -1]),
        d=m * p,
        floor=1e-12 * float(np.trace(total[:n, :n])),
        entry_stats=entry_stats_of(weights.reshape(n, -1)),
        blocks=blocks,
    )
