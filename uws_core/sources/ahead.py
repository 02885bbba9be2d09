"""A layer of every model on the Hub, fetched at once: passes read in order, often twice, and networks dislike it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from uws_core.nouns.models import LayerKey
from uws_core.nouns.sizes import bytes_text
from uws_core.sources.base import Rows, Source, on_hub
from uws_core.sources.slices import Slices

Report = Callable[[float, str], None]

# One read: long enough to hide a round trip, short enough that eight of them are little memory.
_PIECE: Final = 8 * 2**20
_READERS: Final = 8


def fetch_ahead(sources: Sequence[Source], layer: LayerKey, *, rows: Rows = None, report: Report | None = None) -> int:
    """Reads a layer, or some of its rows, of all models on the Hub into the kept slices; returns the bytes of it.

    Nothing is done, and 0 returned, where no model is on the Hub, none of their bytes are kept, or they are more than
    half of what is kept: then every read goes to the Hub by itself.

    Raises:
        SourceError: a model cannot be read; the first one met is named.
    """
    far = _far(sources, layer)
    share = 1.0 if rows is None else (rows[1] - rows[0]) / layer.shape[0]
    total = int(sum(source.stored_bytes(layer.name) for source in far) * share)
    slices = _slices()
    if not far or slices is None or total > slices.limit // 2:
        return 0
    reads = [(source, part) for source in far for part in _parts(source, layer, rows)]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="uws-ahead") as pool:
        running = [pool.submit(source.read, layer.name, part) for source, part in reads]
        try:
            for done, task in enumerate(running, start=1):
                task.result()
                if report:
                    read = total * done / len(running)
                    report(
                        done / len(running), f"{layer.short}: {bytes_text(read)} of {bytes_text(total)} from the Hub"
                    )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if rows is None:
        _near().update(((str(source.ref), layer.name), (slices, slices.cleared)) for source in far)
    return total


def far_bytes(sources: Sequence[Source], layer: LayerKey) -> int:
    """The bytes of a layer that the Hub must still send: not those that this process has fetched and keeps."""
    return sum(source.stored_bytes(layer.name) for source in _far(sources, layer))


def _far(sources: Sequence[Source], layer: LayerKey) -> list[Source]:
    """The models on the Hub whose layer was not fetched by this process, or may have had to make room since."""
    far = [source for source in sources if on_hub(source.ref) and source.find(layer.name)]
    slices = _slices() if far else None
    if slices is None:
        return far
    here, near = (slices, slices.cleared), _near()
    return [source for source in far if near.get((str(source.ref), layer.name)) != here]


def _near() -> dict[tuple[str, str], tuple[object, int]]:
    """The models and layers that this process fetched whole: where to, and how often room had been made there."""
    from uws_core.sources import hub

    return hub.client().fetched


def _slices() -> Slices | None:
    from uws_core.sources import hub

    return hub.slices()


def _parts(source: Source, layer: LayerKey, rows: Rows) -> Iterator[Rows]:
    """The rows of single reads; the factors of an adapter are small and read whole."""
    key = source.find(layer.name)
    if key is None or key.name in source.thin:
        yield rows
        return
    start, stop = rows or (0, key.shape[0])
    step = max(1, _PIECE * key.shape[0] // max(1, source.stored_bytes(layer.name)))
    yield from ((row, min(row + step, stop)) for row in range(start, stop, step))
