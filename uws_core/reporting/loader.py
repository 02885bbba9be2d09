"""How the models of a place were read, those that were left out included: what became of every key of every file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uws_core.errors import SourceError
from uws_core.nouns.loader import LoaderReport, Located
from uws_core.nouns.models import Collection, ModelRef
from uws_core.sources.base import on_hub
from uws_core.sources.formats.adapter_layout import MultipleAdapters
from uws_core.sources.listing import all_inside, in_folder, listed
from uws_core.sources.opening import adapters_of, open_source
from uws_core.store.saved_collections import SUFFIX, read_saved

Where = Path | Sequence[str | Path] | None


def models_of(collection: Collection, where: Where = None, *, pickled: bool = False) -> tuple[Located, ...]:
    """The models of a collection, then those that lie at `where` too and were left out of it; no header is read.

    `where` is the folder or the collection file that was opened, or the list of places; None adds nothing.

    Raises:
        SourceError: the place cannot be looked through.
    """
    compared = tuple(Located(label, ref) for label, ref in zip(collection.labels, collection.refs, strict=True))
    files = set(map(_file, collection.refs))
    others = {label: ref for label, ref in _at(where, pickled=pickled).items() if _file(ref) not in files}
    allowed = {label: ref for label, ref in others.items() if pickled or not ref.pickled}
    return (*compared, *(Located(label, ref, compared=False) for label, ref in allowed.items()))


def report_of(model: Located, *, roots: Sequence[Path] | None = None) -> LoaderReport:
    """What became of every key of a model's files; with `roots`, no file outside of them is read.

    Raises:
        SourceError: it cannot be read; the message says why.
    """
    ref = model.ref
    if roots is not None and not on_hub(ref):
        all_inside(Path(ref.repo), tuple(roots))
    try:
        return open_source(ref).report()
    except MultipleAdapters as several:
        for _, one in adapters_of(ref, several.names):
            if not isinstance(one, SourceError):
                # Each of them tells of all keys of their file.
                return one.report()
        raise


def _file(ref: ModelRef) -> tuple[str, str]:
    """Where a model's file lies, whichever of the adapters in it is meant."""
    return ref.repo, ref.file


def _at(where: Where, *, pickled: bool) -> dict[str, ModelRef]:
    if where is None:
        return {}
    if not isinstance(where, Path):
        return dict(listed(where).models)
    if where.name.endswith(SUFFIX):
        return dict(read_saved(where).models)
    return dict(in_folder(where, pickled=pickled).models) if where.is_dir() else {}
