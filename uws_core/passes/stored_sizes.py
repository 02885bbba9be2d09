"""Sizes of stored layers, from headers alone: bytes to read, bytes from the Hub, ranks and numbers of adapters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from uws_core.nouns.cost import Reading
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.storage import StoredSizes
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


def stored_sizes(
    collection: Collection, layers: Iterable[LayerKey | str] | None = None, members: Sequence[int] | None = None
) -> StoredSizes:
    """What the chosen models' files store for each layer: ranks of factors, and bytes. Headers only are read.

    A model that keeps an update as a product that is formed when it is read (LoHa, LoKr) counts as the rank that takes
    about its bytes. Factor views are no layers of their own here.

    Raises:
        LayerError: a layer the collection does not have.
        SourceError: a model went away or changed since the collection was made.
    """
    keys = collection.layers if layers is None else [collection.layer(layer) for layer in layers]
    keys = [key for key in keys if not (key.factor and key.name[:-2] in collection.by_name)]
    rows = range(len(collection)) if members is None else members
    sources = open_sources([collection.refs[row] for row in rows])
    ranks = {key.name: tuple(_rank(source, key) for source in sources) for key in keys}
    sizes = {key.name: sum(source.stored_bytes(key.name) for source in sources) for key in keys}
    return StoredSizes({name: every for name, every in ranks.items() if any(every)}, sizes)


def _rank(source: Source, key: LayerKey) -> int:
    """The rank of a model's stored factors; 0 where it keeps the layer whole."""
    if key.name not in source.low_rank:
        return 0
    view = source.find(f"{key.name}:A")
    # Factors that are only formed when read have no view, and take about their bytes.
    return view.shape[0] if view is not None else max(1, source.stored_bytes(key.name) // (4 * sum(key.shape)))


def _reading(key: LayerKey, sources: Sequence[Source], base: Sequence[Source], precision: str) -> Reading:
    # An adapter's update is about zero: its base is no row of it.
    used = sources if key.name in sources[0].low_rank else [*sources, *base]
    sizes = [source.stored_bytes(key.name) for source in used]
    ranks = [_rank(source, key) for source in used if key.name in source.low_rank]
    # Eight bytes a weight are float64, in which `auto` then forms the products.
    widest = 8 if not ranks and max(sizes[: len(sources)]) >= 8 * key.entries else 4
    item_bytes = _ITEM_BYTES.get(precision, widest)
    return Reading(key, len(used), sum(sizes), far_bytes(used, key), sum(ranks), item_bytes)
