"""What reading layers moves, told from headers alone: exact bytes, and how many of them come over a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uws_core.nouns.models import Collection
from uws_core.passes.opened import open_all
from uws_core.sources.ahead import far_bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """`bytes` of some layers of all models as they are stored, and of these the `far` ones that the Hub must send."""

    bytes: int
    far: int


def stored(collection: Collection, layers: Sequence[str]) -> Stored:
    """The bytes of these layers of all models, and of the base where it has them; headers that are known are not read.

    Raises:
        SourceError: a model went away or changed since the collection was made.
    """
    sources = open_all(collection.refs)
    base = open_all([collection.base]) if collection.base else []
    total = far = 0
    for name in layers:
        used = [*sources, *(base if name in collection.base_layers else [])]
        total += sum(source.stored_bytes(name) for source in used)
        far += far_bytes(used, collection.by_name[name])
    return Stored(total, far)
