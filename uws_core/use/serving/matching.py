"""Finds the layers of a compressed folder in a model, by name, and loads what they hold for all members."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from uws_core.errors import CollectionError, LayerError, SourceError
from uws_core.nouns.models import ModelRef
from uws_core.nouns.storage import LayerPlan
from uws_core.sources.base import on_hub
from uws_core.sources.opening import open_source
from uws_core.use.compressed_folder import CompressedFolder
from uws_core.use.serving.modules import OwnWeights, SharedLinear, SharedParts

_PEFT_PREFIX = "base_model.model."
_WITHOUT_OWN = "attach with own=False to serve the compressed layers alone, or rebuild the member"
# Their forward reads the weights of its linear layers instead of calling them.
_READS_WEIGHTS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


@dataclass(frozen=True)
class ServedLayer:
    """A compressed layer and the module that it belongs to.

    `turned` says that the folder has it as inputs x outputs; `size` is (outputs, inputs).
    """

    plan: LayerPlan
    path: str
    module: nn.Module
    turned: bool

    @property
    def size(self) -> tuple[int, int]:
        """Outputs and inputs."""
        m, p = self.plan.layer.shape
        return (p, m) if self.turned else (m, p)


def served_layers(model: nn.Module, source: CompressedFolder) -> tuple[ServedLayer, ...]:
    """The folder's layers in the model.

    Raises:
        LayerError: the model lacks a layer, has it in another shape or as no linear layer, or serves members already.
    """
    if not isinstance(model, nn.Module):
        raise LayerError(
            f"Members are served from a torch module, found a {type(model).__name__}; load the model first, such as "
            "with AutoModelForCausalLM.from_pretrained"
        )
    modules = dict(model.named_modules(remove_duplicate=False))
    if any(isinstance(module, SharedLinear | OwnWeights) for module in modules.values()):
        raise LayerError("This model serves members already; call `detach()` on its handle first")
    adapters, turned = source.index["kind"] == "adapters", set(source.index["transposed"])
    layers, problems, taken = [], [], dict[int, str]()
    for plan in source.plans:
        path = plan.layer.name.removesuffix(".weight")
        module = modules.get(path)
        if module is None:
            near = get_close_matches(path, [name for name in modules if _is_linear(modules[name])], 1, cutoff=0)
            problems.append(f"{path} is not there" + (f" (the model has {near[0]})" if near else ""))
            continue
        if not _is_linear(module):
            problems.append(f"{path} is a {type(module).__name__}, no linear layer")
            continue
        parent = modules[path.rpartition(".")[0]]
        if isinstance(parent, _READS_WEIGHTS):
            problems.append(f"{path} is part of a {type(parent).__name__}, which reads its weight without calling it")
            continue
        layer = ServedLayer(plan, path, module, plan.layer.name in turned if adapters else _is_conv1d(module))
        if layer.size != linear_size(module):
            problems.append(f"{path} is {_times(linear_size(module))} in the model, {_times(layer.size)} in the folder")
            continue
        if id(module) in taken:
            problems.append(f"{path} and {taken[id(module)]} are one module in the model")
            continue
        taken[id(module)] = path
        layers.append(layer)
    if problems:
        way_out = (
            "This is PEFT's wrapper; give the model inside, `model.unload()`"
            if _PEFT_PREFIX.rstrip(".") in modules
            else "Give the model that the members were made for, or compress again with `layers=` of those that fit"
        )
        raise LayerError(
            f"{len(problems)} of {len(source.plans)} layers of {source.path.name} do not fit this model: "
            f"{'; '.join(problems[:3])}. {way_out}"
        )
    return tuple(layers)


def check_base(model: nn.Module, source: CompressedFolder, layers: Sequence[ServedLayer]) -> None:
    """Compares the model with the base that the folder names: by weights where they can be read here, else by name.

    Raises:
        CollectionError: it is another base.
    """
    way_out = "Load that base, or attach with check_base=False if they are the same"
    if source.index["about"] == "mean":
        # The members' mean comes with the folder; the model's own weights are not used.
        return
    for layer, rows in _rows_of_base(source, layers):
        weight: Tensor = layer.module.weight  # type: ignore[assignment]
        if not weight.is_floating_point() or weight.ndim != 2 or weight.shape[1] != rows.shape[1]:
            continue
        ours = weight[: rows.shape[0]].detach().float().cpu()
        # Half of the digits of the narrower type: bfloat16 rounds by 4e-3.
        off = 1e-2 if torch.bfloat16 in (weight.dtype, rows.dtype) else 1e-3
        if not torch.allclose(ours, rows.float(), rtol=off, atol=off * float(rows.float().abs().max())):
            raise CollectionError(
                f"{layer.path}: the model's weights are not those of {source.index['base'] or 'the base'}, which the "
                f"members of {source.path.name} belong to. {way_out}"
            )
    names = {str(source.untouched(member)[1].get("base_model_name_or_path") or "") for member in source.members[:1]}
    named, loaded = next(iter(names)), str(getattr(getattr(model, "config", None), "name_or_path", "") or "")
    if _is_hub_name(named) and _is_hub_name(loaded) and named.lower() != loaded.lower():
        raise CollectionError(f"The members of {source.path.name} belong to {named}; this model is {loaded}. {way_out}")


def shared_parts(
    source: CompressedFolder, layer: ServedLayer, biases: Tensor | None, dtype: torch.dtype | None
) -> SharedParts:
    """What a layer holds for all members, in the orientation outputs x inputs, on the device of its weight."""
    weight: Tensor = layer.module.weight  # type: ignore[assignment]
    kind = dtype or (weight.dtype if weight.is_floating_point() else torch.float32)
    left, right, center = source.basis(layer.plan)
    cores = source.cores(layer.plan.layer.name).to(torch.float32)
    if layer.turned:
        left, right, center = right, left, None if center is None else center.T
        cores = cores.mT if cores.ndim == 3 else cores
    cores = torch.cat([torch.zeros_like(cores[:1]), cores])

    def placed(values: Tensor) -> Tensor:
        return values.to(device=weight.device, dtype=kind).contiguous()

    return SharedParts(
        placed(torch.from_numpy(left)) if left.shape[1] else None,
        placed(torch.from_numpy(right)) if right.shape[1] else None,
        placed(cores),
        None if center is None or source.index["about"] != "mean" else placed(torch.from_numpy(center)),
        None if biases is None else biases.to(weight.device),
    )


def own_weights(
    modules: Mapping[str, nn.Module], source: CompressedFolder, members: Sequence[str]
) -> dict[str, tuple[dict[str, Tensor], ...]]:
    """By module path, each member's own tensors of it; what equals the model's is left out.

    `modules` are the model's own by path, from before its layers were replaced.

    Raises:
        CollectionError: a tensor that no module of this model can take.
    """
    own: dict[str, tuple[dict[str, Tensor], ...]] = {}
    for row, member in enumerate(members):
        tensors, config = source.untouched(member)
        if config.get("use_dora"):
            raise CollectionError(
                f"{member} has DoRA magnitudes, which scale its update; rebuild it and serve it by itself"
            )
        for stored, tensor in tensors.items():
            name = stored.removeprefix(_PEFT_PREFIX)
            path, _, attribute = name.rpartition(".")
            current = _value(modules.get(path), attribute)
            if current is None:
                raise CollectionError(f"{member} has its own {name}, which this model lacks; {_WITHOUT_OWN}")
            if current.shape == tensor.shape and torch.equal(current.detach().cpu(), tensor.to(current.dtype)):
                continue
            if not path:
                raise CollectionError(
                    f"{member} has its own {name}, which belongs to the model as a whole and to no module in it, so it "
                    f"cannot be switched; {_WITHOUT_OWN}"
                )
            rows = own.setdefault(path, tuple({} for _ in members))
            rows[row][attribute] = tensor.to(device=current.device, dtype=current.dtype)
    return own


def bias_table(layer: ServedLayer, own: Sequence[Mapping[str, Tensor]]) -> Tensor | None:
    """What members add to a layer's bias (1 + n, m), or None where none has one of its own.

    Raises:
        CollectionError: a member has another part of the layer for itself.
    """
    if any(set(tensors) - {"bias"} for tensors in own):
        raise CollectionError(f"{layer.path}: members have parts beside its weight and bias; rebuild them one by one")
    bias: Tensor = layer.module.bias  # type: ignore[assignment]
    rows = [tensors["bias"] - bias.detach() if "bias" in tensors else torch.zeros_like(bias) for tensors in own]
    return torch.stack([torch.zeros_like(bias), *rows]).detach() if any(own) else None


def linear_size(module: nn.Module) -> tuple[int, int]:
    """Outputs and inputs of a linear layer or Conv1D."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight.shape[1], weight.shape[0]


