"""Nouns as bytes for the store: arrays as safetensors, everything else as JSON in its metadata; no pickle.

One codec serves every frozen dataclass that is registered below. Arrays come back bit for bit, floats exactly, NaN too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from uws_core.errors import StoreError
from uws_core.nouns.angles import Factors
from uws_core.nouns.block_grams import BlockGrams
from uws_core.nouns.chance import NullBand, SharedDirections
from uws_core.nouns.evidence import Determined, Evidence, Finding, Verdict
from uws_core.nouns.gram import Axis, BaseRow, EntryStats, Gram
from uws_core.nouns.heldout import FunctionPoint, HeldOut, HeldOutChance, Way
from uws_core.nouns.independence import IndependenceTest
from uws_core.nouns.merge_preview import SignConflict
from uws_core.nouns.models import Collection, LayerKey, LeftOut

# Raised whenever a stored number could come out differently; older entries are then never looked up again.
MATH_VERSION = 5

# A Gram of so many models is stored as one triangle, which is half of its bytes.
_LEAST_SYMMETRIC = 16
# The classes that stored bytes may name; no other is ever made from them.
_CLASSES: tuple[type[Any], ...] = (
    *(Axis, Verdict, Way),
    *(BaseRow, Determined, EntryStats, Evidence, Factors, Finding, FunctionPoint, Gram, HeldOut),
    *(HeldOutChance, IndependenceTest, LayerKey, LeftOut, NullBand, SharedDirections, SignConflict),
)
_BY_NAME = {cls.__name__: cls for cls in _CLASSES}
_T = TypeVar("_T")


def gram_key(collection: Collection, layer: LayerKey, precision: str = "auto") -> str:
    """The store's key of one Gram: contents of the models and the base, layer, precision, version of the numbers."""
    base = collection.base.commit if collection.base is not None and layer.name in collection.base_layers else "-"
    name = sha256(f"{layer.name}|{layer.shape}|{base}|{precision}".encode()).hexdigest()[:24]
    return f"gram/{MATH_VERSION}/{collection.fingerprint}/{name}"


def to_bytes(noun: object) -> bytes:
    """A registered noun, or a sequence of them, as bytes.

    Raises:
        TypeError: it holds something that is neither a registered noun, an array, nor plain.
    """
    arrays: dict[str, np.ndarray] = {}
    plain = _plain(noun, "", arrays)
    return save(arrays, metadata={"noun": json.dumps(plain)})


def from_bytes(kind: type[_T], raw: bytes) -> _T:
    """The noun that `to_bytes` packed.

    Raises:
        StoreError: the bytes are damaged, or hold something else.
    """
    noun = _unpacked(raw)
    if not isinstance(noun, kind):
        raise StoreError(f"A stored {kind.__name__} has unexpected fields; it will be computed again")
    return noun


def sequence_from_bytes(kind: type[_T], raw: bytes) -> tuple[_T, ...]:
    """The nouns that `to_bytes` packed from a sequence.

    Raises:
        StoreError: the bytes are damaged, or hold something else.
    """
    nouns = from_bytes(tuple, raw)
    if not all(isinstance(noun, kind) for noun in nouns):
        raise StoreError(f"A stored sequence of {kind.__name__} has unexpected fields; it will be computed again")
    return nouns


