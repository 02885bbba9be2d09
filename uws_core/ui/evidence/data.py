"""The evidence page's answers: claims judged from stored Grams, at once or as a job, and the report of them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import streamlit as st

from uws_core import run
from uws_core.analysis.over_layers import over_layers
from uws_core.analysis.sample_size import sample_curve
from uws_core.errors import CollectionError, StoreError
from uws_core.jobs import JobState, Report
from uws_core.nouns.evidence import Evidence, Pooled, SampleCurve
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey, LeftOut
from uws_core.nouns.query import EvidenceQuery, Query
from uws_core.reporting import evidence_cache
from uws_core.reporting.build import report
from uws_core.reporting.evidence_cache import EvidenceSettings
from uws_core.reporting.report_data import LAYERS_SECONDS
from uws_core.store.codec import MATH_VERSION
from uws_core.store.results import default_store
from uws_core.ui import grams, tasks
from uws_core.ui.catalogue import catalogue

# Growth with n takes its own subsets: beyond this many models it is left to the report.
MOST_GROWING = 150


@dataclass(frozen=True, slots=True)
class Network:
    """Every layer's evidence, and the claims over all layers with their tests corrected together."""

    layers: tuple[tuple[LayerKey, Evidence], ...]
    pooled: tuple[Pooled, ...]
    draws: int


def settings_of(query: EvidenceQuery, collection: Collection) -> EvidenceSettings:
    """What the claims are judged by; many layers get fewer draws each, the same as in the report."""
    draws = query.draws
    if query.each:
        draws = evidence_cache.affordable(len(query.members), len(query.layers), draws, within=LAYERS_SECONDS)
    return EvidenceSettings(
        members=query.members,
        groups=collection.table[query.group] if query.group else None,
        grouped_by=query.group,
        kept=query.kept or None,
        share=query.share,
        draws=draws,
        seed=query.seed,
        whole=_whole(query.collection, query.fingerprint, query.members),
    )


def task(query: EvidenceQuery, collection: Collection) -> tasks.Task:
    """The judging of the query's layers, as one or one by one; no weight is read."""
    settings, n = settings_of(query, collection), len(query.members)
    parts = [(name,) for name in query.layers] if query.each else [query.layers]
    many = f"{len(parts)} layers" if len(parts) > 1 else "the claims"

    def work(report: Report) -> None:
        part = tasks.in_parts(report, len(parts))
        for place, names in enumerate(parts):
            evidence_cache.cached_evidence(collection, names, settings, report=part(place))

    return tasks.Task(
        key=tasks.key_of("evidence", collection.fingerprint, query, settings),
        title=f"Judging {many} for {n} models",
        seconds=evidence_cache.seconds(n, len(parts), settings.draws),
        bytes=0,
        work=work,
    )


@st.cache_data(max_entries=512, max_size="128mb", show_spinner=False)
def evidence_of(query: EvidenceQuery) -> Evidence:
    """Every claim for the query's layers taken as one.

    Raises:
        NotEnoughModels: fewer than two usable models.
        CollectionError: the collection changed or went away meanwhile.
    """
    collection = _collection(query)
    return evidence_cache.cached_evidence(collection, query.layers, settings_of(query, collection))


@st.cache_data(max_entries=64, max_size="256mb", show_spinner=False)
def network(query: EvidenceQuery) -> Network:
    """Every claim in every layer of the query, and over all of them.

    Raises:
        NotEnoughModels: fewer than two usable models.
        CollectionError: the collection changed or went away meanwhile.
    """
    collection = _collection(query)
    settings = settings_of(query, collection)
    found = tuple(
        (collection.by_name[name], evidence_cache.cached_evidence(collection, [name], settings))
        for name in query.layers
    )
    return Network(found, over_layers([each for _, each in found]), settings.draws)


def left_out(query: EvidenceQuery) -> tuple[LeftOut, ...]:
    """Which of the query's models take no part in which of its layers.

    Raises:
        CollectionError: the collection changed or went away meanwhile.
    """
    return grams.left_out(Query(query.collection, query.fingerprint, query.members, query.layers))


@st.cache_data(max_entries=64, max_size="64mb", show_spinner="Drawing smaller collections")
def growth(query: EvidenceQuery, kept: int) -> SampleCurve:
    """How the numbers change with the number of models.

    Raises:
        NotEnoughModels: fewer than eight usable models.
        CollectionError: the collection changed or went away meanwhile.
    """
    gram = _gram(query)
    return sample_curve(gram, members=query.members, kept=kept, share=query.share, seed=query.seed)


def report_job(query: EvidenceQuery, collection: Collection) -> JobState | None:
    """The job that makes the report, if there is one."""
    return grams.jobs().get(_report_key(query, collection))


def start_report(query: EvidenceQuery, collection: Collection) -> JobState:
    """Make the report in the background: the page and its tables as one archive, kept in the store."""
    key = _report_key(query, collection)

    def work(tell: Report) -> None:
        with tempfile.TemporaryDirectory(prefix="uws-report-") as scratch:
            place = report(
                collection,
                into=Path(scratch) / "report.zip",
                layers=query.layers,
                members=query.members,
                groups=query.group or None,
                kept=query.kept or None,
                share=query.share,
                draws=query.draws,
                seed=query.seed,
                report=tell,
            )
            default_store().put(key, place.read_bytes())

    title = f"Report on {len(query.layers)} layers of {len(query.members)} models in {collection.name}"
    return grams.jobs().submit(key, work, title=title)


def stop(key: str) -> None:
    """Ask a job to stop."""
    grams.jobs().cancel(key)


def report_made(query: EvidenceQuery, collection: Collection) -> bool:
    """Whether the report lies in the store."""
    try:
        return _report_key(query, collection) in default_store()
    except StoreError:
        return False


def report_bytes(query: EvidenceQuery, collection: Collection) -> bytes:
    """The report as an archive.

    Raises:
        StoreError: the store has dropped it since.
    """
    raw = default_store().get(_report_key(query, collection))
    if raw is None:
        raise StoreError("The report was dropped to make room; make it again")
    return raw


@st.cache_data(max_entries=64, show_spinner=False)
def _whole(collection: str, fingerprint: str, members: tuple[int, ...]) -> int | None:
    """How many weights a whole checkpoint has; None while nobody knows."""
    found = catalogue().get(collection)
    return (
        None if found is None or found.fingerprint != fingerprint else evidence_cache.whole_checkpoint(found, members)
    )


def _report_key(query: EvidenceQuery, collection: Collection) -> str:
    plain = replace(query, each=False)
    # Names and attributes stand in the report, so other ones are another report.
    text = repr((plain, settings_of(plain, collection), collection.name, collection.labels, dict(collection.table)))
    return f"report/{MATH_VERSION}/{sha256(text.encode()).hexdigest()}"


def _gram(query: EvidenceQuery) -> Gram:
    return run.whole_network(tuple(grams.of(Query(query.collection, query.fingerprint, query.members, query.layers))))


def _collection(query: EvidenceQuery) -> Collection:
    found = catalogue().get(query.collection)
    if found is None or found.fingerprint != query.fingerprint:
        raise CollectionError(f"{query.collection} changed while it was read; choose it again")
    return found
