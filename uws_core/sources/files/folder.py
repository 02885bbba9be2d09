"""Models on this machine's disk: one safetensors file, or a folder with one, with shards, or with an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from uws_core.errors import OutsideRoot, SourceError, UnreadableFile
from uws_core.nouns.models import LeftOut
from uws_core.sources.files.blob import Blob, FileBlob, Stamp, is_settled
from uws_core.sources.files.shards import SUFFIX, layout_of, safe_name
from uws_core.sources.files.tensors import ADAPTER, CONFIG, MODEL_CONFIG, Tensors, open_tensors, takes_config

# Adapters that lie in one file are opened one after another.
_MOST_FILES: Final = 64
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
            model_config = path.with_name(MODEL_CONFIG)
            beside += [model_config] if model_config.is_file() else []
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
    tensors = open_tensors(files, layout)
    if layout.index:
        # Shards named by an index must lie in the folder, also through links; a Hub cache links to its own `blobs`.
        root = path.resolve()
        allowed = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
        for blob in tensors.blobs:
            target = Path(blob.path).resolve() if isinstance(blob, FileBlob) else root
            if not any(target.is_relative_to(place) for place in allowed):
                raise OutsideRoot(f"{blob.name}: the index leads through a link to {target}, outside {root}")
    elif path.is_file() and CONFIG not in files and path.with_name(CONFIG).is_file() and takes_config(tensors.spans):
        count = sum(is_weights(file) for file in path.parent.iterdir())
        reason = f"not used: {count} weights files lie beside it and it does not name the file it belongs to"
        tensors = replace(tensors, left_out=(LeftOut(CONFIG, f"{reason}; give each a folder of its own"),))
    # The same object while the files are unchanged, so that what was derived from it is shared.
    key = (stamps(tensors), tensors.config + tensors.model_config, tensors.left_out)
    if not is_settled(key[0]):
        return tensors
    if key not in _opened and len(_opened) >= _MOST_FILES:
        _opened.clear()
    return _opened.setdefault(key, tensors)


def is_weights(path: Path) -> bool:
    """Whether a path is a safetensors file by name."""
    return path.name.endswith(SUFFIX) and not path.name.startswith(".")


def stamps(tensors: Tensors) -> tuple[Stamp, ...]:
    """What a file system knows of the files, to notice a change without reading them."""
    return tuple(blob.stamp() for blob in tensors.blobs if isinstance(blob, FileBlob))


def _is_chosen(path: Path) -> bool:
    """Whether a file holds the weights that opening its folder would choose, so that a configuration there is its."""
    if path.name.startswith(ADAPTER):
        return True
    try:
        return layout_of([file.name for file in path.parent.iterdir() if is_weights(file)]).files == (path.name,)
    except SourceError:
        return False