def _plain(value: object, path: str, arrays: dict[str, np.ndarray]) -> object:
    """The value as JSON has it; arrays go to `arrays` under their path in the noun."""
    if isinstance(value, np.ndarray):
        if value.ndim == 2 and len(value) == value.shape[1] >= _LEAST_SYMMETRIC and np.array_equal(value, value.T):
            arrays[path] = _triangles(value[None])
            return {"symmetric": path, "size": len(value)}
        arrays[path] = np.ascontiguousarray(value)
        return {"array": path}
    if isinstance(value, Enum):
        return {"class": _registered(value), "value": value.value}
    if isinstance(value, BlockGrams):
        # Symmetric: one triangle of each block; a vector has the same blocks on both sides.
        once = value.rows.ctypes.data == value.columns.ctypes.data
        sides = [_triangles(blocks) for blocks in ((value.rows,) if once else (value.rows, value.columns))]
        arrays |= {f"{path}.{side}": triangles for side, triangles in enumerate(sides)}
        return {"triangles": path, "sides": len(sides), "models": value.n, "with_base": value.with_base}
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
        members = {name: _plain(getattr(value, name), f"{path}.{name}", arrays) for name in names}
        return {"class": _registered(value), "fields": members}
    if isinstance(value, Sequence) and not isinstance(value, str):
        kinds = {type(item) for item in value}
        if len(value) > 1 and len(kinds) == 1 and is_dataclass(value[0]):
            names = [field.name for field in fields(value[0])]
            columns = {
                name: _column([getattr(item, name) for item in value], f"{path}.{name}", arrays) for name in names
            }
            return {"class": _registered(value[0]), "rows": len(value), "columns": columns}
        return [_plain(item, f"{path}.{place}", arrays) for place, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path or 'the result'}: a {type(value).__name__} cannot be stored")


def _triangles(blocks: np.ndarray) -> np.ndarray:
    """The lower triangles (blocks, k (k + 1) / 2) of symmetric blocks (blocks, k, k)."""
    return np.ascontiguousarray(blocks[:, *np.tril_indices(blocks.shape[1])])


def _symmetric(triangles: np.ndarray, size: int) -> np.ndarray:
    blocks = np.empty((len(triangles), size, size), dtype=triangles.dtype)
    start = 0
    # Row by row: with the indices of all entries, 16 blocks of 301 took 15 ms in place of 3.
    for row in range(size):
        part = triangles[:, start : start + row + 1]
        blocks[:, row, : row + 1] = part
        blocks[:, : row + 1, row] = part
        start += row + 1
    return blocks


def _column(values: Sequence[object], path: str, arrays: dict[str, np.ndarray]) -> object:
    """One field of many nouns: a thousand small arrays of one shape are stored as one."""
    stackable = [value for value in values if isinstance(value, np.ndarray)]
    if len(stackable) == len(values) and len({(array.shape, array.dtype) for array in stackable}) == 1:
        arrays[path] = np.stack(stackable)
        return {"stack": path}
    return [_plain(value, f"{path}.{place}", arrays) for place, value in enumerate(values)]


def _registered(noun: object) -> str:
    name = type(noun).__name__
    if _BY_NAME.get(name) is not type(noun):
        raise TypeError(f"A {name} is not registered in the codec")
    return name


def _unpacked(raw: bytes) -> object:
    # The header is eight bytes of length and JSON; `load` returns the arrays only.
    try:
        arrays = load(raw)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        return _built(json.loads(header["__metadata__"]["noun"]), arrays)
    except (SafetensorError, KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise StoreError(f"A stored result cannot be read ({error!r}); it will be computed again") from error


def _built(plain: Any, arrays: dict[str, np.ndarray]) -> Any:  # noqa: ANN401 - whatever was stored
    """The value that `_plain` wrote."""
    if isinstance(plain, list):
        return tuple(_built(item, arrays) for item in plain)
    if not isinstance(plain, dict):
        return plain
    if "array" in plain:
        return arrays[plain["array"]]
    if "symmetric" in plain:
        return _symmetric(arrays[plain["symmetric"]], plain["size"])[0]
    if "triangles" in plain:
        size = plain["models"] + plain["with_base"] + 1
        sides = [_symmetric(arrays[f"{plain['triangles']}.{side}"], size) for side in range(plain["sides"])]
        return BlockGrams(sides[0], sides[-1], plain["models"], with_base=plain["with_base"])
    cls = _BY_NAME[plain["class"]]
    if "value" in plain:
        return cls(plain["value"])
    if "fields" in plain:
        return cls(**{name: _built(value, arrays) for name, value in plain["fields"].items()})
    columns = {
        name: arrays[column["stack"]] if isinstance(column, dict) else [_built(value, arrays) for value in column]
        for name, column in plain["columns"].items()
    }
    return tuple(cls(**{name: column[row] for name, column in columns.items()}) for row in range(plain["rows"]))
