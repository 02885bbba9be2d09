"""The front door: a reference becomes an opened `Source`, one or many at once. Only headers are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from uws_core.errors import NoWeights, SourceError, UnreadableFile, UnsupportedFormat
from uws_core.nouns.models import WITHOUT_WEIGHTS, LayerKey, LeftOut, ModelRef, Value
from uws_core.sources.base import FileStamp, Source, on_hub
from uws_core.sources.files.folder import tensors_at
from uws_core.sources.files.tensors import Tensors
from uws_core.sources.formats import pickled
from uws_core.sources.formats.adapter import is_adapter
from uws_core.sources.formats.adapter_layout import MultipleAdapters
from uws_core.sources.formats.checkpoint import Checkpoint
from uws_core.sources.formats.compressed import opened_member
from uws_core.sources.formats.model_buffers import hold_the_same, may_be_buffer
from uws_core.sources.formats.multi_adapter import opened_adapter
from uws_core.sources.formats.subspace_files import (
    FolderFiles,
    SubspaceFiles,
    folder_files,
    folder_stamps,
    is_compressed,
)
from uws_core.sources.listing import Roots, all_inside
from uws_core.sources.source_cache import LayoutCache, SourceCache, file_stamps

# How the tensors of a model become layers, by format.
FORMATS: Final[Mapping[str, Callable[[ModelRef, Tensors], Source]]] = {
    "checkpoint": Checkpoint,
    "adapter": opened_adapter,
}
# Headers are small reads that wait more than they work.
_OPENERS: Final = 8
# Adapters read from one file: each is a model, and people look through the table of models.
MOST_ADAPTERS: Final = 1000
# The column of a collection's table with the digest of a Hub model's weights files.
WEIGHTS_DIGEST: Final = "weights_sha256"
# A pass opens every model once a layer, so opened models and the layouts they share are cached.
_source_cache: Final = SourceCache()
_layout_cache: Final = LayoutCache()

Report = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """One model's layout, or why there is none."""

    ref: ModelRef
    layers: tuple[LayerKey, ...] = ()
    low_rank: Set[str] = frozenset()
    transposed: Set[str] = frozenset()
    kind: str = ""
    left_out: tuple[LeftOut, ...] = ()
    attributes: Mapping[str, Value] = field(default_factory=dict)
    problem: str = ""


def open_source(ref: ModelRef) -> Source:
    """The model, opened in any process; nothing but headers is read. A commit in `ref` must still be the content's.

    Raises:
        SourceError: missing, damaged, of a format that is not read, or changed since the commit was taken.
    """
    if ref.without_weights:
        raise NoWeights(
            f"{ref.repo.removeprefix(WITHOUT_WEIGHTS)}: this needs weights, and the results file came without them; "
            "open the models themselves"
        )
    try:
        if on_hub(ref):
            return _open_on_hub(ref)
        if cached := _source_cache.get(ref):
            return cached
        started = time.time_ns()
        source: Source
        if is_compressed(FolderFiles(Path(ref.repo))):
            source = opened_member(ref, folder_files(Path(ref.repo)))
            source.stamps = folder_stamps(Path(ref.repo), started_ns=started)
        else:
            tensors = (pickled.tensors_at if ref.pickled else tensors_at)(Path(ref.repo), ref.file)
            source = _source_of(ref, tensors)
            source.stamps = file_stamps(ref, tensors, started_ns=started)
        if ref.commit:
            if source.digest() != ref.commit:
                raise UnreadableFile("the files changed since the collection was made; open the collection again")
            _source_cache.keep(source)
        return source
    except MultipleAdapters:
        raise
    except SourceError as error:
        raise type(error)(f"{_shown(ref)}: {error}") from error


def resolved(ref: ModelRef) -> tuple[ModelRef, Source]:
    """The reference with the commit of its content now, and the opened model.

    Raises:
        SourceError: see `open_source`.
    """
    source = open_source(ref)
    if not on_hub(ref) and not ref.commit:
        source.ref = replace(ref, commit=source.digest())
        _source_cache.keep(source)
    return source.ref, source


def equal_buffers(refs: Sequence[ModelRef], layers: Sequence[LayerKey]) -> tuple[LeftOut, ...]:
    """The layers that bear a buffer's name and are equal in all models, with that reason.

    Raises:
        SourceError: a model cannot be read.
    """
    candidates = [layer for layer in layers if may_be_buffer(layer)]
    sources = [open_source(ref) for ref in refs] if candidates and len(refs) > 1 else []
    dense = [layer for layer in candidates if sources and all(layer.name not in one.low_rank for one in sources)]
    return tuple(
        LeftOut(layer.name, "equal in all models, and its name is a buffer's")
        for layer in dense
        if hold_the_same(sources, layer)
    )


