"""The only room that opens weight files or the network.

A place (a folder, the Hub) offers files as ranges of bytes; a format turns them into a `Source`. Every pair works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from uws_core.errors import SourceError, UnreadableFile, UnsupportedFormat
from uws_core.nouns.models import ModelRef
from uws_core.sources import pickled
from uws_core.sources.adapter import Adapter, SeveralAdapters, is_adapter
from uws_core.sources.base import Source
from uws_core.sources.checkpoint import Checkpoint
from uws_core.sources.folder import Stamp, settled, stamps, tensors_at
from uws_core.sources.tensors import Tensors

# How the tensors of a model become layers, by format.
FORMATS: Final[Mapping[str, Callable[[ModelRef, Tensors], Source]]] = {
    "checkpoint": Checkpoint,
    "adapter": Adapter,
}
# A pass opens every model once a layer; a layout that was understood, and found to be of its commit, is kept while the
# file system reports no change. One of 300 tensors takes about 150 kB.
_KEPT: Final = 1024
_Key = tuple[ModelRef, tuple[Stamp, ...], bytes]
_kept: Final[dict[_Key, Source]] = {}


def open_source(ref: ModelRef) -> Source:
    """The model, opened in any process; nothing but headers is read. A commit in `ref` must still be the content's.

    Raises:
        SourceError: missing, damaged, of a format that is not read, or changed since the commit was taken.
    """
    try:
        if on_hub(ref):
            return _from_hub(ref)
        file, marked, _ = _file(ref).partition(pickled.MARK)
        tensors = pickled.tensors_at(Path(ref.repo), file) if marked else tensors_at(Path(ref.repo), file)
        return _checked(ref, tensors)
    except SourceError as error:
        if isinstance(error, SeveralAdapters):
            raise
        raise type(error)(f"{_shown(ref)}: {error}") from error


def resolved(ref: ModelRef) -> tuple[ModelRef, Source]:
    """The reference with the commit of its content now, and the opened model.

    Raises:
        SourceError: see `open_source`.
    """
    source = open_source(ref)
    if not on_hub(ref):
        source.ref = ModelRef(ref.repo, ref.commit or source.digest(), ref.part)
    return source.ref, source


def on_hub(ref: ModelRef) -> bool:
    """Whether a reference names a repository on the Hub: models on this machine have absolute paths."""
    return not Path(ref.repo).is_absolute()


def _from_hub(ref: ModelRef) -> Source:
    """A model on the Hub; its commit is the content's, so a revision becomes one before anything is read."""
    # The client takes 0.4 s to load, which a folder on this machine need not wait for.
    from uws_core.sources import hub

    if pickled.MARK in ref.part:
        raise UnsupportedFormat("pickled files on the Hub are not read; download and convert them to safetensors")
    ref = hub.at_commit(ref)
    return _opened(ref, hub.tensors_at(replace(ref, part=_file(ref))))


def _checked(ref: ModelRef, tensors: Tensors) -> Source:
    """The model, whose content is that of the commit, if one is named."""
    key = (ref, stamps(tensors), tensors.config)
    if key in _kept:
        return _kept[key]
    source = _opened(ref, tensors)
    if not ref.commit:
        return source
    if source.digest() != ref.commit:
        raise UnreadableFile("the files changed since the collection was made; open the collection again")
    if settled(key[1]):
        if len(_kept) >= _KEPT:
            _kept.clear()
        _kept[key] = source
    return source


def _opened(ref: ModelRef, tensors: Tensors) -> Source:
    return FORMATS["adapter" if is_adapter(tensors) else "checkpoint"](ref, tensors)


def _file(ref: ModelRef) -> str:
    """The part without the name of one adapter among several in a file: `x.safetensors:style`, or `:style`."""
    return ref.part.partition(":")[0]


def _shown(ref: ModelRef) -> str:
    return f"{ref.repo}#{ref.part}" if ref.part else ref.repo
