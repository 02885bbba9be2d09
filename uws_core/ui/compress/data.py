"""The data of the compress page: fits as a task, whose figures go to the store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from uws_core.answers import compress as answers
from uws_core.errors import ExportError, OutsideRoot, StoreError
from uws_core.frames import compress as frames
from uws_core.jobs import JobState, Report
from uws_core.nouns.arrays import Floats
from uws_core.nouns.models import Collection
from uws_core.store.results import default_store
from uws_core.ui import folders, tasks
from uws_core.ui.compress.controls import CompressQuery
from uws_core.ui.grams import jobs
from uws_core.ui.tasks import Task
from uws_core.use.compress import CompressionDraft, compress, original_bytes


@dataclass(frozen=True)
class CompressResult:
    """The answer, the price and the tables of a compression."""

    answer: str
    price: str
    pays: bool
    rivals: pl.DataFrame
    models: pl.DataFrame
    layers: pl.DataFrame
    layer_errors: list[list[float]]
    labels: list[str]


def task(query: CompressQuery, collection: Collection) -> Task:
    """The fits of a query with their price: reading, and some thirty products of each matrix with its smaller side."""
    shapes = [collection.by_name[name].shape for name in query.layers]
    steps = 30.0 * len(query.members) * sum(m * p * min(m, p) for m, p in shapes)
    seconds = tasks.read_seconds(collection, query.layers) + steps / tasks.STEPS_PER_SECOND
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
    tables = {name: pl.DataFrame(stored[name]) for name in ("rivals", "models", "layers")}
    return CompressResult(
        answer=stored["answer"],
        price=stored["price"],
        pays=stored["pays"],
        layer_errors=stored["layer_errors"],
        labels=stored["labels"],
        **tables,
    )


def write(query: CompressQuery, collection: Collection, text: str) -> JobState:
    """The job that writes the compressed folder below a folder this app may use.

    Raises:
        OutsideRoot: the folder lies outside the roots.
        ExportError: it exists already.
    """
    roots = folders.roots()
    folder = (roots[0] / Path(text.strip()).expanduser()).resolve()
    if not any(folder.is_relative_to(root) for root in roots) or not text.strip():
        raise OutsideRoot(f"{text!r} is outside the folders this app may use: {', '.join(map(str, roots))}")
    if folder.exists():
        raise ExportError(f"{folder} exists already; name a new folder")

    def work(report: Report) -> None:
        draft = _draft(query, collection, lambda fraction, message: report(fraction / 2, message))
        draft.write(folder, report=lambda fraction, message: report(0.5 + fraction / 2, message))

    return jobs().submit(write_key(query, text), work, title=f"Write {folder.name}", bytes_total=0)


def write_key(query: CompressQuery, text: str) -> str:
    """The key of the job that writes this query's folder."""
    return tasks.key_of("compressed folder", query, text)


def _key(query: CompressQuery) -> str:
    return tasks.key_of("compress", query)


def _draft(query: CompressQuery, collection: Collection, report: Report) -> CompressionDraft:
    size = None
    if query.kind == "size":
        size = int(query.amount / 100 * original_bytes(collection, query.members, query.layers))
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
    draft = _draft(query, collection, report)
    errors: Floats = draft.layer_errors
    figures = {
        "answer": answers.answer(draft),
        "price": answers.price(draft),
        "pays": draft.pays,
        "rivals": _plain(frames.rivals(draft)),
        "models": _plain(frames.models(draft)),
        "layers": _plain(frames.layers(draft)),
        "layer_errors": errors.tolist(),
        "labels": list(draft.labels),
    }
    try:
        default_store().put(f"{_key(query)}/figures", json.dumps(figures).encode())
    except StoreError:
        return


def _plain(frame: pl.DataFrame) -> dict[str, list[object]]:
    return frame.fill_nan(None).to_dict(as_series=False)