def adapters_of(ref: ModelRef, names: Sequence[str]) -> Iterator[tuple[ModelRef, Source | SourceError]]:
    """Each adapter of one file, opened or with what is wrong with it; the file is opened once.

    Raises:
        SourceError: the file cannot be read; see `open_source`.
    """
    started, stamps = time.time_ns(), tuple[FileStamp, ...]()
    tensors: Tensors | SubspaceFiles
    if on_hub(ref):
        from uws_core.sources.hub import hub

        ref = hub.at_commit(ref)
        files = hub.files_of(ref)
        tensors = SubspaceFiles(files, ref.repo) if is_compressed(files) else hub.tensors_at(ref)
    elif is_compressed(FolderFiles(Path(ref.repo))):
        tensors, stamps = folder_files(Path(ref.repo)), folder_stamps(Path(ref.repo), started_ns=started)
    else:
        tensors = (pickled.tensors_at if ref.pickled else tensors_at)(Path(ref.repo), ref.file)
        stamps = file_stamps(ref, tensors, started_ns=started)
    for name in names:
        part = ModelRef.of_part(ref.repo, ref.commit, file=ref.file, adapter=name, pickled=ref.pickled)
        try:
            source: Source = (
                opened_member(part, tensors) if isinstance(tensors, SubspaceFiles) else _source_of(part, tensors)
            )
            source.ref = replace(part, commit=ref.commit or source.digest())
            source.stamps = stamps
            _source_cache.keep(source)
            yield source.ref, source
        except SourceError as error:
            yield part, type(error)(f"{_shown(part)}: {error}")


def open_all(
    models: Mapping[str, ModelRef], roots: Roots, dialect: str | None, report: Report | None
) -> dict[str, Opened]:
    """Every model by label; a file with several adapters gives one model each, labelled with its name."""
    opened: dict[str, Opened] = {}
    with ThreadPoolExecutor(_OPENERS, thread_name_prefix="uws-open") as pool:
        running = [pool.submit(_open, ref, roots, dialect) for ref in models.values()]
        try:
            for done, (label, task) in enumerate(zip(models, running, strict=True), start=1):
                opened |= {label + own: one for own, one in task.result().items()}
                if report:
                    report(done / len(models), f"{done} of {len(models)} models opened")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return opened


def _open(ref: ModelRef, roots: Roots, dialect: str | None) -> dict[str, Opened]:
    try:
        if roots is not None and not on_hub(ref):
            all_inside(Path(ref.repo), roots)
        return {"": _layout(ref, *resolved(ref), dialect)}
    except MultipleAdapters as several:
        return _open_each(ref, several.names, dialect)
    except SourceError as error:
        return {"": Opened(ref, problem=str(error))}


def _open_each(ref: ModelRef, names: Sequence[str], dialect: str | None) -> dict[str, Opened]:
    """The adapters of one file by what their label adds, and why not all of them where they are very many."""
    taken, more = names[:MOST_ADAPTERS], names[MOST_ADAPTERS:]
    try:
        found = adapters_of(ref, taken)
        opened = {f":{name}": _layout(ref, *one, dialect) for name, one in zip(taken, found, strict=True)}
    except SourceError as error:
        return {"": Opened(ref, problem=str(error))}
    if more:
        others = ", ".join(more[:3]) + (f" and {len(more) - 3} more" if len(more) > 3 else "")
        reason = f"{len(names)} adapters are in this one file and the first {len(taken)} are taken; the other "
        opened[""] = Opened(ref, problem=f"{reason}{len(more)} are {others}; name one as part ':name'")
    return opened


def _layout(given: ModelRef, ref: ModelRef, source: Source | SourceError, dialect: str | None) -> Opened:
    """The layout of an opened model, or what is wrong with it; `given` is the reference before it had a commit."""
    if isinstance(source, SourceError):
        return Opened(ref, problem=str(source))
    if dialect is not None and dialect not in source.dialects:
        dialects = ", ".join(source.dialects) or "no adapter"
        return Opened(ref, problem=f"its dialect is {dialects}, only {dialect} was requested")
    left_out, attributes = source.left_out, dict[str, Value]()
    if on_hub(ref):
        from uws_core.sources.hub import hub

        # Looked up when it was opened, so this takes no request.
        attributes = dict(hub.look_up(ref).attributes)
        if digest := hub.weights_digest(ref):
            attributes[WEIGHTS_DIGEST] = digest
        if given.repo != ref.repo:
            renamed = LeftOut(given.repo, f"it was renamed; it is {ref.repo} now, and is read from there")
            left_out = (renamed, *left_out)
    return Opened(ref, source.layers(), source.low_rank, source.transposed, source.format, left_out, attributes)


def _open_on_hub(ref: ModelRef) -> Source:
    """A model on the Hub; its commit is the content's, so a revision becomes one before anything is read."""
    # The client takes 0.4 s to load, which a folder on this machine need not wait for.
    from uws_core.sources.hub import hub

    if ref.pickled:
        raise UnsupportedFormat("pickled files on the Hub are not read; download and convert them to safetensors")
    ref = hub.at_commit(ref)
    files = hub.files_of(ref)
    if is_compressed(files):
        return opened_member(ref, SubspaceFiles(files, ref.repo))
    return _source_of(ref, hub.tensors_at(ref))


def _source_of(ref: ModelRef, tensors: Tensors) -> Source:
    """The tensors as layers, sharing the layout of a model that was opened before where it is the same."""
    # The layout of one of several adapters is a small part of its file's.
    known = None if ref.adapter else _layout_cache.alike(ref, tensors)
    if known is not None:
        return known
    source = FORMATS["adapter" if is_adapter(tensors) else "checkpoint"](ref, tensors)
    source.left_out = (*tensors.left_out, *source.left_out)
    return _layout_cache.note(source, tensors)


def _shown(ref: ModelRef) -> str:
    return f"{ref.repo}#{ref.part}" if ref.part else ref.repo
