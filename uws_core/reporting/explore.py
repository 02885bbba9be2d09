"""The data of the report's explorer: Grams of layers as text, so that a browser can choose models, centre and k."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection

# Of all layers together; a page above it would take seconds to open. 500 models are 1.3 MB a layer.
MOST_BYTES = 12 * 2**20
# Attributes with more values make no groups to click on.
_MOST_VALUES, _FEWEST_MODELS = 12, 3


def explore(collection: Collection, whole: Gram, grams: Sequence[Gram]) -> dict[str, object]:
    """What `explore.js` reads: names, attributes that make groups, and as many layers as fit, all as one first."""
    layers, left = list[dict[str, object]](), MOST_BYTES
    shown = [*([(f"all {len(grams)} layers as one", whole)] if len(grams) > 1 else [])]
    shown += [(gram.layer.short, gram) for gram in grams]
    for name, gram in shown:
        packed = {
            "name": name,
            "d": gram.d,
            "values": _text(np.nan_to_num(gram.values)[np.tril_indices(gram.n)]),
            "zero": _text(np.nan_to_num(gram.to_center)),
            "zeroNorm": gram.center_norm2,
            "base": None if gram.base is None else _text(np.nan_to_num(gram.base.to_models)),
            "baseNorm": None if gram.base is None else gram.base.norm2,
            "floor": gram.floor,
            "usable": gram.usable.tolist(),
        }
        size = sum(len(value) for value in packed.values() if isinstance(value, str))
        if size > left:
            break
        layers.append(packed)
        left -= size
    # The attributes with a few values, of which one at least has three models; values as text.
    groups = {}
    for name, column in collection.table.items():
        values = ["none" if value is None else str(value) for value in column]
        counts = {value: values.count(value) for value in dict.fromkeys(values)}
        if 1 < len(counts) <= _MOST_VALUES and max(counts.values()) >= _FEWEST_MODELS:
            groups[name] = values
    return {
        "labels": list(collection.labels),
        "attributes": groups,
        "layers": layers,
        "missing": len(shown) - len(layers),
    }


def _text(numbers: Floats) -> str:
    """Float64 numbers, little endian, in base 64."""
    return base64.b64encode(np.ascontiguousarray(numbers, dtype="<f8").tobytes()).decode()
