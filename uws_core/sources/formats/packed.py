"""Finds packed weights in a checkpoint: which are unpacked row by row, which are refused by name, and their companions.

In a module that holds packed integers or numbers of eight bits nothing else is a layer: scales, zero points, codebooks
and low-rank corrections are parts of the packed weight.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Final

from uws_core.nouns.models import LeftOut
from uws_core.sources.files.header import FLOATS, TensorSpan
from uws_core.sources.files.tensors import PACKED_TYPES, Tensors
from uws_core.sources.formats import float8
from uws_core.sources.formats.unpacking import (
    NUMBERS,
    PackedWeight,
    affine_rows,
    fp4_rows,
    hqq_rows,
    scaled_rows,
    stored_shape,
)

# Integers that are positions, masks or counters of a plain module, not packed weights.
_BUFFER: Final = re.compile(r"(?:position|index|_ids|mask|tracked|steps?|counts?)$|position")
# The last words of a companion where the module is the whole file, or holds the packed weight one level up.
_COMPANION: Final = re.compile(
    r"scale|zero|absmax|quant|shift|bias(?:es)?$|centroid|codebook|lora_|proj_(?:up|down)$|smooth"
)
# bitsandbytes and quanto put what belongs to a weight below its own name.
_BELOW_WEIGHT: Final = re.compile(r"(?:(.*)\.)?(weight\.[^.]+(?:\.[^.]+)?)")
# Packed weights that are stored as integers of 64 bits, or as floats that only carry bits.
_BY_NAME: Final = frozenset({"Qidxs", "codes", "dense_weights", "W_q"})
# Companions that tell who packed a weight, the first that fits.
_PACKERS: Final = (
    ({"weight.absmax"}, "bitsandbytes in 4 bits"),
    ({"absmax"}, "bitsandbytes in 4 bits"),
    ({"SCB"}, "bitsandbytes in 8 bits"),
    ({"qweight", "g_idx"}, "GPTQ"),
    ({"qweight", "qzeros"}, "AWQ or GPTQ"),
    ({"qweight", "wscales"}, "SVDQuant (nunchaku)"),
    ({"weight._data"}, "optimum-quanto"),
    ({"weight._data._data"}, "optimum-quanto"),
    ({"codes", "codebooks"}, "AQLM"),
    ({"Qidxs"}, "QuIP#"),
    ({"q_weight"}, "EXL2"),
    ({"trellis"}, "EXL3"),
    ({"centroids", "indices"}, "VPTQ"),
    ({"dense_weights"}, "SpQR"),
    ({"B", "s"}, "Marlin"),
    ({"W_q"}, "HQQ"),
    ({"_weight_qdata"}, "torchao"),
    ({"weight_packed"}, "compressed-tensors"),
    ({"weight", "scales"}, "MLX"),
    ({"weight", "weight_scale_2"}, "modelopt"),
    ({"weight", "weight_scales"}, "EETQ"),
)
_WAY_OUT: Final = "use the checkpoint it was packed from, or save it unpacked"

Leaves = Mapping[str, TensorSpan]


@dataclass(frozen=True, slots=True)
class Refused(Exception):
    """Why a packed weight that is of a known kind is not unpacked."""

    reason: str


@dataclass
class PackedParts:
    """The packed weights by the stored name of their bytes, the companions that are read with each, and the rest."""

    weights: dict[str, PackedWeight] = field(default_factory=dict)
    companions: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def find_packed(tensors: Tensors) -> PackedParts:
    """What is packed in a checkpoint. Price: a small read for each module that stores its shape, else none."""
    found = PackedParts()
    if not any(span.dtype in PACKED_TYPES or _leaf(name) in _BY_NAME for name, span in tensors.spans.items()):
        return found
    modules: dict[str, dict[str, TensorSpan]] = {}
    for name, span in tensors.spans.items():
        module, leaf = _split(name)
        modules.setdefault(module, {})[leaf] = span
    settings, scales = _settings(tensors.model_config), float8.companions(tensors.spans)
    for module, leaves in modules.items():
        packed = {leaf: span for leaf, span in leaves.items() if _is_packed(leaf, span)}
        if packed:
            _sort(_Module(module, leaves, tensors, settings, scales), packed, found)
    packed_modules = {name: _split(name)[0] for name in (*found.weights, *found.refused)}
    inside = {f"{module}." for module in packed_modules.values() if module}
    for name, span in tensors.spans.items():
        module, _ = _split(name)
        above, _, own = module.rpartition(".")
        if f"{above}." in inside and f"{module}." not in inside and _COMPANION.search(own) and len(span.shape) > 1:
            found.refused.setdefault(name, f"a companion of the packed weight in {above}, no layer of its own")
    return found


def unpacked_notes(parts: PackedParts) -> tuple[LeftOut, ...]:
    """One note for each way in which layers were packed: with what they were unpacked, and how many."""
    by_packing: dict[str, list[PackedWeight]] = {}
    for weight in parts.weights.values():
        by_packing.setdefault(weight.packing, []).append(weight)
    notes = []
    for packing, weights in by_packing.items():
        more = f" and {len(weights) - 1} more" if len(weights) > 1 else ""
        beside = [_leaf(name) for role, name in weights[0].parts.items() if role != "weight"]
        beside += [_leaf(weights[0].checked)] if weights[0].checked else []
        reason = f"read unpacked with {', '.join(beside)} ({packing}); not left out"
        notes.append(LeftOut(f"{weights[0].main}{more}", reason))
    return tuple(notes)


@dataclass(frozen=True, slots=True)
class _Module:
    """The tensors of one module by the rest of their names, and what the model's configuration tells of packing."""

    name: str
    leaves: Leaves
    tensors: Tensors
    settings: Mapping[str, object]
    # The scales beside each weight that is no plain float, by stored name.
    scales: Mapping[str, tuple[str, ...]]

    def stored(self, leaf: str) -> str:
        """The name a tensor has in the file."""
        return self.leaves[leaf].name

    def layer(self, leaf: str = "weight") -> str:
        """The name of the unpacked layer."""
        return f"{self.name}.{leaf}" if self.name else leaf

    def has(self, *leaves: str) -> bool:
        """Whether all of these stand in the module."""
        return all(leaf in self.leaves for leaf in leaves)

    def parts(self, **roles: str) -> dict[str, str]:
        """Stored names by role, of the leaves that are there."""
        return {role: self.stored(leaf) for role, leaf in roles.items() if leaf in self.leaves}


