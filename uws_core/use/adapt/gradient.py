"""Is a basis worth it for this task? The share of one batch's gradient that each subspace holds, before training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from uws_core.analysis.adapt import gradient_share, random_shares
from uws_core.errors import TrainingError
from uws_core.nouns.adapting import GradientShare
from uws_core.nouns.arrays import Floats
from uws_core.use.adapt.bases import Basis, base_svd, from_compressed
from uws_core.use.adapt.linears import weight_of
from uws_core.use.adapt.modules import directions, linear_modules, own_modes
from uws_core.use.adapt.options import Batch, Loss
from uws_core.use.adapt.training import checked_loss
from uws_core.use.compressed_folder import CompressedFolder

# Random subspaces drawn for the 95 % line; fewer in large layers, where each takes two QR decompositions.
_DRAWS, _FEW_DRAWS, _LARGE = 200, 20, 2**20
_UNKNOWN = (float("nan"), float("nan"), float("nan"))


def captured_gradient(
    model: nn.Module,
    basis: Basis | CompressedFolder,
    *,
    loss: Loss,
    batch: Batch,
    seed: int = 0,
) -> tuple[GradientShare, ...]:
    """Returns what the basis holds of one batch's gradient in every layer, beside chance and the base's directions.

    The gradient is that of the layers' weights at the model as it is, without dropout; the share counts what a core
    `U C V^T` can use of it. Chance is `k_out k_in / (m p)`.

    Raises:
        LayerError: the basis does not fit the model.
        TrainingError: the loss is no number, or does not depend on the layers.
    """
    basis = from_compressed(basis) if isinstance(basis, CompressedFolder) else basis
    linears = linear_modules(model, basis)
    gradients = _gradients(model, linears, loss, batch)
    weights = {name: weight_of(linear).detach().double().cpu().numpy() for name, linear in linears.items()}
    # The base's directions, in the orientation of the layers as they are computed.
    turned = {name: weight.T if name in basis.transposed else weight for name, weight in weights.items()}
    own = {each.layer.name: each for each in base_svd(basis, turned).layers}
    generator = np.random.default_rng(seed)
    shares = []
    for each in basis.layers:
        name = each.layer.name
        gradient = gradients[name]
        left, right = directions(each, basis)
        k = (left.shape[1], right.shape[1])
        draws = _DRAWS if gradient.size <= _LARGE else _FEW_DRAWS
        random = random_shares(gradient, k, draws=draws, generator=generator)
        known = each.member_shares[np.isfinite(each.member_shares)]
        shares.append(
            GradientShare(
                layer=each.layer.short,
                k=k,
                shared=gradient_share(gradient, left, right),
                base=gradient_share(gradient, *directions(own[name], basis)),
                chance=k[0] * k[1] / gradient.size,
                chance_high=float(np.quantile(random, 0.95)),
                members=(float(known.min()), float(np.median(known)), float(known.max())) if known.size else _UNKNOWN,
                norm2=float(np.square(gradient).sum()),
            )
        )
    return tuple(shares)


def _gradients(model: nn.Module, linears: Mapping[str, nn.Module], loss: Loss, batch: object) -> dict[str, Floats]:
    """Gradients (outputs, inputs) in float64; the model's own gradients and flags stay as they were."""
    weights = {name: linear.weight for name, linear in linears.items()}
    parameters = [weight for weight in weights.values() if isinstance(weight, nn.Parameter)]
    needed = [(weight, weight.requires_grad) for weight in parameters]
    try:
        for weight in parameters:
            weight.requires_grad_(True)
        with own_modes(model):
            model.eval()
            value = checked_loss(loss(model, batch))
            found = torch.autograd.grad(value, parameters, allow_unused=True)
    finally:
        for weight, wanted in needed:
            weight.requires_grad_(wanted)
    unused = [name for name, gradient in zip(weights, found, strict=True) if gradient is None]
    if unused:
        raise TrainingError(
            f"The loss does not depend on {', '.join(unused[:3])} ({len(unused)} of {len(weights)} layers); take a "
            "basis without them"
        )
    result = {}
    for (name, linear), gradient in zip(linears.items(), found, strict=True):
        plain = gradient.T if type(linear).__name__ == "Conv1D" else gradient
        result[name] = plain.double().cpu().numpy()
    return result
