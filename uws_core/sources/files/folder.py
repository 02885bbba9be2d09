"""Models on this machine's disk: one safetensors file, or a folder with one, with shards, or with an adapter."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from uws_core.errors import OutsideRoot, SourceError, UnreadableFile
from uws_core.nouns.models import LeftOut
from uws_core.sources.files.blob import Blob, FileBlob, read_header
from uws_core.sources.files.header import Header
from uws_core.sources.files.shards import SUFFIX, layout_of, safe_name
from uws_core.sources.files.tensors import ADAPTER, CONFIG, Tensors, open_tensors, takes_config

# Path, size, times of last change of content and of entry: while they stand, what was read in this process is current.
Stamp = tuple[str, int, int, int]
# A file written twice within one tick of its clock keeps its times, so a younger one is read anew.
_SETTLED_NS: Final = 2_000_000_000

# A header of 300 tensors takes about 150 kB once parsed.
_KEPT_HEADERS: Final = 1024
# Adapters that lie in one file are opened one after another.
_KEPT_FILES: Final = 64
_opened: Final[dict[tuple[tuple[Stamp, ...], bytes, tuple[LeftOut, ...]], Tensors]] = {}


def files_of(path: Path, part: str = "") -> Mapping[str, Blob]:
    """The files of a model by relative name: all of a folder's and of its sub-folder `part`, or the one file.

    Raises:
        UnreadableFile: nothing is there.
    """
    try:
        if path.is_file():
            config = path.with_name(CONFIG)
            beside = [config] if config.is_file() and _is_chosen(path) else []
            return {file.name: FileBlob(file) for file in (path, *beside)}
        names = list(path.iterdir())
        inner = path / part if (path / part).is_dir() else (path / part).parent
        if inner != path:
            names += inner.iterdir()
        return {file.relative_to(path).as_posix(): FileBlob(file) for file in sorted(names) if file.is_file()}
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror or error}") from error


def tensors_at(path: Path, part: str = "") -> Tensors:
    """The tensors of the model at `path`; headers already read in this process are not read again.

    Raises:
        SourceError: nothing readable is there; see `open_tensors`.
    """
    files = files_of(path, safe_name(part) if part else "")
    layout = layout_of(files.keys(), path.name if path.is_file() else part)
    found = open_tensors(files, layout, header=_header)
    if layout.index:
        _check_inside(path, found)
    elif path.is_file() and CONFIG not in files and path.with_name(CONFIG).is_file() and takes_config(found.spans):
        count = sum(is_weights(file) for file in path.parent.iterdir())
        reason = f"not used: {count} weights files lie beside it and it does not say whose it is"
        found = replace(found, left_out=(LeftOut(CONFIG, f"{reason}; give each a folder of its own"),))
    return _shared(found)


def is_weights(path: Path) -> bool:
    """Whether a path is a safetensors file by name."""
    return path.name.endswith(SUFFIX) and not path.name.startswith(".")


def stamps(tensors: Tensors) -> tuple[Stamp, ...]:
    """What a file system knows of the files, to notice a change without reading them."""
    return tuple(_stamp(blob) for blob in tensors.blobs)


def _is_chosen(path: Path) -> bool:
    """Whether a file holds the weights that opening its folder would choose, so that a configuration there is its."""
    if path.name.startswith(ADAPTER):
        return True
    try:
        return layout_of([file.name for file in path.parent.iterdir() if is_weights(file)]).files == (path.name,)
    except SourceError:
        return False


def _shared(found: Tensors) -> Tensors:
    """The tensors as they were opened before, while the files stand, with what was understood of them since."""
    key = (stamps(found), found.config, found.left_out)
    if not settled(key[0]):
        return found
    if key not in _opened and len(_opened) >= _KEPT_FILES:
        _opened.clear()
    return _opened.setdefault(key, found)


def _check_inside(path: Path, tensors: Tensors) -> None:
    """Shards named by an index must lie in the folder, also through links; a Hub cache links to its own `blobs`."""
    root = path.resolve()
    allowed = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    for blob in tensors.blobs:
        target = Path(blob.path).resolve() if isinstance(blob, FileBlob) else root
        if not any(target.is_relative_to(place) for place in allowed):
            raise OutsideRoot(f"{blob.name}: the index leads through a link to {target}, outside {root}")


def settled(stamps: Sequence[Stamp]) -> bool:
    """Whether a further change of these files would show in their stamps."""
    return time.time_ns() - max(max(stamp[2:]) for stamp in stamps) > _SETTLED_NS


def _stamp(blob: Blob) -> Stamp:
    if not isinstance(blob, FileBlob):
        return (blob.name, blob.size, 0, 0)
    seen = blob.path.stat()
    return (str(blob.path), seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _header(blob: Blob) -> Header:
    stamp = _stamp(blob)
    return _header_at(stamp) if settled([stamp]) else read_header(blob)


@lru_cache(maxsize=_KEPT_HEADERS)
def _header_at(stamp: Stamp) -> Header:
    return read_header(FileBlob(Path(stamp[0])))
