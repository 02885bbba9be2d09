"""The report as one call: compute the evidence, build page and tables, and write them in one step."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from uws_core.errors import ExportError, NotEnoughModels
from uws_core.nouns.gram import Members
from uws_core.nouns.models import Collection
from uws_core.reporting.evidence_cache import EvidenceSettings
from uws_core.reporting.page import answer, page
from uws_core.reporting.report_data import gather
from uws_core.reporting.tables import files, provenance
from uws_core.store.results import Store

PAGE = "report.html"


class JudgingKeywords(TypedDict, total=False):
    """How the claims of a report are judged; see `EvidenceSettings` for the defaults."""

    kept: int | None
    share: float
    draws: int
    seed: int


def report(
    collection: Collection,
    *,
    into: Path | str,
    layers: Sequence[str] | None = None,
    members: Members = None,
    groups: str | Sequence[Hashable] | None = None,
    store: Store | None = None,
    report: Callable[[float, str], None] | None = None,
    **judging: Unpack[JudgingKeywords],
) -> Path:
    """Writes the report (claims, lineage, figures, definitions, left out, provenance) and returns its path.

    `into` is a new folder (the page, and the tables as Parquet), a `.zip` of the same, or a single `.html` file.
    `layers` are names, None is all; `groups` is a column of the collection's table or one label a model, None takes
    the groups of the lineage. `kept`, `share`, `draws` and `seed` are those of `evidence`. A layer may get fewer
    than `draws` draws, and the report says so. `report` is called with a fraction and a message and may raise to
    stop: then nothing is written, and finished evidence stays in the store.

    Raises:
        NotEnoughModels: fewer than two models, or another number of labels than models.
        LayerError: a layer that the collection does not have.
        ExportError: the folder exists and is not empty, or nothing can be written there.
        UwsError: whatever a pass raises.
    """
    path = Path(into)
    # Before anything is computed: a report replaces an older report file, and never a folder with content.
    one_file = path.suffix in (".html", ".zip")
    if path.is_dir() and (one_file or any(path.iterdir())):
        raise ExportError(f"{path} is a folder with other things in it; name a new folder, a .zip or an .html file")
    if path.is_file() and not one_file:
        raise ExportError(f"{path} is a file; name a new folder, a .zip or an .html file")
    labels: tuple[Hashable, ...] | None
    if isinstance(groups, str):
        if groups not in collection.table:
            known = ", ".join(collection.table) or "none"
            raise NotEnoughModels(f"{collection.name} has no column {groups!r} to make groups of; it has {known}")
        labels, grouped_by = collection.table[groups], groups
    else:
        labels, grouped_by = (None, "") if groups is None else (tuple(groups), "the given groups")
    rows = np.arange(len(collection)) if members is None else np.asarray(members)
    indices = tuple(int(row) for row in (np.flatnonzero(rows) if rows.dtype == bool else rows))
    settings = EvidenceSettings(indices, labels, grouped_by, **judging)
    data = gather(collection, layers, settings, store=store, report=report)
    source = provenance(data, answer(data))
    contents = {PAGE: page(data, source).encode()}
    if path.suffix != ".html":
        contents |= files(data, source)
    try:
        _write(path, contents)
    except OSError as error:
        raise ExportError(
            f"The report cannot be written to {path}: {error.strerror or error}. Choose another place or free space"
        ) from error
    return path


def _write(path: Path, files: dict[str, bytes]) -> None:
    """Writes beside the target and renames, so that a partial report never appears."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".report-", dir=path.parent) as scratch:
        complete = Path(scratch) / "complete"
        if path.suffix == ".html":
            complete.write_bytes(files[PAGE])
        elif path.suffix == ".zip":
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
            complete.write_bytes(buffer.getvalue())
        else:
            for name, content in files.items():
                (complete / name).parent.mkdir(parents=True, exist_ok=True)
                (complete / name).write_bytes(content)
            # The target may be an empty folder.
            if path.is_dir():
                path.rmdir()
        complete.replace(path)
