"""Nouns as bytes for the store: arrays as safetensors, the rest as JSON in its metadata; no pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from uws_core.errors import StoreError
from uws_core.nouns.evidence import Determined, Evidence, Finding, Verdict
from uws_core.nouns.factors import Factors
from uws_core.nouns.function import FunctionPoint, Way
from uws_core.nouns.gram import Axis, BaseRow, EntryStats, Gram
from uws_core.nouns.heldout import HeldOut
from uws_core.nouns.models import Collection, LayerKey, LeftOut

# Raised whenever a stored number could come out differently; older entries are then never looked up again.
MATH_VERSION = 3

_STATS = ("power1", "power2", "power3", "power4", "largest", "non_finite")
_CURVES = ("kept", "subspace2", "random2", "in_sample2", "own_svd2")
_HELDOUT = ("reference2", "mean2", "trained_on", "ceiling", "floor2")
_EVIDENCE = ("layer", "n", "groups", "grouped_by", "kept", "share", "draws", "seed")
_FINDING = (
    "claim", "layer", "verdict", "reason", "value", "low", "middle", "high", "z", "p", "effect", "draws", "seed",
)  # fmt: skip
_DETERMINED = ("kept", "gaps", "bounds")
_FACTORS = ("left", "right", "singular", "norm2", "residual", "usable")


def gram_key(collection: Collection, layer: LayerKey, precision: str = "auto") -> str:
    """The store's key of one Gram: contents of the models and the base, layer, precision, version of the numbers."""
    base = collection.base.commit if collection.base is not None and layer.name in collection.base_layers else "-"
    name = sha256(f"{layer.name}|{layer.shape}|{base}|{precision}".encode()).hexdigest()[:24]
    return f"gram/{MATH_VERSION}/{collection.fingerprint}/{name}"


def gram_bytes(gram: Gram) -> bytes:
    """A Gram as bytes; `gram_from` gives it back bit for bit."""
    arrays = {"values": gram.values, "to_center": gram.to_center, "usable": gram.usable}
    arrays |= {name: getattr(gram.entry_stats, name) for name in _STATS}
    if gram.base is not None:
        arrays["base"] = gram.base.to_models
    plain: dict[str, object] = {
        "layers": [[layer.name, *layer.shape] for layer in gram.layers],
        "labels": gram.labels,
        "numbers": [gram.center_norm2, gram.d, gram.floor, gram.entry_stats.count, gram.crowding],
        "axis": gram.axis,
        "base": None if gram.base is None else [gram.base.to_center, gram.base.norm2],
        "left_out": [asdict(item) for item in gram.left_out],
    }
    return _packed(arrays, plain)


def gram_from(raw: bytes) -> Gram:
    """The Gram that `gram_bytes` packed.

    Raises:
        StoreError: the bytes are no such thing.
    """
    arrays, plain = _unpacked(raw)
    try:
        norm2, d, floor, count, crowding = plain["numbers"]
        return Gram(
            layers=tuple(LayerKey(name, (m, p)) for name, m, p in plain["layers"]),
            labels=tuple(plain["labels"]),
            values=arrays["values"],
            to_center=arrays["to_center"],
            center_norm2=norm2,
            d=d,
            floor=floor,
            entry_stats=EntryStats(count=count, **{name: arrays[name] for name in _STATS}),
            axis=Axis(plain["axis"]),
            base=BaseRow(arrays["base"], *plain["base"]) if plain["base"] else None,
            usable=arrays["usable"],
            left_out=tuple(LeftOut(**item) for item in plain["left_out"]),
            crowding=crowding,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"A stored Gram has not the expected fields ({error!r}); it will be computed again") from error


def factors_bytes(factors: Factors) -> bytes:
    """Factors as bytes; `factors_from` gives them back bit for bit."""
    arrays = {name: getattr(factors, name) for name in _FACTORS}
    plain: dict[str, object] = {
        "layer": [factors.layer.name, *factors.layer.shape],
        "labels": factors.labels,
        "about": factors.about,
        "complete": factors.complete,
        "floor": factors.floor,
        "left_out": [asdict(item) for item in factors.left_out],
    }
    return _packed(arrays, plain)