def _sort(module: _Module, packed: Leaves, parts: PackedParts) -> None:
    """One module's tensors into weights, companions and what is refused."""
    weights: list[PackedWeight] = []
    reason = ""
    for read in _PACKINGS:
        try:
            weights += read(module)
        except Refused as refused:
            reason = refused.reason
    for weight in weights:
        parts.weights[weight.main] = weight
        parts.companions |= {name: weight.main for role, name in weight.parts.items() if role != "weight"}
        if weight.checked:
            parts.companions[weight.checked] = weight.main
    used = {*parts.weights, *parts.companions}
    only_float8 = all(span.dtype in float8.TYPES for span in packed.values())
    scales = {leaf for leaf in packed if re.search(r"scale|zero", leaf)}
    if only_float8 and not weights and set(packed) - scales:
        # Weights of eight bits with a scale each are read by float8; what stands beside them is no layer.
        used |= {span.name for leaf, span in packed.items() if leaf not in scales}
        used |= {scale for name in tuple(used) for scale in module.scales.get(name, ())}
    main = max(packed.values(), key=lambda span: span.nbytes)
    reason = reason or _unknown(module.leaves, main)
    for leaf, span in module.leaves.items():
        if span.name in used or not _could_be_layer(module, leaf, span):
            continue
        if weights or only_float8 or span is not main:
            parts.refused[span.name] = f"a companion of the packed weight {main.name}, no layer of its own"
        else:
            parts.refused[span.name] = f"packed {reason}; {_WAY_OUT}"


