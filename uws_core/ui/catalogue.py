"""The collections that can be chosen: built in, in folders somebody opened here, or saved here.

A folder is chosen by an id, never by a path in an address; which path an id stands for, and how it was chosen to be
read, is kept in the store, so that a link works after a restart, and the path is checked against the roots every time
it is used. Where models of several architectures lie at one place, the id of one of them follows after a slash, and
after another the name of a layer, where only the models that have it are meant.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import streamlit as st

from uws_core.collection import architectures, collect
from uws_core.errors import StoreError, UwsError
from uws_core.nouns.architectures import Architecture
from uws_core.nouns.left_out import OTHERS
from uws_core.nouns.loader import USUAL, Choices
from uws_core.nouns.models import Collection
from uws_core.store.attached import attach
from uws_core.store.results import default_store
from uws_core.store.results_file import ResultsFile, read_results_file
from uws_core.ui import folders, saved_collections
from uws_core.ui.selection import base_id, id_parts
from uws_core.zoo.demo import DEMOS, PREFIX

FOLDER = "folder:"
_KEPT = "opened/"
# More than anybody keeps in mind; the oldest make room.
_MOST_FOLDERS = 24


@dataclass(frozen=True, slots=True)
class Opened:
    """A collection, or in words why it cannot be had."""

    collection: Collection | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection lies on this machine, and how it is read."""

    path: Path
    choices: Choices = USUAL


class Catalogue:
    """Every collection by id; shared by all sessions, so all it changes is behind a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[str, Place] = dict(_remembered())

    def ids(self) -> tuple[str, ...]:
        """The ids, built-in collections first; a new visitor starts with the first."""
        with self._lock:
            return (*(PREFIX + name for name in DEMOS), *self._folders, *(one.id for one in saved_collections.listed()))

    def get(self, collection: str) -> Collection | None:
        """The collection, or None when the id is unknown or its files cannot be read now."""
        return self.open(collection).collection

    def open(self, collection: str) -> Opened:
        """The collection, or why it cannot be had."""
        base, architecture, having = id_parts(collection)
        if base.startswith(PREFIX):
            # Lets the store find the results that are shipped with a built-in collection, so that it is shown without
            # torch.
            known = DEMOS.get(base.removeprefix(PREFIX))
            results = None if known is None or known.results is None else _shipped(known.results)
            if results is not None:
                attach(results, own_contents=True)
            return _collected(base, "", USUAL, architecture, having)
        place = self.place(base)
        if place is None:
            hint = "" if collection.startswith(saved_collections.SAVED) else "; open its folder again"
            name = collection.removeprefix(saved_collections.SAVED)
            return Opened(None, f"No collection is called {name} here{hint}")
        if collection.startswith(saved_collections.SAVED):
            stamp = str(place.path.stat().st_mtime_ns)
            return _collected(str(place.path), stamp, place.choices, architecture, having)
        try:
            folder = folders.allowed(str(place.path))
        except UwsError as error:
            return Opened(None, str(error))
        return _collected(str(folder), _stamp(str(folder)), place.choices, architecture, having)

    def architectures(self, collection: str) -> tuple[Architecture, ...]:
        """The groups of models at a collection's place that share layers; none where there is one such group only."""
        base = base_id(collection)
        opened = self.get(base)
        place = self.place(base)
        several = opened is not None and any(item.reason.startswith(OTHERS) for item in opened.left_out)
        # A saved collection has the models of one architecture.
        if not several or base.startswith(saved_collections.SAVED):
            return ()
        path, choices = (base, USUAL) if place is None else (str(place.path), place.choices)
        listed = _architectures(path, "" if place is None else _stamp(path), choices)
        return listed if len(listed) > 1 else ()

    def place(self, collection: str) -> Place | None:
        """The folder or the collection file behind an id, and how it is read; None for a built-in collection."""
        collection = base_id(collection)
        if collection.startswith(saved_collections.SAVED):
            path = saved_collections.path_of(collection)
            return None if path is None else Place(path, Choices(pickled=saved_collections.trusted(path)))
        with self._lock:
            return self._folders.get(collection)

    def path(self, collection: str) -> Path | None:
        """The folder behind an id, or None for a collection that is built in or saved."""
        place = None if collection.startswith(saved_collections.SAVED) else self.place(collection)
        return None if place is None else place.path

    def add(self, text: str, choices: Choices = USUAL) -> str:
        """The id of the folder a person typed, read as they chose, now and after a restart.

        Raises:
            OutsideRoot: it lies outside the roots.
            SourceError: there is no such folder.
            CollectionError: it holds nothing that can be compared.
        """
        folder = folders.allowed(text)
        _opened(folder, folders.roots(), choices)
        name, place = folder_id(folder, choices), Place(folder, choices)
        with self._lock:
            self._folders.pop(name, None)
            self._folders[name] = place
            while len(self._folders) > _MOST_FOLDERS:
                self._folders.pop(next(iter(self._folders)))
        _remember(name, place)
        return name

    def title(self, collection: str) -> str:
        """What a person reads for an id: of a folder its name, with as much of its path as tells it from the others."""
        collection = base_id(collection)
        if collection.startswith(saved_collections.SAVED):
            return next((one.title for one in saved_collections.listed() if one.id == collection), collection)
        demo = DEMOS.get(collection.removeprefix(PREFIX)) if collection.startswith(PREFIX) else None
        if demo is not None:
            return demo.title
        place = self.place(collection)
        if place is None:
            return collection.removeprefix(FOLDER)
        with self._lock:
            others = {str(item.path) for item in self._folders.values()} - {str(place.path)}
        parts = place.path.parts
        ends = ("/".join(parts[-depth:]) for depth in range(1, len(parts)))
        name = next((end for end in ends if not any(other.endswith(f"/{end}") for other in others)), str(place.path))
        return f"{name} ({place.choices})" if place.choices else name

    def about(self, collection: str) -> str:
        """One sentence about a collection: what it is, or where it lies and how it is read."""
        collection = base_id(collection)
        demo = DEMOS.get(collection.removeprefix(PREFIX)) if collection.startswith(PREFIX) else None
        if demo is not None:
            return demo.about
        place = self.place(collection)
        return "" if place is None else f"{place.path}{f' ({place.choices})' if place.choices else ''}"


