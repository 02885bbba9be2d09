"""Collections from elsewhere: listings of the Hub, uploads, and the job that opens models and saves them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TypedDict

import streamlit as st

from uws_core.collection import Where, architectures, collect, results_path
from uws_core.errors import SourceError, UwsError
from uws_core.jobs import JobState, Report
from uws_core.nouns.hub import HubListing, str_ref
from uws_core.nouns.left_out import OTHERS
from uws_core.nouns.loader import USUAL, Choices
from uws_core.nouns.models import Collection, LeftOut, ModelRef
from uws_core.store.saved_collections import portable, read_saved
from uws_core.ui import folders, saved_collections
from uws_core.ui.catalogue import read_again
from uws_core.ui.grams import jobs
from uws_core.ui.uploads import planned

# What the Hub says changes by the day; a search that is repeated within minutes is the same one.
_FRESH_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Listed:
    """What a query found, or in words why nothing."""

    listing: HubListing | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Opening:
    """Models to be opened as a collection: `name` for people, `query` that found them, `base` they all started from."""

    refs: tuple[ModelRef, ...]
    name: str
    query: str = ""
    base: str = ""
    # What the query asks for and its list does not hold.
    left_out: tuple[LeftOut, ...] = field(default=(), compare=False)
    choices: Choices = USUAL
    id: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        told = [*map(str_ref, self.refs), self.base, *([str(self.choices)] if self.choices else [])]
        content = sha256("\n".join(told).encode()).hexdigest()
        object.__setattr__(self, "id", saved_collections.id_for(self.name, content))

    @property
    def key(self) -> str:
        """The job's key: the same models under the same name are one job."""
        return f"open/{self.id}"


def listing(query: str) -> Listed:
    """The models that a query finds on the Hub now; asked again after ten minutes."""
    return _listing(query, os.environ.get("HF_ENDPOINT", ""), "HF_TOKEN" in os.environ)


def start(opening: Opening) -> JobState:
    """The job that opens models and keeps them as a saved collection."""

    def work(report: Report) -> None:
        made = collect(
            list(opening.refs),
            name=opening.name,
            base=opening.base or None,
            common_rows=opening.choices.common_rows,
            dialect=opening.choices.dialect or None,
            roots=_roots(),
            report=report,
        )
        made = replace(made, left_out=tuple(dict.fromkeys(opening.left_out + made.left_out)))
        saved_collections.keep(made, query=opening.query, name=opening.id)
        _keep_others(made, list(opening.refs), opening.choices, query=opening.query)

    title = f"Opening {len(opening.refs)} models"
    return jobs().submit(opening.key, work, title=title)


def query_of(collection: str) -> str:
    """The query that found the models of a saved collection; empty for any other."""
    path = saved_collections.path_of(collection)
    try:
        return read_saved(path).query if path else ""
    except UwsError:
        return ""


def handed_on(path: Path) -> tuple[str | bytes, tuple[ModelRef, ...]]:
    """The content of a kept collection for another machine, and its models."""
    if saved_collections.is_results(path):
        return path.read_bytes(), ()
    try:
        saved = read_saved(path)
    except UwsError:
        return path.read_text(encoding="utf-8", errors="replace"), ()
    return portable(saved)[0], tuple(saved.models.values())


def open_uploads(files: Sequence[tuple[str, bytes]], name: str, choices: Choices = USUAL) -> str:
    """The id of the collection that uploaded files make, kept with the saved ones.

    Raises:
        UwsError: they hold nothing that can be compared, or cannot be kept; or whose a configuration is, is unclear.
    """
    plan = planned(files, pickled=choices.pickled)
    folder = saved_collections.keep_uploads(plan)
    made = collect(
        folder,
        name=name,
        common_rows=choices.common_rows,
        pickled=choices.pickled,
        dialect=choices.dialect or None,
        roots=_roots(),
    )
    _keep_others(made, folder, choices, left_out=plan.notes)
    return saved_collections.keep(replace(made, left_out=plan.notes + made.left_out))


def open_file(title: str, data: bytes, *, pickled: bool = False) -> str:
    """The id of a collection file or a results file from elsewhere, kept with the saved ones.

    Raises:
        UwsError: it is none, or nothing in it can be compared here.
    """
    if title.endswith(".zip"):
        return saved_collections.keep_results(title, data)
    try:
        name = saved_collections.keep_text(title, data.decode("utf-8"), pickled=pickled)
    except UnicodeDecodeError as error:
        raise UwsError(f"{title} is no text, so it is no collection file") from error
    path = saved_collections.path_of(name)
    try:
        collect(path or "", pickled=pickled, roots=_roots())
    except UwsError as error:
        saved = read_saved(path) if path else None
        saved_collections.remove(name)
        beside = saved and any(
            Path(ref.repo).is_relative_to(saved_collections.folder()) for ref in saved.models.values()
        )
        hint = "; the file names its models by their place beside it: put it into their folder and open it there, "
        raise UwsError(f"{error}{hint}with uws_core.collect" if beside else str(error)) from error
    read_again()
    return name


def open_results(text: str) -> str:
    """The id of a results file that a person named: a path on this machine, or `owner/name/file@revision` on the Hub.

    Raises:
        UwsError: it lies outside the folders that may be read, cannot be fetched, or is no results file.
    """
    found = results_path(text, roots=_roots())
    try:
        return saved_collections.keep_results(found.name, found.read_bytes())
    except OSError as error:
        raise SourceError(f"{text}: {error.strerror or error}; check the spelling") from error


def _keep_others(
    collection: Collection, where: Where, choices: Choices, *, query: str = "", left_out: tuple[LeftOut, ...] = ()
) -> None:
    """Saves the models of other architectures that came with a collection's, as collections of their own."""
    if not any(item.reason.startswith(OTHERS) for item in collection.left_out):
        return
    how: _How = {"pickled": choices.pickled, "dialect": choices.dialect or None, "roots": _roots()}
    for item in architectures(where, **how):
        if collection.labels[0] not in item.models:
            name = f"{collection.name}, {item.title}"
            other = collect(where, name=name, architecture=item.id, common_rows=choices.common_rows, **how)
            saved_collections.keep(replace(other, left_out=left_out + other.left_out), query=query)


class _How(TypedDict):
    """The options that `collect` and `architectures` share."""

    pickled: bool
    dialect: str | None
    roots: tuple[str, ...]


def _roots() -> tuple[str, ...]:
    return (*(str(root) for root in folders.roots()), str(saved_collections.folder()))


@st.cache_data(ttl=_FRESH_SECONDS, max_entries=32, show_spinner="Asking the Hub")
def _listing(query: str, endpoint: str, has_token: bool) -> Listed:
    """`endpoint` and `has_token` are part of the key, so that an answer is not given to who would get another."""
    from uws_core.sources.hub import hub

    try:
        return Listed(hub.find(query))
    except UwsError as error:
        return Listed(problem=str(error))
