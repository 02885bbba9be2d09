"""Cache of opened models; an entry is valid until its files change.

Models of one architecture have one layout, which is analysed and stored once: 10,000 checkpoints of 300 tensors take
40 MB together, not 2 GB.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Final

from uws_core.nouns.models import ModelRef
from uws_core.sources.base import FileStamp, Source, on_hub
from uws_core.sources.files import blob
from uws_core.sources.files.blob import Blob, FileBlob
from uws_core.sources.files.tensors import CONFIG, MODEL_CONFIG, Tensors
from uws_core.sources.formats.adapter import Adapter
from uws_core.sources.formats.checkpoint import Checkpoint

# The bytes that all cached models may take; the measured bytes of one model, and of one tensor in a layout of its own.
MOST_BYTES: Final = 256 * 2**20
MODEL_BYTES: Final = 4_000
TENSOR_BYTES: Final = 700
# A collection has one layout, or a few; each takes as much as one model did before.
_LAYOUTS: Final = 64


class SourceCache:
    """Opened models by reference, the least recently used out first; any number of threads may ask."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._models: OrderedDict[ModelRef, Source] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, ref: ModelRef) -> Source | None:
        """The model, if it is cached and its files did not change."""
        with self._lock:
            source = self._models.get(ref)
        if source is None:
            return None
        unchanged = is_unchanged(source)
        with self._lock:
            # Another thread may have dropped or renewed it meanwhile.
            if self._models.get(ref) is source:
                if unchanged:
                    self._models.move_to_end(ref)
                else:
                    self._drop(ref)
        return source if unchanged else None

    def keep(self, source: Source) -> None:
        """Keeps a model that has stamps; others make room."""
        if not source.stamps:
            return
        with self._lock:
            self._drop(source.ref)
            self._models[source.ref] = source
            self._bytes += _size(source)
            while self._bytes > self._most and len(self._models) > 1:
                self._drop(next(iter(self._models)))

    def clear(self) -> None:
        """Drops every model."""
        with self._lock:
            self._models.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._models)

    def _drop(self, ref: ModelRef) -> None:
        dropped = self._models.pop(ref, None)
        self._bytes -= 0 if dropped is None else _size(dropped)


class LayoutCache:
    """Analysed layouts, each shared by every model that has it."""

    def __init__(self, most: int = _LAYOUTS) -> None:
        self._most = most
        self._sources: OrderedDict[object, Source] = OrderedDict()
        self._lock = threading.Lock()

    def alike(self, ref: ModelRef, tensors: Tensors) -> Source | None:
        """A model with the layout of one that was opened before, or None."""
        if type(tensors) is not Tensors:
            return None
        key, notes = _key(ref, tensors)
        with self._lock:
            # The header's metadata matters for adapters only.
            known = next((each for each in ((key, ()), (key, notes)) if each in self._sources), None)
            if known is None:
                return None
            self._sources.move_to_end(known)
            found = self._sources[known]
        return _made_like(found, ref, tensors)

    def note(self, source: Source, tensors: Tensors) -> Source:
        """The source, with a layout that others can share, where it is of a kind that can."""
        if type(tensors) is not Tensors or type(source) not in (Checkpoint, Adapter):
            return source
        key, notes = _key(source.ref, tensors)
        first = _made_like(source, source.ref, tensors)
        with self._lock:
            self._sources[key, notes if isinstance(source, Adapter) else ()] = first
            while len(self._sources) > self._most:
                self._sources.popitem(last=False)
        return copy(first)


def is_unchanged(source: Source) -> bool:
    """Whether the files are for sure those that were opened. Price: one `stat` a file, no read.

    A model on the Hub never changes at its commit; one without stamps may have changed.
    """
    return on_hub(source.ref) or (
        bool(source.stamps) and source.stamps == tuple(_stamp(stamp[0]) for stamp in source.stamps)
    )


