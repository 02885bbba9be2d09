"""The data of the compress page: fits as a task, whose figures go to the store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from uws_core import run
from uws_core.answers import compress as answers
from uws_core.errors import ExportError, OutsideRoot, StoreError
from uws_core.frames import compress as frames
from uws_core.jobs import JobState, Report
from uws_core.nouns.arrays import Floats
from uws_core.nouns.models import Collection
from uws_core.sources.formats.subspace_files import INDEX_OF_COMPRESSED
from uws_core.store.results import default_store
from uws_core.ui import folders, tasks
from uws_core.ui.compress.controls import CompressQuery
from uws_core.ui.grams import jobs
from uws_core.ui.tasks import Task
from uws_core.use.compress import CompressionDraft, compress, original_bytes, untouched_bytes
from uws_core.use.compressed_folder import CompressedFolder, open_compressed
from uws_core.use.rebuild import rebuild


@dataclass(frozen=True)
class CompressResult:
    """The answer, the price, the other sizes and the tables of a compression; `held_out` is a sentence, or empty."""

    answer: str
    price: str
    sizes: str
    held_out: str
    pays: bool
    bytes: int
    original_bytes: int
    rivals: pl.DataFrame
    models: pl.DataFrame
    layers: pl.DataFrame
    curve: pl.DataFrame
    layer_errors: list[list[float]]
    labels: list[str]


def task(query: CompressQuery, collection: Collection) -> Task:
    """The fits of a query with their price: reading, and some thirty products of each matrix with its smaller side.

    Held-out groups are fitted each, and whole weights are read three times for each.
    """
    shapes = [collection.by_name[name].shape for name in query.layers]
    fits = 1 + len(set(_groups(query, collection))) / 4
    steps = 30.0 * fits * len(query.members) * sum(m * p * min(m, p) for m, p in shapes)
    seconds = tasks.read_seconds(collection, query.layers, times=3 * fits) + steps / tasks.STEPS_PER_SECOND
    return Task(
        key=_key(query),
        title=f"Fit a shared basis in {len(query.layers)} layers of {len(query.members)} models:",
        seconds=seconds,
        bytes=0,
        work=lambda report: _fit(query, collection, report),
    )


def result(query: CompressQuery) -> CompressResult | None:
    """The stored figures of a query; None where the store has dropped them."""
    raw = default_store().get(f"{_key(query)}/figures")
    if raw is None:
        return None
    stored = json.loads(raw)
    tables = {name: pl.DataFrame(stored[name]) for name in ("rivals", "models", "layers", "curve")}
    return CompressResult(**stored | tables)


def write(query: CompressQuery, collection: Collection, text: str) -> JobState:
    """The job that writes the compressed folder below a folder this app may use; one that was stopped goes on.

    Raises:
        OutsideRoot: the folder lies outside the roots.
        ExportError: it exists already.
    """
    folder = free_folder(text)

    def work(report: Report) -> None:
        part = tasks.in_parts(report, 2)
        _draft(query, collection, part(0)).write(folder, report=part(1))

    return jobs().submit(write_key(query, text), work, title=f"Write {folder.name}", bytes_total=0)


def rebuild_member(source: Path, member: str, target: str, text: str) -> JobState:
    """The job that rebuilds a member of a compressed folder into a folder of its own below `text`.

    Raises:
        OutsideRoot: the folder lies outside the roots.
    """
    into = below_root(text)

    def work(report: Report) -> None:
        report(0.0, f"{member}: rebuilding")
        rebuild(source, into, members=[member], target=target)

    return jobs().submit(rebuild_key(source, member, target, text), work, title=f"Rebuild {member}", bytes_total=0)


def rebuild_key(source: Path, member: str, target: str, text: str) -> str:
    """The key of the job that rebuilds this member there."""
    return tasks.key_of("rebuilt member", str(source), member, target, text)


def compressed_folder(path: Path | None) -> CompressedFolder | None:
    """The compressed collection in a folder, or None where there is none."""
    if path is None or not (path / INDEX_OF_COMPRESSED).is_file():
        return None
    return open_compressed(path)


def below_root(text: str) -> Path:
    """A folder below one that this app may use.

    Raises:
        OutsideRoot: it lies outside the roots.
    """
    roots = folders.roots()
    folder = (roots[0] / Path(text.strip()).expanduser()).resolve()
    if not any(folder.is_relative_to(root) for root in roots) or not text.strip():
        raise OutsideRoot(f"{text!r} is outside the folders this app may use: {', '.join(map(str, roots))}")
    return folder


def free_folder(text: str) -> Path:
    """A folder below a root that does not exist yet.

    Raises:
        OutsideRoot: it lies outside the roots.
        ExportError: it exists.
    """
    folder = below_root(text)
    if folder.exists():
        raise ExportError(f"{folder} exists already; name a new folder")
    return folder


def score_task(query: CompressQuery, collection: Collection) -> Task:
    """The scores of the compressed models at four sizes, beside those of their own SVD."""
    return Task(
        key=tasks.key_of("compress scores", query),
        title=f"Score {len(query.members)} models at four sizes:",
        # One call of the small networks' evaluator, and rebuilding one of them twice.
        seconds=0.08 * len(query.members) * 9,
        bytes=0,
        work=lambda report: _score(query, collection, report),
    )


def scored(query: CompressQuery) -> pl.DataFrame | None:
    """The stored scores; None before they are computed."""
    raw = default_store().get(f"{_key(query)}/scores")
    return None if raw is None else pl.DataFrame(json.loads(raw))


def _score(query: CompressQuery, collection: Collection, report: Report) -> None:
    # torch is loaded only where weights are read.
    from uws_core.use.scores import relative_scores, scores
    from uws_core.zoo.evaluate import evaluate

    part = tasks.in_parts(report, 2)
    draft = _draft(query, collection, part(0))
    frame = frames.scores(relative_scores(scores(draft, evaluate, report=part(1))))
    default_store().put(f"{_key(query)}/scores", json.dumps(_plain(frame)).encode())


def write_key(query: CompressQuery, text: str) -> str:
    """The key of the job that writes this query's folder."""
    return tasks.key_of("compressed folder", query, text)


