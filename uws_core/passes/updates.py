"""The updates of one layer as arrays: the thin factors of every chosen adapter, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uws_core.analysis.joint_basis import ThinUpdates
from uws_core.errors import LayerError
from uws_core.nouns.models import Collection, LayerKey, LowRank
from uws_core.passes.open_models import open_models

# Above so many numbers the factors stay in float32: 500 adapters of rank 16 in 4096 x 4096 are 262 MB then.
_DOUBLE_NUMBERS = 2**25


def thin_updates(collection: Collection, layer: LayerKey, members: Sequence[int]) -> ThinUpdates:
    """Returns the factors of the chosen adapters in one layer, the scale in `up`; float64 where small.

    Raises:
        LayerError: a model holds the layer as a dense matrix, or its factors are NaN or infinite.
        SourceError: a model cannot be read.
    """
    ups, downs, wrong = [], [], []
    numbers = 0
    with open_models([collection.refs[member] for member in members], layer) as sources:
        for member, source in zip(members, sources, strict=True):
            part = source.read(layer.name)
            if not isinstance(part, LowRank):
                raise LayerError(
                    f"{layer.name}: {collection.labels[member]} stores the whole matrix, not factors of an update; "
                    "choose the method in, out or two-sided for whole weights"
                )
            up, down = part.up.float().numpy() * np.float32(part.scale), part.down.float().numpy()
            if not (np.isfinite(up).all() and np.isfinite(down).all()):
                wrong.append(collection.labels[member])
            ups.append(up)
            downs.append(down)
            numbers += up.size + down.size
    if wrong:
        raise LayerError(
            f"{layer.name}: weights of {', '.join(wrong[:5])} are NaN or infinite; leave these models out (members=)"
        )
    kind = np.float64 if numbers <= _DOUBLE_NUMBERS else np.float32
    return ThinUpdates.of([up.astype(kind) for up in ups], [down.astype(kind) for down in downs])
