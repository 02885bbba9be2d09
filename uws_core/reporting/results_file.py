"""Writes a results file: the Grams of a collection and what else was computed of it, without weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import polars as pl

from uws_core.analysis.spectrum import spectrum
from uws_core.errors import StoreError, UwsError
from uws_core.export import versions
from uws_core.frames.spectrum import scree
from uws_core.nouns.cost import bytes_text
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey, LeftOut
from uws_core.passes.layer_scan import stored_gram
from uws_core.store.codec import gram_key, to_bytes
from uws_core.store.results import Store, default_store
from uws_core.store.results_file import key_prefix, write_results_file

# Block Grams and directions are kept while all together stay below it: 500 models have 16 MB of blocks a layer.
USUAL_LIMIT = 64 * 2**20
SPECTRA, MODELS = "spectra.csv", "models.csv"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: bytes of the file, layers, other results, and what was left out for its size."""

    bytes: int
    layers: int
    others: int
    left_out: tuple[LeftOut, ...]


def write_results(
    path: Path,
    collection: Collection,
    layers: Sequence[LayerKey],
    *,
    limit: int = USUAL_LIMIT,
    everything: bool = True,
    store: Store | None = None,
) -> Written:
    """Writes the stored results of these layers into `path`; reads no weights.

    Grams always go in. With `everything`, so do their block Grams, then each model's own directions, side Grams and
    whatever else the store has of these layers, in this order, while the whole stays below `limit` bytes; without it,
    block Grams only. What stays out for its size is named in the file. `spectra.csv` and `models.csv` are for other
    programs.

    Raises:
        StoreError: the store lacks the Gram of a layer.
        ExportError: the file cannot be written.
    """
    store = store if store is not None else default_store()
    ends = {layer: gram_key(collection, layer).removeprefix(key_prefix(collection.fingerprint)) for layer in layers}
    sizes = [_sizes(_gram(store, collection, layer)) for layer in layers]
    plain, blocks = (sum(column) for column in zip(*sizes, strict=True))
    with_blocks = plain + blocks <= limit
    left = limit - plain - (blocks if with_blocks else 0)
    others, dropped = _others(store, collection, set(ends.values()), left) if everything else ((), 0)
    left_out = list[LeftOut]()
    if not with_blocks:
        reason = f"not in the results file for their size ({bytes_text(blocks)}); noise has the models' norms alone"
        left_out.append(LeftOut("the Grams of blocks", reason))
    if dropped:
        left_out.append(
            LeftOut(f"{dropped} further results", f"not in the results file, which has {bytes_text(limit)}")
        )

    def entries() -> Iterator[tuple[str, bytes]]:
        for layer in layers:
            gram = _gram(store, collection, layer)
            yield ends[layer], to_bytes(gram if with_blocks else replace(gram, blocks=None))
        for end in others:
            raw = store.get(key_prefix(collection.fingerprint) + end)
            if raw is not None:
                yield end, raw

    # The spectrum of every layer about the mean of all models, one row a direction.
    tables = []
    for layer in layers:
        with suppress(UwsError):
            table = scree(spectrum(_gram(store, collection, layer)))
            columns = ("component", "variance", "share", "cumulative")
            tables.append(table.select(pl.lit(layer.name).alias("layer"), *columns))
    size_on_disk = write_results_file(
        path,
        replace(collection, layers=tuple(layers), left_out=(*collection.left_out, *left_out)),
        entries(),
        packages=versions(),
        extra={
            SPECTRA: (pl.concat(tables) if tables else pl.DataFrame()).write_csv().encode(),
            MODELS: pl.DataFrame({"model": collection.labels, **collection.table}, strict=False).write_csv().encode(),
        },
    )
    return Written(size_on_disk, len(layers), len(others), tuple(left_out))


def _gram(store: Store, collection: Collection, layer: LayerKey) -> Gram:
    gram = stored_gram(store, collection, layer, "auto")
    if gram is None:
        raise StoreError(f"{layer.short}: its Gram is not stored any more; scan the layer again, and export then")
    # Its halves differ by the rounding of sums (1e-17); alike, they are stored once. `eigh` reads the lower one.
    lower = np.tril(gram.values)
    return replace(gram, values=lower + np.tril(lower, -1).T)


def _sizes(gram: Gram) -> tuple[int, int]:
    """The bytes of a Gram without its blocks, and of its blocks, of which one triangle is stored."""
    blocks = 0 if gram.blocks is None else (gram.blocks.rows.nbytes + gram.blocks.columns.nbytes) // 2
    return len(to_bytes(replace(gram, blocks=None))), blocks


def _others(store: Store, collection: Collection, grams: Set[str], limit: int) -> tuple[tuple[str, ...], int]:
    """The further results of these layers that fit, and how many do not; the smallest first."""
    prefix = key_prefix(collection.fingerprint)
    sizes = dict[str, int]()
    for key in store.keys(prefix):
        end = key.removeprefix(prefix)
        if "/" in end and end.partition("/")[0] in grams:
            sizes[end] = len(store.get(key) or b"")
    kept, total = list[str](), 0
    for end, size in sorted(sizes.items(), key=itemgetter(1)):
        if total + size <= limit:
            kept.append(end)
            total += size
    return tuple(kept), len(sizes) - len(kept)
