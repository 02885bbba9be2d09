"""Sizes of stored layers, from headers alone: bytes to read, bytes from the Hub, ranks and numbers of adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from uws_core.nouns.cost import Reading
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.open_models import open_sources
from uws_core.sources.base import Source
from uws_core.sources.hub.prefetch import far_bytes

_ITEM_BYTES = {"single": 4, "double": 8}


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """The stored `bytes` of some layers of all models; of these the Hub must send `far`."""

    bytes: int
    far: int


def stored_bytes(collection: Collection, layers: Sequence[str]) -> StoredBytes:
    """The bytes of these layers of all models, and of the base where it has them; known headers are not read again.

    Raises:
        SourceError: a model went away or changed since the collection was made.
    """
    reads = readings(collection, layers)
    return StoredBytes(sum(read.bytes for read in reads), sum(read.far for read in reads))


def readings(collection: Collection, layers: Sequence[str], *, precision: str = "auto") -> tuple[Reading, ...]:
    """What a pass over each of these layers reads of all models, and of the base where it has the layer.

    Raises:
        SourceError: a model went away or changed since the collection was made.
    """
    sources = open_sources(collection.refs)
    base = open_sources([collection.base]) if collection.base else []
    return tuple(
        _reading(collection.by_name[name], sources, base if name in collection.base_layers else [], precision)
        for name in layers
    )


def stored_numbers(
    collection: Collection, layers: Iterable[str] | None = None, members: Sequence[int] | None = None
) -> Mapping[str, int]:
    """The numbers that the chosen models store for each layer that is kept as factors: `sum r (m + p)`.

    A layer that all models store whole is not in it, nor is a factor view. Headers only are read.

    Raises:
        SourceError: a model went away or changed since the collection was made.
    """
    names = [layer.name for layer in collection.layers] if layers is None else list(layers)
    low_rank = [collection.by_name[name] for name in names if f"{name}:A" in collection.by_name]
    if not low_rank:
        return {}
    rows = range(len(collection)) if members is None else members
    sources = open_sources([collection.refs[row] for row in rows])
    numbers = dict.fromkeys((key.name for key in low_rank), 0)
    for key in low_rank:
        for source in sources:
            view = source.find(f"{key.name}:A")
            numbers[key.name] += key.entries if view is None else view.shape[0] * sum(key.shape)
    return numbers


def _reading(key: LayerKey, sources: Sequence[Source], base: Sequence[Source], precision: str) -> Reading:
    # An adapter's update is about zero: its base is no row of it.
    used = sources if key.name in sources[0].low_rank else [*sources, *base]
    sizes = [source.stored_bytes(key.name) for source in used]
    ranks = []
    for source, size in zip(used, sizes, strict=True):
        if key.name in source.low_rank:
            # Factors that are only formed when read have no view, and take about their bytes.
            view = source.find(f"{key.name}:A")
            ranks.append(view.shape[0] if view is not None else max(1, size // (4 * sum(key.shape))))
    # Eight bytes a weight are float64, in which `auto` then forms the products.
    widest = 8 if not ranks and max(sizes[: len(sources)]) >= 8 * key.entries else 4
    item_bytes = _ITEM_BYTES.get(precision, widest)
    return Reading(key, len(used), sum(sizes), far_bytes(used, key), sum(ranks), item_bytes)