def _could_be_layer(module: _Module, leaf: str, span: TensorSpan) -> bool:
    if len(span.shape) < 2 and not _is_packed(leaf, span):
        return False
    # The root of a file holds tensors of many modules.
    return bool(module.name) or _is_packed(leaf, span) or _COMPANION.search(leaf) is not None


def _compressed_integers(module: _Module) -> Iterator[PackedWeight]:
    """compressed-tensors `pack-quantized`: int32 words, a scale a group, zero points packed down the rows."""
    if not module.has("weight_packed", "weight_scale") or module.leaves["weight_packed"].dtype != "I32":
        return
    if not module.has("weight_shape"):
        raise Refused("by compressed-tensors without its weight_shape")
    if module.has("weight_g_idx"):
        raise Refused("by compressed-tensors with reordered columns (weight_g_idx)")
    words = module.leaves["weight_packed"].shape
    shape = _stored_pair(module, "weight_shape")
    fits = [bits for bits in (2, 4, 8) if words == (shape[0], -(-shape[1] * bits // 32))]
    if len(fits) != 1:
        raise Refused(f"by compressed-tensors in a number of bits that is not 2, 4 or 8 ({words} words for {shape})")
    parts = module.parts(weight="weight_packed", scale="weight_scale", zero="weight_zero_point")
    weight = PackedWeight(
        module.layer(), shape, parts, f"compressed-tensors in {fits[0]} bits", scaled_rows, fits[0],
        module.stored("weight_shape"),
    )  # fmt: skip
    yield _with_scales(module, weight)


def _plain_integers(module: _Module) -> Iterator[PackedWeight]:
    """Integers of eight bits with `weight_scale`: compressed-tensors `int-quantized`, and torchao's int8 and float8."""
    for leaf, scale, zero, packer in (
        ("weight", "weight_scale", "weight_zero_point", "compressed-tensors"),
        ("_weight_qdata", "_weight_scale", "_weight_zero_point", "torchao"),
    ):
        if not module.has(leaf, scale):
            continue
        span = module.leaves[leaf]
        if span.dtype != "I8" and not (packer == "torchao" and span.dtype in float8.TYPES):
            if packer == "torchao":
                raise Refused(f"by torchao as {span.dtype}, of which int8 and float8 with a plain scale are unpacked")
            continue
        if packer == "torchao" and module.has("_weight_act_pre_scale"):
            raise Refused("by torchao with a scale of the activations before it (_weight_act_pre_scale)")
        if len(span.shape) != 2:
            raise Refused(f"by {packer} in {len(span.shape)} axes")
        shape = (span.shape[0], span.shape[1])
        parts = module.parts(weight=leaf, scale=scale, zero=zero)
        bits = "float8" if span.dtype in float8.TYPES else "8 bits"
        yield _with_scales(module, PackedWeight(module.layer(), shape, parts, f"{packer} in {bits}", scaled_rows))


def _mlx(module: _Module) -> Iterator[PackedWeight]:
    """MLX: words of 32 bits, a scale and a bias a group; bits and group size from the configuration or the shapes."""
    if not module.has("weight", "scales") or module.leaves["weight"].dtype != "U32":
        return
    words, scales = module.leaves["weight"].shape, module.leaves["scales"]
    if not module.has("biases") or scales.dtype not in FLOATS:
        raise Refused("by MLX in a mode without biases (mxfp4, nvfp4 or mxfp8)")
    if scales.shape[:-1] != words[:-1] or module.leaves["biases"].shape != scales.shape:
        raise Refused("by MLX with scales or biases of another shape")
    fits = {
        (bits, size)
        for bits in (2, 3, 4, 5, 6, 8)
        for size in (16, 32, 64, 128)
        if words[-1] * 32 == bits * size * scales.shape[-1]
    }
    told = module.settings.get(module.name, module.settings)
    known = told if isinstance(told, Mapping) else {}
    chosen = {fit for fit in fits if known.get("bits", fit[0]) == fit[0] and known.get("group_size", fit[1]) == fit[1]}
    if len(chosen) != 1:
        raise Refused(f"by MLX, and config.json does not tell bits and group size ({len(chosen)} choices fit)")
    ((bits, size),) = chosen
    shape = (prod(words[:-1]), size * scales.shape[-1])
    parts = module.parts(weight="weight", scale="scales", bias="biases")
    yield PackedWeight(module.layer(), shape, parts, f"MLX in {bits} bits, groups of {size}", affine_rows, bits)


def _hqq(module: _Module) -> Iterator[PackedWeight]:
    """HQQ: bytes of which the highest bits are the first groups; groups lie along the rows (`axis=1`)."""
    if not module.has("W_q", "scale", "zero"):
        return
    packed, scale, zero = (module.leaves[leaf] for leaf in ("W_q", "scale", "zero"))
    if not module.has("shape"):
        raise Refused("by HQQ without its shape")
    if packed.dtype != "U8" or len(packed.shape) != 2:
        raise Refused(f"by HQQ as {packed.dtype}, of which 1, 2, 4 and 8 bits in bytes are unpacked")
    by_row = len(scale.shape) == 2 and scale.shape[1] == 1 and zero.shape == scale.shape
    if not by_row or not {scale.dtype, zero.dtype} <= FLOATS:
        raise Refused("by HQQ with groups down the columns (axis=0) or quantised scales")
    shape = _stored_pair(module, "shape")
    bits, rest = divmod(8 * packed.shape[0], scale.shape[0])
    if rest or bits not in (1, 2, 4, 8) or prod(packed.shape) * 8 != prod(shape) * bits:
        raise Refused(f"by HQQ, and {packed.shape} bytes are not {shape} numbers in {scale.shape[0]} groups")
    parts = module.parts(weight="W_q", scale="scale", zero="zero")
    yield PackedWeight(module.layer(), shape, parts, f"HQQ in {bits} bits", hqq_rows, bits, module.stored("shape"))


def _fp4(module: _Module) -> Iterator[PackedWeight]:
    """NVFP4 of modelopt and compressed-tensors, and MXFP4 of compressed-tensors: two numbers a byte."""
    for leaf, dividing in (("weight", False), ("weight_packed", True)):
        if not module.has(leaf, "weight_scale") or module.leaves[leaf].dtype != "U8":
            continue
        span, scale = module.leaves[leaf], module.leaves["weight_scale"]
        if len(span.shape) != 2 or len(scale.shape) != 2:
            raise Refused("as four-bit floats in other axes than rows and columns")
        shape = (span.shape[0], 2 * span.shape[1])
        if module.has("weight_zero_point"):
            raise Refused("as four-bit floats with a zero point")
        if scale.dtype == "F8_E4M3" and scale.shape == (shape[0], shape[1] // 16):
            role, other = ("divisor", "weight_global_scale") if dividing else ("global", "weight_scale_2")
            if not module.has(other):
                raise Refused(f"as NVFP4 without its {other}")
            parts = module.parts(weight=leaf, scale="weight_scale", **{role: other})
            if prod(module.leaves[other].shape) != 1:
                raise Refused(f"as NVFP4 whose {other} is not one number")
            yield PackedWeight(module.layer(), shape, parts, "NVFP4", fp4_rows, 4)
        elif dividing and scale.dtype in ("U8", "F8_E8M0") and scale.shape == (shape[0], shape[1] // 32):
            yield PackedWeight(
                module.layer(), shape, module.parts(weight=leaf, scale="weight_scale"), "MXFP4", fp4_rows, 4
            )
        else:
            raise Refused(f"as {span.dtype} with a scale {scale.dtype} of shape {scale.shape}, neither NVFP4 nor MXFP4")


def _mxfp4_blocks(module: _Module) -> Iterator[PackedWeight]:
    """gpt-oss: `x_blocks` (E, rows, groups, 16) and `x_scales` (E, rows, groups).

    The layer keeps its stored name: transformers turns inputs and outputs when it unpacks, here they stay.
    """
    for leaf, span in module.leaves.items():
        scales = f"{leaf.removesuffix('_blocks')}_scales"
        if not leaf.endswith("_blocks") or scales not in module.leaves or span.dtype != "U8":
            continue
        if len(span.shape) < 3 or span.shape[-1] != 16 or module.leaves[scales].shape != span.shape[:-1]:
            raise Refused(f"as blocks of shape {span.shape}, expected 16 bytes each and one scale a block")
        shape = (prod(span.shape[:-2]), span.shape[-2] * 32)
        yield PackedWeight(
            module.layer(leaf), shape, module.parts(weight=leaf, scale=scales), "MXFP4 in blocks", fp4_rows, 4
        )


_PACKINGS: Final[tuple[Callable[[_Module], Iterator[PackedWeight]], ...]] = (
    _compressed_integers, _plain_integers, _mlx, _hqq, _fp4, _mxfp4_blocks,
)  # fmt: skip


def _with_scales(module: _Module, weight: PackedWeight) -> PackedWeight:
    """The weight, when its scale and zero point are one number, one a row, or one a group along the row.

    Raises:
        Refused: they are not, or are of a type that is not read.
    """
    m, p = weight.shape
    spans = {role: module.tensors.spans[name] for role, name in weight.parts.items() if role != "weight"}
    scale = spans["scale"]
    if scale.dtype not in FLOATS or any(span.dtype not in NUMBERS for span in spans.values()):
        raise Refused(f"with a scale of type {scale.dtype}")
    zero = spans.get("zero")
    if zero is not None and zero.dtype == module.tensors.spans[weight.main].dtype == "I32":
        words = (-(-m * weight.bits // 32), scale.shape[-1] if len(scale.shape) > 1 else 1)
        if zero.shape == words:
            del spans["zero"]
    for span in spans.values():
        rows, groups = (*span.shape, 1, 1)[:2]
        # Groups a row that number as many as the rows could also be the other way round (torchao's Int4Tensor).
        by_group = len(span.shape) == 2 and rows == m and p % groups == 0 and (groups != m or groups == 1)
        if prod(span.shape) != 1 and span.shape != (m,) and not by_group:
            raise Refused(f"with {span.name} of shape {span.shape} for {m} x {p} numbers")
    return weight


def _stored_pair(module: _Module, leaf: str) -> tuple[int, int]:
    """The shape that a small tensor holds.

    Raises:
        Refused: it does not hold two sizes.
    """
    span = module.leaves[leaf]
    if span.dtype not in ("I32", "I64") or prod(span.shape) != 2:
        raise Refused(f"with a {leaf} that is not two whole numbers")
    m, p = stored_shape(module.tensors, span.name)
    if not (0 < m < 2**40 and 0 < p < 2**40):
        raise Refused(f"with a {leaf} of {m} x {p}")
    return m, p


def _unknown(leaves: Leaves, main: TensorSpan) -> str:
    packer = next((packer for telling, packer in _PACKERS if telling <= set(leaves)), "")
    beside = ", ".join(leaf for leaf, span in leaves.items() if span is not main)[:120]
    if packer:
        return f"by {packer}, which is not unpacked here" + (f" (beside it: {beside})" if beside else "")
    return f"as {main.dtype} in a way that is not known here" + (f" (beside it: {beside})" if beside else "")


def _is_packed(leaf: str, span: TensorSpan) -> bool:
    if leaf in _BY_NAME:
        return True
    return span.dtype in PACKED_TYPES and len(span.shape) > 1 and prod(span.shape) > 1 and not _BUFFER.search(leaf)


def _split(name: str) -> tuple[str, str]:
    """A stored name as module and the rest; what hangs below `weight` belongs to the weight's module."""
    if found := _BELOW_WEIGHT.fullmatch(name):
        return found[1] or "", found[2]
    module, _, leaf = name.rpartition(".")
    return module, leaf


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _settings(config: bytes) -> Mapping[str, object]:
    """What the model's own configuration tells of packing; empty where it tells nothing."""
    try:
        found = json.loads(config or b"{}")
    except (ValueError, RecursionError):
        return {}
    known = found.get("quantization") or found.get("quantization_config") if isinstance(found, dict) else None
    return known if isinstance(known, dict) else {}
