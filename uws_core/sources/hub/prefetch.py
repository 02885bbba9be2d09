"""Prefetches a layer of every Hub model in parallel; passes would otherwise send many small requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from uws_core.nouns.cost import bytes_text
from uws_core.nouns.models import LayerKey
from uws_core.sources.base import Rows, Source, on_hub
from uws_core.sources.files.blob import Blob, Extent
from uws_core.sources.hub.range_cache import RangeCache

Report = Callable[[float, str], None]

# One read: long enough to hide a round trip, short enough that eight of them are little memory.
_PIECE: Final = 8 * 2**20
_READERS: Final = 8
# Unneeded bytes that take less time than another request: 2 ms of a 60 Mbit/s line.
_GAP: Final = 16 * 2**10


def prefetch_layers(
    sources: Sequence[Source], layers: Sequence[LayerKey], *, rows: Rows = None, report: Report | None = None
) -> int:
    """Reads layers, or some rows of each, of all models on the Hub into the range cache; returns their bytes.

    Neighbours in a file come with one request. Nothing is done, and 0 returned, where no model is on the Hub, none of
    there is no range cache, or they would take more than half of it: then every read goes to the Hub by itself.

    Raises:
        SourceError: a model cannot be read; the first one met is named.
    """
    far = [(source, layer) for layer in layers for source in _far(sources, layer)]
    cache = _range_cache() if far else None
    wholes = _joined(extent for source, layer in far for extent in source.extents(layer.name, rows) if extent.blob.far)
    total = sum(whole.nbytes for whole in wholes)
    if cache is None or total > cache.limit // 2:
        return 0
    what = layers[0].short if len(layers) == 1 else f"{layers[0].short} to {layers[-1].short}"
    reads = [part for whole in wholes for part in _pieces(whole, cache.most)]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="uws-ahead") as pool:
        running = [pool.submit(_fetch, part) for part in reads]
        try:
            for done, task in enumerate(running, start=1):
                task.result()
                if report:
                    read = total * done / len(running)
                    report(done / len(running), f"{what}: {bytes_text(read)} of {bytes_text(total)} from the Hub")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if rows is None:
        _fetched().update(((str(source.ref), layer.name), (cache, cache.cleared)) for source, layer in far)
    return total


def far_bytes(sources: Sequence[Source], layer: LayerKey) -> int:
    """The bytes of a layer that the Hub must still send; those in the range cache of this process do not count."""
    far = (extent for source in _far(sources, layer) for extent in source.extents(layer.name) if extent.blob.far)
    return sum(extent.nbytes for extent in far)


def _far(sources: Sequence[Source], layer: LayerKey) -> list[Source]:
    """The models on the Hub whose layer was not fetched by this process, or may have had to make room since."""
    far = [source for source in sources if on_hub(source.ref) and source.find(layer.name)]
    cache = _range_cache() if far else None
    if cache is None:
        return far
    here, fetched = (cache, cache.cleared), _fetched()
    return [source for source in far if fetched.get((str(source.ref), layer.name)) != here]


def _fetched() -> dict[tuple[str, str], tuple[object, int]]:
    """The models and layers that this process fetched whole: where to, and how often room had been made there."""
    from uws_core.sources.hub import hub

    return hub.client().fetched


def _range_cache() -> RangeCache | None:
    from uws_core.sources.hub import hub

    return hub.range_cache()


def _joined(extents: Iterable[Extent]) -> list[Extent]:
    """The extents, with neighbours in one file joined when the gap between them is small."""
    joined = list[Extent]()
    by_file = dict[Blob, list[Extent]]()
    for extent in sorted(extents, key=lambda one: one.start):
        by_file.setdefault(extent.blob, []).append(extent)
    for blob, own in by_file.items():
        start, stop = own[0].start, own[0].stop
        for extent in own[1:]:
            if extent.start > stop + _GAP:
                joined.append(Extent(blob, start, stop))
                start = extent.start
            stop = max(stop, extent.stop)
        joined.append(Extent(blob, start, stop))
    return joined


def _fetch(part: Extent) -> None:
    """Reads bytes into the range cache; returning them would hold all of them in memory."""
    part.blob.read(part.start, part.stop)


def _pieces(whole: Extent, most: int) -> Iterator[Extent]:
    """Single reads of an extent, of at most `most` bytes."""
    size = min(_PIECE, most)
    for start in range(whole.start, whole.stop, size):
        yield Extent(whole.blob, start, min(start + size, whole.stop))