@st.cache_resource(show_spinner=False)
def catalogue() -> Catalogue:
    """The one catalogue of this server."""
    return Catalogue()


def folder_id(folder: Path, choices: Choices = USUAL) -> str:
    """A short id for a folder: its name for people, and a digest of its place and of what was chosen about it."""
    told = f"{folder}\0{choices}" if choices else str(folder)
    name = re.sub(r"[^a-zA-Z0-9._-]+", "-", folder.name).strip("-.")[:40] or "models"
    return f"{FOLDER}{name}-{sha256(told.encode(errors='surrogateescape')).hexdigest()[:8]}"


@cache
def _shipped(path: Path) -> ResultsFile | None:
    try:
        return read_results_file(path)
    except UwsError:
        return None


def read_again() -> None:
    """Forget what was read of folders, so that the next look reads them anew."""
    _stamp.clear()
    _collected.clear()
    _architectures.clear()


@st.cache_resource(max_entries=16, show_spinner="Reading the models' headers")
def _collected(where: str, stamp: str, choices: Choices, architecture: str, having: str) -> Opened:
    """What lies at a place; `stamp` is part of the key, so a changed folder is read again."""
    try:
        if where.startswith(PREFIX):
            collection = collect(where, architecture=architecture or None, having=having or None)
        else:
            collection = _opened(Path(where), _roots(), choices, architecture, having)
        return Opened(saved_collections.edited(collection))
    except UwsError as error:
        return Opened(None, str(error))


@st.cache_resource(max_entries=16, show_spinner="Reading the models' headers")
def _architectures(where: str, stamp: str, choices: Choices) -> tuple[Architecture, ...]:
    """The architectures at a place; `stamp` is part of the key, so a changed folder is read again."""
    if where.startswith(PREFIX):
        return architectures(where)
    try:
        return architectures(Path(where), roots=_roots(), pickled=choices.pickled, dialect=choices.dialect or None)
    except UwsError:
        return ()


def _opened(
    path: Path, roots: tuple[Path, ...], choices: Choices, architecture: str = "", having: str = ""
) -> Collection:
    return collect(
        path,
        architecture=architecture or None,
        having=having or None,
        roots=roots,
        common_rows=choices.common_rows,
        pickled=choices.pickled,
        dialect=choices.dialect or None,
    )


def _roots() -> tuple[Path, ...]:
    return (*folders.roots(), saved_collections.folder())


# A walk over a thousand models takes 10 ms and a click asks several times; a change is noticed soon enough.
@st.cache_data(ttl=5, max_entries=32, show_spinner=False)
def _stamp(folder: str) -> str:
    return folders.stamp(Path(folder))


def _remembered() -> list[tuple[str, Place]]:
    """The latest folders opened here, the last one last, as far as the store still knows them."""
    try:
        store = default_store()
        found = [(key.removeprefix(_KEPT), store.get(key)) for key in store.keys(_KEPT)]
    except StoreError:
        return []
    places = []
    for name, raw in found:
        try:
            told = json.loads(raw or b"")
            chosen = {key: told[key] for key in asdict(USUAL) if key in told}
            places.append((float(told.get("opened", 0)), name, Place(Path(told["path"]), Choices(**chosen))))
        except (ValueError, KeyError, TypeError):
            continue
    places.sort(key=lambda place: place[:2])
    return [(name, place) for _, name, place in places[-_MOST_FOLDERS:]]


def _remember(name: str, folder: Place) -> None:
    # The time, because the store gives its keys by name and only the latest are kept.
    told = {"path": str(folder.path), "opened": time.time(), **(asdict(folder.choices) if folder.choices else {})}
    try:
        default_store().put(_KEPT + name, json.dumps(told).encode())
    except (StoreError, UnicodeEncodeError):
        # The folder is open all the same, only not after a restart.
        return
