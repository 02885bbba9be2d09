"""The only room that opens weight files or the network.

A place (a folder, the Hub) offers files as ranges of bytes; a format turns them into a `Source`. Every pair works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from uws_core.errors import SourceError, UnreadableFile, UnsupportedFormat
from uws_core.nouns.models import ModelRef
from uws_core.sources import pickled
from uws_core.sources.adapter import SeveralAdapters, is_adapter
from uws_core.sources.base import Source
from uws_core.sources.base import on_hub as on_hub
from uws_core.sources.checkpoint import Checkpoint
from uws_core.sources.folder import tensors_at
from uws_core.sources.kept import Kept, Layouts, Watched, marks_of, now_ns
from uws_core.sources.several import opened_adapter
from uws_core.sources.tensors import Tensors

# How the tensors of a model become layers, by format.
FORMATS: Final[Mapping[str, Callable[[ModelRef, Tensors], Source]]] = {
    "checkpoint": Checkpoint,
    "adapter": opened_adapter,
}
# A pass opens every model once a layer: what was understood, and found to be of its commit, is kept.
_kept: Final = Kept()
_layouts: Final = Layouts()


def open_source(ref: ModelRef) -> Source:
    """The model, opened in any process; nothing but headers is read. A commit in `ref` must still be the content's.

    Raises:
        SourceError: missing, damaged, of a format that is not read, or changed since the commit was taken.
    """
    return watched(ref).source


def watched(ref: ModelRef) -> Watched:
    """The opened model, with which a change of its files is noticed without opening it again; see `open_source`."""
    try:
        if on_hub(ref):
            return Watched(ref, _from_hub(ref), far=True)
        return _kept.get(ref) or _checked(ref)
    except SourceError as error:
        if isinstance(error, SeveralAdapters):
            raise
        raise type(error)(f"{_shown(ref)}: {error}") from error


def resolved(ref: ModelRef) -> tuple[ModelRef, Source]:
    """The reference with the commit of its content now, and the opened model.

    Raises:
        SourceError: see `open_source`.
    """
    found = watched(ref)
    source = found.source
    if not on_hub(ref) and not ref.commit:
        source.ref = replace(ref, commit=source.digest())
        _kept.keep(replace(found, ref=source.ref))
    return source.ref, source


def adapters_of(ref: ModelRef, names: Sequence[str]) -> Iterator[tuple[ModelRef, Source | SourceError]]:
    """Each adapter of one file, opened or with what is wrong with it; the file is opened once.

    Raises:
        SourceError: the file cannot be read; see `open_source`.
    """
    if on_hub(ref):
        from uws_core.sources import hub

        ref = hub.at_commit(ref)
    began = now_ns()
    tensors = hub.tensors_at(replace(ref, part=_file(ref))) if on_hub(ref) else _on_disk(ref)
    marks = () if on_hub(ref) else marks_of(ref, tensors, began_ns=began)
    for name in names:
        part = replace(ref, part=f"{ref.part}:{name}")
        try:
            source = _opened(part, tensors)
            source.ref = replace(part, commit=ref.commit or source.digest())
            _kept.keep(Watched(source.ref, source, marks))
            yield source.ref, source
        except SourceError as error:
            yield part, type(error)(f"{_shown(part)}: {error}")


def _from_hub(ref: ModelRef) -> Source:
    """A model on the Hub; its commit is the content's, so a revision becomes one before anything is read."""
    # The client takes 0.4 s to load, which a folder on this machine need not wait for.
    from uws_core.sources import hub

    if pickled.MARK in ref.part:
        raise UnsupportedFormat("pickled files on the Hub are not read; download and convert them to safetensors")
    ref = hub.at_commit(ref)
    return _opened(ref, hub.tensors_at(replace(ref, part=_file(ref))))


def _on_disk(ref: ModelRef) -> Tensors:
    file, marked, _ = _file(ref).partition(pickled.MARK)
    return pickled.tensors_at(Path(ref.repo), file) if marked else tensors_at(Path(ref.repo), file)


def _checked(ref: ModelRef) -> Watched:
    """A model on this machine, whose content is that of the commit, if one is named; then it is kept."""
    began = now_ns()
    tensors = _on_disk(ref)
    found = Watched(ref, _opened(ref, tensors), marks_of(ref, tensors, began_ns=began))
    if ref.commit:
        if found.source.digest() != ref.commit:
            raise UnreadableFile("the files changed since the collection was made; open the collection again")
        _kept.keep(found)
    return found


def _opened(ref: ModelRef, tensors: Tensors) -> Source:
    # The layout of one of several adapters is a small part of its file's.
    known = None if ":" in ref.part else _layouts.alike(ref, tensors)
    if known is not None:
        return known
    source = FORMATS["adapter" if is_adapter(tensors) else "checkpoint"](ref, tensors)
    source.left_out = (*tensors.left_out, *source.left_out)
    return _layouts.note(source, tensors)


def _file(ref: ModelRef) -> str:
    """The part without the name of one adapter among several in a file: `x.safetensors:style`, or `:style`."""
    return ref.part.partition(":")[0]


def _shown(ref: ModelRef) -> str:
    return f"{ref.repo}#{ref.part}" if ref.part else ref.repo
