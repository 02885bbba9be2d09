"""The collections that can be chosen: built in, in folders somebody opened here, or saved on the shelf.

A folder is chosen by an id, never by a path in an address; which path an id stands for is kept in the store, so that a
link works after a restart, and the path is checked against the roots every time it is used.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import streamlit as st

from uws_core.collection import collect
from uws_core.errors import StoreError, UwsError
from uws_core.nouns.models import Collection
from uws_core.store import default_store
from uws_core.ui import folders, shelf
from uws_core.zoo.demo import DEMOS, PREFIX

FOLDER = "folder:"
_KEPT = "opened/"
# More than anybody keeps in mind; the oldest make room.
_MOST_FOLDERS = 24


@dataclass(frozen=True, slots=True)
class Found:
    """A collection, or in words why it cannot be had."""

    collection: Collection | None
    problem: str = ""


class Catalogue:
    """Every collection by id; shared by all sessions, so all it changes is behind a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[str, Path] = dict(_remembered())

    def ids(self) -> tuple[str, ...]:
        """The ids, built-in collections first; a new visitor starts with the first."""
        with self._lock:
            return (*(PREFIX + name for name in DEMOS), *self._folders, *(one.id for one in shelf.listed()))

    def get(self, collection: str) -> Collection | None:
        """The collection, or None when the id is unknown or its files cannot be read now."""
        return self.look(collection).collection

    def look(self, collection: str) -> Found:
        """The collection, or why it cannot be had."""
        if collection.startswith(PREFIX):
            return _collected(collection, "")
        if collection.startswith(shelf.SAVED):
            return _saved(collection)
        with self._lock:
            folder = self._folders.get(collection)
        if folder is None:
            return Found(None, f"No collection is called {collection} here; open its folder again")
        try:
            folder = folders.allowed(str(folder))
        except UwsError as error:
            return Found(None, str(error))
        return _collected(str(folder), _stamp(str(folder)))

    def path(self, collection: str) -> Path | None:
        """The folder behind an id, or None for a built-in collection."""
        with self._lock:
            return self._folders.get(collection)

    def add(self, text: str) -> str:
        """The id of the folder a person typed, now and after a restart.

        Raises:
            OutsideRoot: it lies outside the roots.
            SourceError: there is no such folder.
            CollectionError: it holds nothing that can be compared.
        """
        folder = folders.allowed(text)
        collect(folder, roots=folders.roots())
        name = folder_id(folder)
        with self._lock:
            self._folders.pop(name, None)
            self._folders[name] = folder
            while len(self._folders) > _MOST_FOLDERS:
                self._folders.pop(next(iter(self._folders)))
        _remember(name, folder)
        return name

    def title(self, collection: str) -> str:
        """What a person reads for an id."""
        if collection.startswith(shelf.SAVED):
            return next((one.title for one in shelf.listed() if one.id == collection), collection)
        demo = DEMOS.get(collection.removeprefix(PREFIX)) if collection.startswith(PREFIX) else None
        return collection.removeprefix(FOLDER) if demo is None else demo.title

    def about(self, collection: str) -> str:
        """One sentence about a collection: what it is, or where it lies."""
        demo = DEMOS.get(collection.removeprefix(PREFIX)) if collection.startswith(PREFIX) else None
        place = shelf.path_of(collection) if collection.startswith(shelf.SAVED) else self.path(collection)
        return str(place or "") if demo is None else demo.about


@st.cache_resource(show_spinner=False)
def catalogue() -> Catalogue:
    """The one catalogue of this server."""
    return Catalogue()


def folder_id(folder: Path) -> str:
    """A short id for a folder: its name for people, and a digest of its place to tell namesakes apart."""
    name = re.sub(r"[^a-zA-Z0-9._-]+", "-", folder.name).strip("-.")[:40] or "models"
    return f"{FOLDER}{name}-{sha256(str(folder).encode(errors='surrogateescape')).hexdigest()[:8]}"


def read_again() -> None:
    """Forget what was read of folders, so that the next look reads them anew."""
    _stamp.clear()
    _collected.clear()


@st.cache_resource(max_entries=16, show_spinner="Reading the models' headers")
def _collected(where: str, stamp: str) -> Found:
    """What lies at a place; `stamp` is part of the key, so a changed folder is read again."""
    try:
        found = collect(where) if where.startswith(PREFIX) else collect(Path(where), roots=_roots())
        return Found(shelf.edited(found))
    except UwsError as error:
        return Found(None, str(error))


def _saved(collection: str) -> Found:
    path = shelf.path_of(collection)
    if path is None:
        return Found(None, f"No saved collection is called {collection.removeprefix(shelf.SAVED)} here")
    return _collected(str(path), str(path.stat().st_mtime_ns))


def _roots() -> tuple[Path, ...]:
    return (*folders.roots(), shelf.folder())


# A walk over a thousand models takes 10 ms and a click asks several times; a change is noticed soon enough.
@st.cache_data(ttl=5, max_entries=32, show_spinner=False)
def _stamp(folder: str) -> str:
    return folders.stamp(Path(folder))


def _remembered() -> list[tuple[str, Path]]:
    """The folders opened here before, as far as the store still knows them."""
    try:
        store = default_store()
        found = [(key.removeprefix(_KEPT), store.get(key)) for key in store.keys(_KEPT)]
    except StoreError:
        return []
    pairs = []
    for name, raw in found[:_MOST_FOLDERS]:
        try:
            pairs.append((name, Path(json.loads(raw or b"")["path"])))
        except (ValueError, KeyError, TypeError):
            continue
    return pairs


def _remember(name: str, folder: Path) -> None:
    try:
        default_store().put(_KEPT + name, json.dumps({"path": str(folder)}).encode())
    except (StoreError, UnicodeEncodeError):
        # The folder is open all the same, only not after a restart.
        return
