"""Layers computed in this process or by an executor's workers, and stored as soon as they are done.

Imports torch only when it computes, so that a page that looks results up starts without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from uws_core.errors import Cancelled, StoreError, UwsError
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.blocks import layer_batches
from uws_core.passes.options import ComputeOptions, budget_error_if_out_of_memory
from uws_core.passes.progress import Progress
from uws_core.store.codec import from_bytes, gram_key, to_bytes
from uws_core.store.keyed_lock import RESULT_LOCK
from uws_core.store.results import Store

if TYPE_CHECKING:
    from uws_core.passes.growing import Ancestor, KnownProducts

# How often a cancel is noticed while another scan of this process computes the layer.
_POLL_SECONDS = 0.2

# A layer with its Gram and the reason why it could not be stored, or without a Gram and with the error.
Outcome = tuple[LayerKey, Gram | None, UwsError | None]


@dataclass(frozen=True, slots=True)
class LayerScan:
    """A scan of a collection into a store."""

    collection: Collection
    store: Store
    options: ComputeOptions
    progress: Progress

    def here(self, layers: Sequence[LayerKey]) -> Iterator[Outcome]:
        """Computes the layers in this process, small ones in batches; waits for those that another scan computes.

        A layer is locked only while it is computed, so that a scan whose reader pauses holds up no other.
        """
        # With everything stored neither torch nor a pass is needed.
        if not layers:
            return
        from uws_core.passes.growing import ancestors, remember
        from uws_core.passes.open_models import is_low_rank

        rest = list(layers)
        earlier: tuple[Ancestor, ...] = ()
        # Whole weights are read again for their products with new ones, and reading them is most of the work.
        if any(is_low_rank(self.collection, layer) for layer in layers):
            earlier = ancestors(self.store, self.collection)
            remember(self.store, self.collection)
        while rest:
            others = list[LayerKey]()
            for batch in layer_batches(self.collection, rest):
                acquired = RESULT_LOCK.acquire_free(self._lock_key(layer) for layer in batch)
                try:
                    outcomes = self._batch([layer for layer in batch if self._lock_key(layer) in acquired], earlier)
                finally:
                    RESULT_LOCK.release(acquired)
                yield from outcomes
                others += [layer for layer in batch if self._lock_key(layer) not in acquired]
            rest = others
            while rest and not RESULT_LOCK.wait(self._lock_key(rest[0]), seconds=_POLL_SECONDS):
                self.progress.beside(0, f"{rest[0].short}: another scan is reading it")

    def distributed(self, layers: Sequence[LayerKey], executor: Executor) -> Iterator[Outcome]:
        """Computes the layers with an executor's workers; yields each as it finishes."""
        from uws_core.passes.distribute import distributed_grams

        results = distributed_grams(self.collection, layers, executor, options=self.options, beat=self.progress.beside)
        yield from (self._stored(layer, result) for layer, result in results)

    def _lock_key(self, layer: LayerKey) -> str:
        return f"{self.store.path}/{gram_key(self.collection, layer, self.options.precision)}"

    def _batch(self, layers: Sequence[LayerKey], earlier: Sequence[Ancestor]) -> list[Outcome]:
        """These layers: from the store where another scan has finished them meanwhile, else computed and stored."""
        grams = {layer: stored_gram(self.store, self.collection, layer, self.options.precision) for layer in layers}
        rest = [layer for layer, gram in grams.items() if gram is None]
        results: Sequence[Gram | UwsError] = []
        try:
            if rest:
                with budget_error_if_out_of_memory(rest[0]):
                    results = compute_batch(
                        self.collection, rest, self.options, self.progress, self._known(rest, earlier)
                    )
        except Cancelled:
            raise
        except UwsError as error:
            results = [error] * len(rest)
        computed = [self._stored(layer, result) for layer, result in zip(rest, results, strict=True)]
        return [(layer, gram, None) for layer, gram in grams.items() if gram is not None] + computed

    def _known(self, layers: Sequence[LayerKey], earlier: Sequence[Ancestor]) -> Mapping[LayerKey, KnownProducts]:
        """What earlier collections with most of these models have of layers of adapters."""
        from uws_core.passes.growing import known_products
        from uws_core.passes.open_models import is_low_rank

        found = {
            layer: known_products(self.store, self.collection, layer, earlier, self.options.precision)
            for layer in layers
            if earlier and is_low_rank(self.collection, layer)
        }
        return {layer: products for layer, products in found.items() if products is not None}

    def _stored(self, layer: LayerKey, result: Gram | UwsError) -> Outcome:
        """The outcome of a layer, whose Gram is stored if there is room."""
        if isinstance(result, UwsError):
            return layer, None, result
        try:
            self.store.put(gram_key(self.collection, layer, self.options.precision), to_bytes(result))
        except StoreError as error:
            return layer, result, error
        return layer, result, None


def compute_batch(
    collection: Collection,
    layers: Sequence[LayerKey],
    options: ComputeOptions,
    progress: Progress,
    known: Mapping[LayerKey, KnownProducts],
) -> Sequence[Gram | UwsError]:
    """The Grams of one of `layer_batches`, or the errors of single layers; reads weights.

    Raises:
        UwsError: what prevents all of them.
    """
    from uws_core.passes.layer_batch import batch_grams

    return batch_grams(collection, layers, replace(options, report=progress.inside(layers)), known)


def stored_gram(store: Store, collection: Collection, layer: LayerKey, precision: str) -> Gram | None:
    """The Gram that the store has of a layer, under the collection's labels; a damaged one counts as none."""
    raw = store.get(gram_key(collection, layer, precision))
    if raw is None:
        return None
    try:
        gram = from_bytes(Gram, raw)
    except StoreError:
        return None
    # The same contents may lie in another folder under other names.
    return replace(gram, labels=collection.labels) if gram.n == len(collection) else None