def _is_conv1d(module: nn.Module) -> bool:
    """transformers' linear layer of GPT-2, whose weight is inputs x outputs."""
    weight = _value(module, "weight")
    return type(module).__name__ == "Conv1D" and weight is not None and len(weight.shape) == 2


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or _is_conv1d(module)


def _value(module: nn.Module | None, attribute: str) -> Tensor | None:
    value = getattr(module, attribute, None)
    return value if isinstance(value, Tensor) else None


def _rows_of_base(source: CompressedFolder, layers: Sequence[ServedLayer]) -> Iterator[tuple[ServedLayer, Tensor]]:
    """The first rows of each layer of the base as it is stored, where the folder has them or names a base on disk."""
    if source.index["about"] == "base":
        kind = torch.float32 if source.index["dtype"] == "float32" else torch.bfloat16
        for layer in layers:
            center = source.basis(layer.plan)[2]
            if center is not None:
                yield layer, torch.from_numpy(center[:4]).to(kind)
        return
    ref = ModelRef.parse(source.index["base"]) if source.index["base"] else None
    if ref is None or on_hub(ref):
        return
    try:
        base = open_source(ref)
        for layer in layers:
            key = base.find(layer.plan.layer.name)
            if key is not None:
                rows = base.read(layer.plan.layer.name, (0, min(4, key.shape[0])))
                if isinstance(rows, Tensor) and rows.is_floating_point():
                    yield layer, rows
    except SourceError:
        # The base lies elsewhere now, which says nothing about this model.
        return


def _is_hub_name(name: str) -> bool:
    return name.count("/") == 1 and name[0] not in "/.~"


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
