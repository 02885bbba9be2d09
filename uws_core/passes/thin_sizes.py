"""How many numbers adapters store for a layer: their factors, not the update that these make when multiplied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.opened import open_all
from uws_core.sources.base import Source


def stored_numbers(
    collection: Collection, layers: Iterable[str] | None = None, members: Sequence[int] | None = None
) -> Mapping[str, int]:
    """The numbers that the chosen models store for each layer that is kept as factors: `sum r (m + p)`.

    A layer that all models store whole is not in it, nor is a factor view. Headers only are read.

    Raises:
        SourceError: a model went away or changed since the collection was made.
    """
    names = [layer.name for layer in collection.layers] if layers is None else list(layers)
    thin = [collection.by_name[name] for name in names if f"{name}:A" in collection.by_name]
    if not thin:
        return {}
    rows = range(len(collection)) if members is None else members
    sources = open_all([collection.refs[row] for row in rows])
    return {key.name: sum(_numbers(source, key) for source in sources) for key in thin}


def _numbers(source: Source, key: LayerKey) -> int:
    view = source.find(f"{key.name}:A")
    return key.entries if view is None else view.shape[0] * sum(key.shape)
