"""Several small layers from one opening of the models, which takes longer than reading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType

from uws_core.analysis.cores import one_core_each
from uws_core.errors import Cancelled, UwsError
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.gram import gram, gram_of_sources, models_read
from uws_core.passes.growing import KnownProducts
from uws_core.passes.open_models import full_single_precision, open_models
from uws_core.passes.options import ComputeOptions
from uws_core.sources.hub.prefetch import prefetch_layers

NOTHING_KNOWN: Mapping[LayerKey, KnownProducts] = MappingProxyType({})


def batch_grams(
    collection: Collection,
    layers: Sequence[LayerKey],
    options: ComputeOptions,
    known: Mapping[LayerKey, KnownProducts] = NOTHING_KNOWN,
) -> list[Gram | UwsError]:
    """The Gram of each layer of one of `blocks.layer_batches`, or the error of this layer alone.

    Of layers of adapters some models' products may be `known`.

    Returns only after all models were found unchanged after the last read.

    Raises:
        SourceError: a model cannot be opened, or changed meanwhile.
        Cancelled: `options.report` raised it.
    """
    if len(layers) == 1 and not known:
        return [gram(collection, layers[0], **options.keywords)]
    total, done, results = sum(key.entries for key in layers), 0, list[Gram | UwsError]()

    def inside(fraction: float, message: str) -> None:
        options.report((done + fraction * key.entries) / total, message)

    within = replace(options, report=inside)
    with open_models(models_read(collection, layers)) as sources, full_single_precision():
        low_rank = any(key.name in sources[0].low_rank for key in layers)
        # Dense layers would ask for it one by one, which takes as long as computing them.
        with nullcontext() if low_rank else one_core_each():
            prefetch_layers(sources, layers, report=options.report)
            for key in layers:
                # All layers together may be more than the cache keeps.
                prefetch_layers(sources, [key], report=options.report)
                try:
                    results.append(gram_of_sources(collection, key, sources, within, known=known.get(key)))
                except Cancelled:
                    raise
                except UwsError as error:
                    results.append(error)
                done += key.entries
                options.report(done / total, f"{key.short}: {len(collection)} models")
    return results
