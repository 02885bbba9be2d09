"""Layers computed, here or by an executor's workers, and stored as soon as they are done.

torch is imported by what computes, not by a page that only looks results up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from uws_core.errors import Cancelled, StoreError, UwsError
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.blocks import bunches
from uws_core.passes.options import Effort, memory_of
from uws_core.passes.progress import Progress
from uws_core.store.codec import gram_bytes, gram_from, gram_key
from uws_core.store.keyed_lock import TURNS
from uws_core.store.results import Store

# How often somebody who pressed stop is heard while another scan has the layer.
_BEAT_SECONDS = 0.2

# A layer with its Gram and why that could not be stored, or without one and what went wrong.
Outcome = tuple[LayerKey, Gram | None, UwsError | None]


@dataclass(frozen=True, slots=True)
class Scanning:
    """What is scanned, where results go, how, and who hears how far it is."""

    collection: Collection
    place: Store
    effort: Effort
    progress: Progress

    def here(self, layers: Sequence[LayerKey]) -> Iterator[Outcome]:
        """Each layer by a pass here, small ones several at once; one that another scan of this process has is awaited.

        A layer is held only while it is computed, so that scans whose reader pauses hold up no other.
        """
        rest = list(layers)
        while rest:
            others = list[LayerKey]()
            for bunch in bunches(self.collection, rest):
                mine = TURNS.take(self._turn(layer) for layer in bunch)
                try:
                    made = self._made([layer for layer in bunch if self._turn(layer) in mine])
                finally:
                    TURNS.give_back(mine)
                yield from made
                others += [layer for layer in bunch if self._turn(layer) not in mine]
            rest = others
            while rest and not TURNS.wait(self._turn(rest[0]), seconds=_BEAT_SECONDS):
                self.progress.beside(0, f"{rest[0].short}: another scan is reading it")

    def spread(self, layers: Sequence[LayerKey], executor: Executor) -> Iterator[Outcome]:
        """Each layer as the executor's workers finish."""
        from uws_core.passes.distribute import spread

        effort, beat = self.effort, self.progress.beside
        made = spread(self.collection, layers, executor, options=effort.options, budget=effort.budget, beat=beat)
        yield from (self._settled(layer, found) for layer, found in made)

    def _turn(self, layer: LayerKey) -> str:
        return f"{self.place.path}/{gram_key(self.collection, layer, self.effort.precision)}"

    def _made(self, layers: Sequence[LayerKey]) -> list[Outcome]:
        """These layers, from the store where another scan was faster, computed and stored where not."""
        there = {layer: looked_up(self.place, self.collection, layer, self.effort.precision) for layer in layers}
        rest = [layer for layer, gram in there.items() if gram is None]
        try:
            found = self._computed(rest) if rest else []
        except Cancelled:
            raise
        except UwsError as error:
            found = [error] * len(rest)
        made = [self._settled(layer, one) for layer, one in zip(rest, found, strict=True)]
        return [(layer, gram, None) for layer, gram in there.items() if gram is not None] + made

    def _computed(self, layers: Sequence[LayerKey]) -> Sequence[Gram | UwsError]:
        with memory_of(layers[0]):
            return computed(self.collection, layers, self.effort, self.progress)

    def _settled(self, layer: LayerKey, found: Gram | UwsError) -> Outcome:
        """What became of a layer, stored if there is room."""
        if isinstance(found, UwsError):
            return layer, None, found
        try:
            self.place.put(gram_key(self.collection, layer, self.effort.precision), gram_bytes(found))
        except StoreError as error:
            return layer, found, error
        return layer, found, None


def computed(
    collection: Collection, layers: Sequence[LayerKey], effort: Effort, progress: Progress
) -> Sequence[Gram | UwsError]:
    """The Grams of one of `bunches`, or what went wrong with single ones; reads weights.

    Raises:
        UwsError: what is wrong with all of them.
    """
    from uws_core.passes.layer_batch import grams

    return grams(collection, layers, report=progress.inside(layers), **effort.options)


def looked_up(store: Store, collection: Collection, layer: LayerKey, precision: str) -> Gram | None:
    """The Gram that the store has of a layer, under the collection's labels; a damaged one counts as none."""
    raw = store.get(gram_key(collection, layer, precision))
    if raw is None:
        return None
    try:
        gram = gram_from(raw)
    except StoreError:
        return None
    # The same contents may stand in another folder under other names.
    return replace(gram, labels=collection.labels) if gram.n == len(collection) else None