def _key(query: CompressQuery) -> str:
    return tasks.key_of("compress", query)


def _groups(query: CompressQuery, collection: Collection) -> list[object]:
    """The chosen models' groups; empty where nothing is held out."""
    column = collection.table.get(query.held_out)
    return [] if column is None else [column[row] for row in query.members]


def _draft(query: CompressQuery, collection: Collection, report: Report) -> CompressionDraft:
    size = None
    if query.kind == "size":
        # The share is that of the chosen layers; what travels untouched comes on top and cannot be saved.
        size = int(query.amount / 100 * original_bytes(collection, query.members, query.layers))
        keys = run.chosen_layers(collection, query.layers)
        size += untouched_bytes(collection, query.members, [key for key in keys if not key.factor])
    return compress(
        collection,
        budget=size,
        error=query.amount / 100 if query.kind == "error" else None,
        kept=int(query.amount) if query.kind == "directions" else None,
        method=query.method,
        layers=query.layers,
        members=query.members,
        dtype=query.dtype,
        report=report,
    )


def _fit(query: CompressQuery, collection: Collection, report: Report) -> None:
    groups = _groups(query, collection)
    part = tasks.in_parts(report, 3 if groups else 2)
    draft = _draft(query, collection, part(0))
    errors: Floats = draft.layer_errors
    curve = draft.curve(report=part(1))
    held_out = draft.held_out(groups, report=part(2)) if groups else None
    figures = {
        "answer": answers.answer(draft),
        "price": answers.price(draft),
        "sizes": answers.sizes(curve, draft.original_bytes),
        "held_out": "" if held_out is None else answers.held_out(draft.errors, held_out, query.held_out),
        "pays": draft.pays,
        "bytes": draft.bytes,
        "original_bytes": draft.original_bytes,
        "rivals": _plain(frames.rivals(draft)),
        "models": _plain(frames.models(draft, held_out)),
        "layers": _plain(frames.layers(draft)),
        "curve": _plain(frames.curve(curve)),
        "layer_errors": errors.tolist(),
        "labels": list(draft.labels),
    }
    try:
        default_store().put(f"{_key(query)}/figures", json.dumps(figures).encode())
    except StoreError:
        return


def _plain(frame: pl.DataFrame) -> dict[str, list[object]]:
    return frame.fill_nan(None).to_dict(as_series=False)
