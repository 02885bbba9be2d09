"""The adapted layers of every row, their counts, and a model with them in place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from uws_core.errors import CollectionError, LayerError
from uws_core.nouns.adapting import Row
from uws_core.nouns.arrays import Floats
from uws_core.use.adapt.bases import Basis, LayerBasis
from uws_core.use.adapt.linears import (
    AdaptedLinear,
    CoreLinear,
    DiagonalLinear,
    FullLinear,
    LoraLinear,
    MixtureLinear,
    weight_of,
)


def linear_modules(model: nn.Module, basis: Basis) -> dict[str, nn.Module]:
    """The model's linear layer for each layer of the basis, by the layer's name.

    Raises:
        LayerError: layers that the model lacks, that are no linear layers, quantised, or of other shapes; names them.
    """
    modules = dict(model.named_modules())
    result, lacking, other = {}, [], []
    for each in basis.layers:
        module = modules.get(each.layer.name.removesuffix(".weight"))
        if module is None or not (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"):
            lacking.append(each.layer.name)
            continue
        weight = weight_of(module)
        if not weight.is_floating_point():
            raise LayerError(
                f"{each.layer.name} is quantised ({str(weight.dtype).removeprefix('torch.')}), which has no gradient; "
                "load the model in bfloat16 or float32"
            )
        shape = tuple(weight.shape)
        if shape != sides(each, basis):
            other.append(f"{each.layer.name} {shape[0]} x {shape[1]}, the basis {each.layer.shape}")
        result[each.layer.name] = module
    if lacking:
        known = [name for name, module in modules.items() if isinstance(module, nn.Linear)][:3]
        raise LayerError(
            f"The model has no linear layer {', '.join(lacking[:3])} ({len(lacking)} of {len(basis.layers)} layers of "
            f"the basis); its linear layers are called {', '.join(known) or 'nothing'}. Pass the model that the "
            "members were trained from, without a wrapper, or a basis of its layers alone"
        )
    if other:
        raise LayerError(
            f"The basis is of a model of other shapes: {other[0]} ({len(other)} of {len(basis.layers)} layers); pass "
            "the model that its members were trained from"
        )
    return result


def sides(basis: LayerBasis, whole: Basis) -> tuple[int, int]:
    """The layer's outputs and inputs."""
    m, p = basis.layer.shape
    return (p, m) if basis.layer.name in whole.transposed else (m, p)


def directions(basis: LayerBasis, whole: Basis, *, orthonormal: bool = True) -> tuple[Floats, Floats]:
    """Directions of the outputs and of the inputs, whichever way the layer is stored."""
    left, right = basis.orthonormal if orthonormal else (basis.left, basis.right)
    return (right, left) if basis.layer.name in whole.transposed else (left, right)


def lora_rank(basis: Basis) -> int:
    """The rank, at least 1, whose trained numbers are nearest to those of the cores."""
    cores = sum(each.k[0] * each.k[1] for each in basis.layers)
    return max(round(cores / sum(sum(each.layer.shape) for each in basis.layers)), 1)


def trainable_numbers(row: Row, basis: Basis) -> int:
    """The numbers that a row trains in the layers of a basis, without the head."""
    layers, rank = basis.layers, lora_rank(basis)
    return sum(
        {
            Row.HEAD: 0,
            Row.SHARED: each.k[0] * each.k[1],
            Row.RANDOM: each.k[0] * each.k[1],
            Row.BASE: each.k[0] * each.k[1],
            Row.LORA: rank * sum(each.layer.shape),
            Row.FULL: each.layer.entries,
            Row.DIAGONAL: min(each.k),
            Row.RANDOM_DIAGONAL: min(each.k),
            Row.MIXTURE: len(each.cores),
        }[row]
        for each in layers
    )


def row_modules(row: Row, basis: Basis, linears: Mapping[str, nn.Module], seed: int) -> dict[str, AdaptedLinear]:
    """The adapted layers of a row, by layer name; `basis` is the row's own (shared, random or of the base).

    Raises:
        CollectionError: the mixture of a basis without members.
    """
    generator = torch.Generator().manual_seed(seed)
    result: dict[str, AdaptedLinear] = {}
    for each in basis.layers if row is not Row.HEAD else ():
        name = each.layer.name
        linear = linears[name]
        weight = weight_of(linear)
        kind = weight.dtype if weight.dtype.itemsize >= 4 else torch.float32
        if row is Row.FULL:
            result[name] = FullLinear(linear, kind)
            continue
        outputs, inputs = sides(each, basis)
        if row is Row.LORA:
            down = torch.rand(lora_rank(basis), inputs, generator=generator) * 2 - 1
            result[name] = LoraLinear(linear, (down / math.sqrt(inputs)).to(weight.device, kind), outputs)
            continue
        of_pairs = row in (Row.DIAGONAL, Row.RANDOM_DIAGONAL, Row.MIXTURE)
        pair = directions(each, basis, orthonormal=not of_pairs)
        left, right = (torch.from_numpy(side.copy()).to(weight.device, kind) for side in pair)
        if row is Row.MIXTURE:
            if not len(each.cores):
                raise CollectionError("The mixture row needs a basis with members; give a compressed folder")
            cores = torch.from_numpy(each.cores.copy()).to(weight.device, kind)
            cores = cores.transpose(1, 2) if name in basis.transposed else cores
            result[name] = MixtureLinear(linear, left, right, cores)
        else:
            result[name] = (DiagonalLinear if of_pairs else CoreLinear)(linear, left, right)
    return result


@contextmanager
def adapted(
    model: nn.Module, modules: Mapping[str, AdaptedLinear], head: Sequence[str]
) -> Iterator[dict[str, nn.Parameter]]:
    """The model with these layers in place, everything but their coefficients and the head frozen.

    Gives the trained parameters by name. Afterwards the model is as it was, its head too.

    Raises:
        LayerError: a name in `head` that the model does not have.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if in_head(name, head)}
    absent = [part for part in head if not any(in_head(name, [part]) for name in trained)]
    if absent:
        last = [name for name, _ in model.named_parameters()][-4:]
        raise LayerError(f"The model has no parameters {', '.join(absent)} to train as its head; its last are {last}")
    needed = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    originals = {name: module.linear for name, module in modules.items()}
    plain = dict(model.named_parameters())
    try:
        with own_modes(model):
            model.requires_grad_(False)
            for parameter in trained.values():
                parameter.requires_grad_(True)
            for name, module in modules.items():
                _place(model, name, module)
                trained |= {f"{name}/{part}": value for part, value in module.coefficients().items()}
            yield trained
    finally:
        for name, linear in originals.items():
            _place(model, name, linear)
        with torch.no_grad():
            for name, value in before.items():
                plain[name].copy_(value)
        for name, wanted in needed.items():
            plain[name].requires_grad_(wanted)
            plain[name].grad = None


@contextmanager
def own_modes(model: nn.Module) -> Iterator[None]:
    """Afterwards every module is in training mode, or not, as it was."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def in_head(name: str, head: Sequence[str]) -> bool:
    """Whether a parameter belongs to the modules or parameters that are named as the head."""
    return any(name == part or name.startswith(f"{part}.") for part in head)


def _place(model: nn.Module, layer: str, module: nn.Module) -> None:
    path = layer.removesuffix(".weight")
    parent, _, own = path.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
