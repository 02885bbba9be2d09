"""The 29 kinds of models that share no direction, as weights (n, m, p): what a null must not alarm on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Kind = Callable[[np.random.Generator], np.ndarray]
N, M, P = 24, 48, 48


def _normal(rng: np.random.Generator, m: int = M, p: int = P) -> np.ndarray:
    return rng.standard_normal((N, m, p))


def _scales(rng: np.random.Generator, size: float, *shape: int) -> np.ndarray:
    return np.exp(size * rng.standard_normal(shape))


def _orthogonal(rng: np.random.Generator, m: int = M, p: int = P) -> np.ndarray:
    return np.stack([np.linalg.qr(rng.standard_normal((m, p)))[0] for _ in range(N)])


def _student(rng: np.random.Generator, dof: float) -> np.ndarray:
    return rng.standard_t(dof, (N, M, P))


def _lora(rng: np.random.Generator, rank: int, *, decay: bool = False) -> np.ndarray:
    sizes = 1 / np.arange(1, rank + 1) if decay else np.ones(rank)
    return np.stack([(rng.standard_normal((M, rank)) * sizes) @ rng.standard_normal((rank, P)) for _ in range(N)])


def _bfloat16(values: np.ndarray) -> np.ndarray:
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


def _rounded_steps(rng: np.random.Generator, *, base_rounded: bool) -> np.ndarray:
    base = rng.standard_normal((M, P))
    base = _bfloat16(base) if base_rounded else base
    return _bfloat16(base + 1e-3 * _normal(rng))


def _correlated(rng: np.random.Generator, values: np.ndarray, *, rows: bool) -> np.ndarray:
    turn = np.linalg.qr(rng.standard_normal((P, P)))[0] * np.sqrt(1 / np.arange(1, P + 1))
    return turn @ values if rows else values @ turn.T


def _int4(rng: np.random.Generator) -> np.ndarray:
    values = _normal(rng)
    step = np.abs(values).max(axis=(1, 2), keepdims=True) / 7
    return np.round(values / step) * step


def _smooth_kernels(rng: np.random.Generator) -> np.ndarray:
    weights = rng.standard_normal((N, M, 5, 3, 3))
    weights = (weights + np.roll(weights, 1, axis=3) + np.roll(weights, 1, axis=4)) / 3
    return weights.reshape(N, M, 45)


KINDS: dict[str, Kind] = {
    "iid normal": _normal,
    "row scales e^.5 shared": lambda rng: _scales(rng, 0.5, 1, M, 1) * _normal(rng),
    "row scales e^1 shared": lambda rng: _scales(rng, 1, 1, M, 1) * _normal(rng),
    "rows+cols e^.5 shared": lambda rng: _scales(rng, 0.5, 1, M, 1) * _scales(rng, 0.5, 1, 1, P) * _normal(rng),
    "entry scales e^1 shared": lambda rng: _scales(rng, 1, 1, M, P) * _normal(rng),
    "row scales e^1 own": lambda rng: _scales(rng, 1, N, M, 1) * _normal(rng),
    "orthogonal square": _orthogonal,
    "orthogonal 64x16": lambda rng: _orthogonal(rng, 64, 16),
    "orthogonal, gains differ": lambda rng: _orthogonal(rng) * rng.uniform(0.5, 2, (N, 1, 1)),
    "student t3": lambda rng: _student(rng, 3),
    "student t2": lambda rng: _student(rng, 2),
    "student t3, outlier cols shared": lambda rng: _student(rng, 3) * np.where(np.arange(P) % 12 == 0, 8.0, 1.0),
    "LoRA r=8": lambda rng: _lora(rng, 8),
    "LoRA r=1": lambda rng: _lora(rng, 1),
    "LoRA r=8 decaying": lambda rng: _lora(rng, 8, decay=True),
    "mask 90 % shared": lambda rng: _normal(rng) * (rng.random((1, M, P)) < 0.1),
    "mask 90 % own": lambda rng: _normal(rng) * (rng.random((N, M, P)) < 0.1),
    "rows of norm 1 (weight norm)": lambda rng: (lambda w: w / np.linalg.norm(w, axis=2, keepdims=True))(_normal(rng)),
    "norms equal": lambda rng: (lambda w: w / np.linalg.norm(w, axis=(1, 2), keepdims=True))(_normal(rng)),
    "LayerNorm gains 1+.1e": lambda rng: 1 + 0.1 * rng.standard_normal((N, 1, 768)),
    "positive, own means": lambda rng: np.abs(_normal(rng)) * rng.uniform(0.5, 1.5, (N, 1, 1)),
    "int4 per tensor": _int4,
    "bf16 of base + 1e-3": lambda rng: _rounded_steps(rng, base_rounded=False),
    "bf16 of bf16 base + 1e-3": lambda rng: _rounded_steps(rng, base_rounded=True),
    "inputs correlated (1/k), shared": lambda rng: _correlated(rng, _normal(rng), rows=False),
    "both sides correlated (1/k), shared": lambda rng: _correlated(
        rng, _correlated(rng, _normal(rng), rows=False), rows=True
    ),
    "norms e^.5, iid": lambda rng: _scales(rng, 0.5, N, 1, 1) * _normal(rng),
    "embedding: Zipf row strengths": lambda rng: (1 / np.arange(1, 201))[None, :, None] * _normal(rng, 200, 16),
    "conv 3x3 smooth kernels": _smooth_kernels,
}
# What flipped blocks do not cover (docs/chance.md); rows and columns together cover one-sided correlations.
NOT_COVERED = {"positive, own means", "both sides correlated (1/k), shared"}
