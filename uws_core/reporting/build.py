"""The report as one call: judge, assemble, and put it where it was settings for when it is whole."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np

from uws_core.errors import ExportError, NotEnoughModels
from uws_core.nouns.gram import Members
from uws_core.nouns.models import Collection
from uws_core.reporting import sections, tables
from uws_core.reporting.evidence_cache import USUAL_DRAWS, EvidenceSettings
from uws_core.reporting.report_data import gather
from uws_core.store.results import Store

PAGE = "report.html"


def report(
    collection: Collection,
    *,
    into: Path | str,
    layers: Sequence[str] | None = None,
    members: Members = None,
    groups: str | Sequence[Hashable] | None = None,
    kept: int | None = None,
    share: float = 0.9,
    draws: int = USUAL_DRAWS,
    seed: int = 0,
    store: Store | None = None,
    report: Callable[[float, str], None] | None = None,
) -> Path:
    """Where the report was written: claims, lineage, figures, definitions, what was left out and where it is from.

    `into` is a folder to be made (the page and the tables as Parquet), a `.zip` of the same, or an `.html` file alone.
    `layers` are names, None all of them; `groups` a column of the collection's table or one label a model, None the
    groups of the lineage. Each layer may have fewer than `draws` draws, and the report says so. `report` is called
    with a fraction and a message and may raise to stop: then nothing is written, and what was judged is kept.

    Raises:
        NotEnoughModels: fewer than two models, or another number of labels than models.
        LayerError: a layer that the collection does not have.
        ExportError: the folder exists and is not empty, or nothing can be written there.
        UwsError: whatever a pass raises.
    """
    place = Path(into)
    _free(place)
    labels, said = _groups(collection, groups)
    rows = _rows(collection, members)
    settings = EvidenceSettings(rows, labels, said, kept=kept, share=share, draws=draws, seed=seed)
    data = gather(collection, layers, settings, store=store, report=report)
    source = tables.origin(data, sections.answer(data))
    files = {PAGE: sections.page(data, source).encode()}
    if place.suffix != ".html":
        files |= tables.files(data, source)
    try:
        _write(place, files)
    except OSError as error:
        raise ExportError(
            f"The report cannot be written to {place}: {error.strerror or error}. Choose another place or free space"
        ) from error
    return place


def _write(place: Path, files: dict[str, bytes]) -> None:
    """By a rename when whole, so that nobody ever finds half a report."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".report-", dir=place.parent) as scratch:
        whole = Path(scratch) / "whole"
        if place.suffix == ".html":
            whole.write_bytes(files[PAGE])
        elif place.suffix == ".zip":
            whole.write_bytes(_zipped(files))
        else:
            for name, content in files.items():
                (whole / name).parent.mkdir(parents=True, exist_ok=True)
                (whole / name).write_bytes(content)
            # An empty folder may be there already.
            if place.is_dir():
                place.rmdir()
        whole.replace(place)


def _zipped(files: dict[str, bytes]) -> bytes:
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return place.getvalue()


def _free(place: Path) -> None:
    """Before anything is computed: a report replaces a report in one file, and never a folder with something in it."""
    one_file = place.suffix in (".html", ".zip")
    if place.is_dir() and (one_file or any(place.iterdir())):
        raise ExportError(f"{place} is a folder with other things in it; name a new folder, a .zip or an .html file")
    if place.is_file() and not one_file:
        raise ExportError(f"{place} is a file; name a new folder, a .zip or an .html file")


def _groups(collection: Collection, groups: str | Sequence[Hashable] | None) -> tuple[tuple[Hashable, ...] | None, str]:
    if isinstance(groups, str):
        if groups not in collection.table:
            known = ", ".join(collection.table) or "none"
            raise NotEnoughModels(f"{collection.name} has no column {groups!r} to make groups of; it has {known}")
        return collection.table[groups], groups
    return (None, "") if groups is None else (tuple(groups), "the given groups")


def _rows(collection: Collection, members: Members) -> tuple[int, ...]:
    rows = np.arange(len(collection)) if members is None else np.asarray(members)
    return tuple(int(row) for row in (np.flatnonzero(rows) if rows.dtype == bool else rows))
