"""A tiny vision transformer as a plain function of its weights.

The network is Dosovitskiy et al. 2021 (arXiv 2010.11929) with normalisation before each sub-layer, cut down to 8 x 8
images: 2 x 2 patches give 16 tokens of width 32, then 3 blocks of 4 heads and a 64-wide MLP. No class token: a
classifier reads the mean of the tokens, a reconstruction reads every token. Weights carry the names people know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 8
PATCH = 2
TOKENS = (SIDE // PATCH) ** 2
WIDTH = 32
DEPTH = 3
HEADS = 4
HIDDEN = 64
# Spread of the position embedding at the start, beside patches of spread 1. At the usual 0.02 the order of the patches
# is learned late: 93 % of the digits right after 30 epochs instead of 97 %.
POSITION_STD = 0.3

Weights = dict[str, Tensor]


def block_matrices() -> dict[str, tuple[int, int]]:
    """The 18 matrices every network of this architecture has whatever its head: name to shape (m, p)."""
    shapes: dict[str, tuple[int, int]] = {}
    for depth in range(DEPTH):
        shapes |= {f"blocks.{depth}.attn.{part}.weight": (WIDTH, WIDTH) for part in "qkvo"}
        shapes[f"blocks.{depth}.mlp.up.weight"] = (HIDDEN, WIDTH)
        shapes[f"blocks.{depth}.mlp.down.weight"] = (WIDTH, HIDDEN)
    return shapes


def initialise(generator: torch.Generator, *, outputs: int) -> Weights:
    """Fresh float32 weights: normal matrices of variance 1 / inputs, zero biases, and a head of `outputs` rows."""
    weights: Weights = {
        "patch_embed.proj.weight": _normal((WIDTH, 1, PATCH, PATCH), generator, std=1 / PATCH),
        "patch_embed.proj.bias": torch.zeros(WIDTH),
        "pos_embed": _normal((TOKENS, WIDTH), generator, std=POSITION_STD),
    }
    for name, (m, p) in block_matrices().items():
        weights[name] = _normal((m, p), generator, std=1 / math.sqrt(p))
        weights[name.replace(".weight", ".bias")] = torch.zeros(m)
    norms = [f"blocks.{depth}.{norm}" for depth in range(DEPTH) for norm in ("norm1", "norm2")]
    for norm in (*norms, "norm"):
        weights[f"{norm}.weight"] = torch.ones(WIDTH)
        weights[f"{norm}.bias"] = torch.zeros(WIDTH)
    return weights | fresh_head(generator, outputs=outputs)


def fresh_head(generator: torch.Generator, *, outputs: int) -> Weights:
    """A new task head: `head.weight` (outputs, width) and `head.bias` (outputs,)."""
    weight = _normal((outputs, WIDTH), generator, std=1 / math.sqrt(WIDTH))
    return {"head.weight": weight, "head.bias": torch.zeros(outputs)}


def forward(weights: Mapping[str, Tensor], images: Tensor, *, per_token: bool = False) -> Tensor:
    """The head's outputs for `images` (b, 8, 8): (b, outputs), or (b, 16, outputs) when every token is read."""
    tokens = functional.conv2d(
        images[:, None], weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=PATCH
    )
    tokens = tokens.flatten(2).transpose(1, 2) + weights["pos_embed"]
    for depth in range(DEPTH):
        block = f"blocks.{depth}"
        tokens = tokens + _attention(weights, f"{block}.attn", _norm(weights, f"{block}.norm1", tokens))
        hidden = functional.gelu(_linear(weights, f"{block}.mlp.up", _norm(weights, f"{block}.norm2", tokens)))
        tokens = tokens + _linear(weights, f"{block}.mlp.down", hidden)
    tokens = _norm(weights, "norm", tokens)
    return _linear(weights, "head", tokens if per_token else tokens.mean(1))


def patches(images: Tensor) -> Tensor:
    """The pixels of every patch of `images` (b, 8, 8), in the order of the tokens: (b, 16, 4)."""
    return functional.unfold(images[:, None], PATCH, stride=PATCH).transpose(1, 2)


def _attention(weights: Mapping[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    q, k, v = (
        _linear(weights, f"{name}.{part}", tokens).view(*tokens.shape[:2], HEADS, -1).transpose(1, 2) for part in "qkv"
    )
    mixed = functional.scaled_dot_product_attention(q, k, v)
    return _linear(weights, f"{name}.o", mixed.transpose(1, 2).flatten(2))


def _linear(weights: Mapping[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    return functional.linear(tokens, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: Mapping[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    return functional.layer_norm(tokens, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"])


def _normal(shape: tuple[int, ...], generator: torch.Generator, *, std: float) -> Tensor:
    # Rounded to float16 at once: the untrained collection ships in float16 and so is exactly where training began.
    return (torch.randn(shape, generator=generator) * std).half().float()