def file_stamps(ref: ModelRef, tensors: Tensors, *, started_ns: int) -> tuple[FileStamp, ...]:
    """The stamps of all files and folders that decide what a model on this machine is; none if one is too young.

    `started_ns` is the time when opening began: what changed since may have been read in part.
    """
    stamps = tuple(map(_stamp, _deciding_paths(Path(ref.repo), ref.file, tensors)))
    newest = max((max(stamp[3:]) for stamp in stamps), default=started_ns)
    return stamps if started_ns - newest > blob.SETTLED_NS else ()


class _Homes(Mapping[str, Blob]):
    """The file of each tensor, by a table that models of one layout share."""

    __slots__ = ("_blobs", "places")

    def __init__(self, places: Mapping[str, int], blobs: Sequence[Blob]) -> None:
        self.places, self._blobs = places, tuple(blobs)

    def __getitem__(self, name: str) -> Blob:
        return self._blobs[self.places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _made_like(known: Source, ref: ModelRef, tensors: Tensors) -> Source:
    """A source of these files with the layout of one that is known."""
    layout: Tensors = known._tensors  # type: ignore[attr-defined]
    homes = layout.homes if isinstance(layout.homes, _Homes) else _Homes(_files(layout), layout.blobs)
    own = copy(tensors)
    for name in ("spans", "config", "left_out"):
        object.__setattr__(own, name, getattr(layout, name))
    object.__setattr__(own, "homes", _Homes(homes.places, tensors.blobs))
    # Values cached from the names of the other tensors are not valid here.
    for worked_out in ("by_adapter", "_of_none"):
        own.__dict__.pop(worked_out, None)
    made = copy(known)
    made.ref = ref
    made._tensors = own  # type: ignore[attr-defined]
    return made


def _files(tensors: Tensors) -> dict[str, int]:
    """The place of each tensor's file among the files."""
    at = {id(blob): place for place, blob in enumerate(tensors.blobs)}
    return {name: at[id(blob)] for name, blob in tensors.homes.items()}


def _key(ref: ModelRef, tensors: Tensors) -> tuple[object, object]:
    """The key of a layout (spans, their files, configuration, notes, the named adapter), and the header's metadata."""
    files = () if len(tensors.blobs) == 1 else tuple(_files(tensors).values())
    key = (tuple(tensors.spans.values()), files, tensors.config, tensors.model_config, tensors.left_out, ref.adapter)
    return key, tuple(tensors.metadata.items())


def _size(source: Source) -> int:
    tensors: Tensors | None = getattr(source, "_tensors", None)
    if tensors is None:
        # A member of a compressed folder; what all members share is not its own.
        return MODEL_BYTES
    return MODEL_BYTES + (0 if isinstance(tensors.homes, _Homes) else TENSOR_BYTES * len(tensors.spans))


def _deciding_paths(path: Path, part: str, tensors: Tensors) -> list[str]:
    files = [str(blob.path) for blob in tensors.blobs if isinstance(blob, FileBlob)]
    if not path.is_dir():
        # The owner of a configuration depends on the files beside it.
        beside = path.with_name(CONFIG)
        told = [str(path.with_name(MODEL_CONFIG))] if tensors.model_config else []
        return [*files, *told, str(beside), *([str(path.parent)] if beside.exists() else [])]
    inner = path / part if (path / part).is_dir() else (path / part).parent
    told = [str(inner / MODEL_CONFIG)] if tensors.model_config else []
    indexes = [str(entry) for entry in inner.iterdir() if entry.name.endswith(".index.json")]
    return [*dict.fromkeys([*files, str(path), str(inner), str(inner / CONFIG), *told, *indexes])]


def _stamp(path: str) -> FileStamp:
    try:
        entry = os.stat(path)  # noqa: PTH116 - three times as fast, ten thousand times a layer
    except OSError:
        return (path, -1, 0, 0, 0)
    return (path, entry.st_size, entry.st_ino, entry.st_mtime_ns, entry.st_ctime_ns)
