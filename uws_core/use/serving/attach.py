"""The door: a model and a compressed folder become a model that serves every member."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from uws_core.use.compressed_folder import CompressedFolder, open_compressed
from uws_core.use.serving.served import Served


def attach(
    model: nn.Module,
    compressed: str | Path | CompressedFolder,
    *,
    dtype: torch.dtype | None = None,
    own: bool = True,
    check_base: bool = True,
) -> Served:
    """Returns a handle that serves the members of a compressed folder from one model; see `Served`.

    The model's linear layers are replaced in place by ones that hold U and V once and all members' cores in one
    table: `y = W x + U c_i(V^T x)`. Layers are found by name as PEFT names them. `dtype` is that of bases and cores, by
    default that of each layer's weight. `own` serves what members have beside the compressed layers (heads, biases,
    norms) too; without it they share the model's. Members stored about their mean bring that mean along, one more
    matrix a layer.

    Raises:
        LayerError: the model lacks a layer, or has it in another shape or as no linear layer.
        CollectionError: another base, or a member with a tensor that the model cannot take.
        UnreadableFile: no such folder, or it is damaged.
    """
    source = compressed if isinstance(compressed, CompressedFolder) else open_compressed(compressed)
    return Served(model, source, dtype=dtype, own=own, check_base=check_base)
