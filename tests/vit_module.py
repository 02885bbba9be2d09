"""The built-in vision transformer as a torch module, with the names that its weights and adapters have."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from uws_core.zoo import vit


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(vit.WIDTH, vit.WIDTH) for _ in "qkvo")

    def forward(self, x: Tensor) -> Tensor:
        parts = [part(x).unflatten(-1, (vit.HEADS, -1)).transpose(1, 2) for part in (self.q, self.k, self.v)]
        scores = parts[0] @ parts[1].transpose(-2, -1) / math.sqrt(vit.WIDTH // vit.HEADS)
        return self.o((scores.softmax(-1) @ parts[2]).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(vit.WIDTH), nn.LayerNorm(vit.WIDTH)
        self.attn = Attention()
        self.mlp = nn.ModuleDict({"up": nn.Linear(vit.WIDTH, vit.HIDDEN), "down": nn.Linear(vit.HIDDEN, vit.WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["down"](functional.gelu(self.mlp["up"](self.norm2(x))))


class Vit(nn.Module):
    """`vit.forward` as a module; its head has as many outputs as the weights given."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, vit.WIDTH, vit.PATCH, stride=vit.PATCH)})
        self.pos_embed = nn.Parameter(torch.zeros(vit.TOKENS, vit.WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(vit.DEPTH))
        self.norm = nn.LayerNorm(vit.WIDTH)
        self.head = nn.Linear(vit.WIDTH, weights["head.bias"].numel())
        self.load_state_dict(dict(weights))
        self.requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        """What the head reads, (b, width)."""
        x = self.patch_embed["proj"](images[:, None]).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x).mean(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