def factors_from(raw: bytes) -> Factors:
    """The Factors that `factors_bytes` packed.

    Raises:
        StoreError: the bytes are no such thing.
    """
    arrays, plain = _unpacked(raw)
    try:
        name, m, p = plain["layer"]
        return Factors(
            layer=LayerKey(name, (m, p)),
            labels=tuple(plain["labels"]),
            about=plain["about"],
            complete=plain["complete"],
            floor=plain["floor"],
            left_out=tuple(LeftOut(**item) for item in plain["left_out"]),
            **{field: arrays[field] for field in _FACTORS},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"Stored factors have not the expected fields ({error!r}); computed again") from error


def heldout_bytes(items: Sequence[HeldOut]) -> bytes:
    """Held-out errors as bytes; `heldout_from` gives them back bit for bit."""
    arrays = {name: np.stack([getattr(one, name) for one in items]) for name in _CURVES} if items else {}
    numbers = [[getattr(one, name) for one in items] for name in _HELDOUT]
    arrays |= {name: np.array(column) for name, column in zip(_HELDOUT, numbers, strict=True)}
    said = [[one.model, one.group, one.layers, one.axis, one.about, one.reference, one.notes] for one in items]
    return _packed(arrays, {"said": said})


def heldout_from(raw: bytes) -> tuple[HeldOut, ...]:
    """The held-out errors that `heldout_bytes` packed.

    Raises:
        StoreError: the bytes are no such thing.
    """
    arrays, plain = _unpacked(raw)
    try:
        return tuple(
            HeldOut(
                model=model,
                group=group,
                layers=tuple(layers),
                axis=Axis(axis),
                about=about,
                reference=reference,
                notes=tuple(notes),
                **{name: arrays[name][place] for name in _CURVES},
                **{name: arrays[name][place].item() for name in _HELDOUT},
            )
            for place, (model, group, layers, axis, about, reference, notes) in enumerate(plain["said"])
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise StoreError(f"Stored errors have not the expected fields ({error!r}); computed again") from error


def evidence_bytes(found: Evidence) -> bytes:
    """Evidence as bytes; `evidence_from` gives it back bit for bit."""
    arrays = {f"samples.{one.claim}": one.samples for one in found.findings if one.samples.size}
    if found.determined is not None:
        arrays |= {name: getattr(found.determined, name) for name in _DETERMINED}
    findings = [[getattr(one, name) for name in _FINDING] for one in found.findings]
    return _packed(arrays, {"asked": [getattr(found, name) for name in _EVIDENCE], "findings": findings})


def evidence_from(raw: bytes) -> Evidence:
    """The evidence that `evidence_bytes` packed.

    Raises:
        StoreError: the bytes are no such thing.
    """
    arrays, plain = _unpacked(raw)
    try:
        rows = [dict(zip(_FINDING, row, strict=True)) for row in plain["findings"]]
        nothing = np.empty(0)
        return Evidence(
            findings=tuple(
                Finding(
                    **{**row, "verdict": Verdict(row["verdict"])},
                    samples=arrays.get(f"samples.{row['claim']}", nothing),
                )
                for row in rows
            ),
            determined=Determined(*(arrays[name] for name in _DETERMINED)) if "bounds" in arrays else None,
            **dict(zip(_EVIDENCE, plain["asked"], strict=True)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"Stored evidence has not the expected fields ({error!r}); computed again") from error


def scores_bytes(points: Sequence[FunctionPoint]) -> bytes:
    """Scores of rebuilt networks as JSON."""
    return json.dumps([asdict(point) for point in points]).encode()


def scores_from(raw: bytes) -> tuple[FunctionPoint, ...]:
    """The scores that `scores_bytes` packed.

    Raises:
        StoreError: the bytes are no such thing.
    """
    try:
        found = json.loads(raw)
        return tuple(FunctionPoint(**{**found[i], "way": Way(found[i]["way"])}) for i in range(len(found)))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"Stored scores have not the expected fields ({error!r}); computed again") from error


def _packed(arrays: dict[str, np.ndarray], plain: dict[str, object]) -> bytes:
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(contiguous, metadata={"noun": json.dumps(plain)})


def _unpacked(raw: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    # The header is eight bytes of length and JSON; `load` gives the arrays only.
    try:
        arrays = load(raw)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        return arrays, json.loads(header["__metadata__"]["noun"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise StoreError(f"A stored result cannot be read ({error}); it will be computed again") from error
