"""What this app keeps of people's own: saved collections, uploaded weights, and attributes that were edited.

A folder beside the results holds `<id>.uws.toml` files, one a collection, results files `<id>.uws.zip`, uploaded files
in `uploads/`, edited attributes in `edits/` by the fingerprint of the models they are of, and in `pickled/` which
collections somebody chose here to read pickled files of. An id is looked up in the folder, never joined into a path
from outside.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from uws_core.errors import ExportError, UnreadableFile, UwsError
from uws_core.nouns.models import Collection
from uws_core.store.results import default_path
from uws_core.store.results_file import RESULTS_SUFFIX, read_results_file
from uws_core.store.saved_collections import SUFFIX, parse_saved, read_saved, save
from uws_core.ui.uploads import Plan

SAVED: Final = "saved:"
_UPLOADS, _EDITS, _PICKLED = "uploads", "edits", "pickled"
_STEM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
_NAME_LINE: Final = re.compile(r'^name = (".*")$', re.MULTILINE)
# The name stands in the first lines of a file.
_HEAD: Final = 4096


@dataclass(frozen=True, slots=True)
class Kept:
    """A saved collection: `id` for the address, `title` for people, `when` in seconds."""

    id: str
    title: str
    path: Path
    when: float


def folder() -> Path:
    """Where collections are kept: beside the results, not among them."""
    results = default_path()
    return results.with_name(f"{results.name}-collections")


def uploads() -> Path:
    """Where uploaded weights lie."""
    return folder() / _UPLOADS


def listed() -> tuple[Kept, ...]:
    """The saved collections, newest first."""
    try:
        suffixes = (SUFFIX, RESULTS_SUFFIX)
        paths = [path for path in folder().iterdir() if path.name.endswith(suffixes) and _STEM.fullmatch(_stem(path))]
        found = [
            Kept(SAVED + _stem(path), _title(path, path.stat().st_mtime_ns), path, path.stat().st_mtime)
            for path in paths
        ]
    except OSError:
        return ()
    return tuple(sorted(found, key=lambda one: -one.when))


def path_of(name: str) -> Path | None:
    """The file behind an id, or None."""
    return next((one.path for one in listed() if one.id == name), None)


def id_for(name: str, *content: str) -> str:
    """An id for a collection of that name; `content` tells it from others of the same name."""
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-._")[:40] or "models"
    return f"{SAVED}{slug}-{sha256(chr(0).join([name, *content]).encode(errors='replace')).hexdigest()[:8]}"


def keep(collection: Collection, *, query: str = "", name: str = "") -> str:
    """Saves a collection under the id `name`, or one made for it; returns the id.

    Raises:
        ExportError: it cannot be written.
    """
    name = name or id_for(collection.name, collection.fingerprint)
    path = _made(folder()) / f"{name.removeprefix(SAVED)}{SUFFIX}"
    save(collection, path, query=query)
    if any(ref.pickled for ref in collection.refs):
        _trust(path)
    return name


def keep_text(title: str, text: str, *, pickled: bool = False) -> str:
    """Keeps a collection file from elsewhere; returns its id.

    Pickled files that it names are read only with `pickled`: a person here chose so, the file cannot.

    Raises:
        UnreadableFile: it is none; the message says where.
        ExportError: it cannot be written.
    """
    parse_saved(text, beside=folder())
    name = id_for(title.removesuffix(SUFFIX), text)
    path = _made(folder()) / f"{name.removeprefix(SAVED)}{SUFFIX}"
    try:
        path.write_text(text, encoding="utf-8")
    except (OSError, UnicodeEncodeError) as error:
        raise ExportError(f"{title}: the collection cannot be kept: {error}") from error
    if pickled:
        _trust(path)
    return name


def keep_results(title: str, data: bytes) -> str:
    """Keeps a results file from elsewhere; returns its id.

    Raises:
        UnreadableFile: it is none, or of another version; the message says what to do.
        ExportError: it cannot be written.
    """
    name = id_for(title.removesuffix(RESULTS_SUFFIX), sha256(data).hexdigest())
    path = _made(folder()) / f"{name.removeprefix(SAVED)}{RESULTS_SUFFIX}"
    unfinished = path.with_name(f".{path.name}")
    try:
        unfinished.write_bytes(data)
        read_results_file(unfinished)
        unfinished.replace(path)
    except UnreadableFile as error:
        unfinished.unlink(missing_ok=True)
        raise UnreadableFile(str(error).replace(unfinished.name, title)) from error
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ExportError(f"{title}: the results cannot be kept: {error}") from error
    return name


def trusted(path: Path) -> bool:
    """Whether somebody here chose to read the pickled files that this collection file names, as it is now."""
    mark = folder() / _PICKLED / _stem(path)
    try:
        return mark.read_text(encoding="utf-8") == _digest(path)
    except (OSError, UnicodeDecodeError):
        return False


def remove(name: str) -> None:
    """Deletes this collection and any uploads used only by it."""
    path = path_of(name)
    if path is None:
        return
    path.unlink(missing_ok=True)
    (folder() / _PICKLED / _stem(path)).unlink(missing_ok=True)
    named = "".join(one.path.read_text(encoding="utf-8") for one in listed() if not is_results(one.path))
    for place in uploads().iterdir() if uploads().is_dir() else ():
        if place.name not in named:
            shutil.rmtree(place, ignore_errors=True)


def keep_uploads(plan: Plan) -> Path:
    """Writes uploaded files as they are planned to lie, in a folder named by their content; returns the folder.

    Raises:
        ExportError: they cannot be written.
    """
    digest = sha256()
    for name, data in plan.files:
        digest.update(sha256(name.encode()).digest() + sha256(data).digest())
    place = uploads() / digest.hexdigest()[:40]
    if place.is_dir():
        return place
    unfinished = place.with_name(f".{place.name}")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        for name, data in plan.files:
            (_made((unfinished / name).parent) / Path(name).name).write_bytes(data)
        unfinished.rename(place)
    except OSError as error:
        raise ExportError(f"the uploaded files cannot be kept: {error.strerror or error}") from error
    return place


def edited(collection: Collection) -> Collection:
    """The collection with the attributes that were last kept for its models, if any were."""
    path = _edits(collection)
    try:
        kept = read_saved(path) if path.is_file() else None
    except UwsError:
        return collection
    if kept is None or tuple(kept.models) != collection.labels:
        return collection
    return replace(collection, table=kept.table)


def keep_edits(collection: Collection) -> None:
    """Keeps the collection's table as the attributes of its models.

    Raises:
        ExportError: it cannot be written.
    """
    path = _edits(collection)
    _made(path.parent)
    save(collection, path)


def forget_edits(collection: Collection) -> None:
    """Back to the attributes that the models came with."""
    _edits(collection).unlink(missing_ok=True)


def has_edits(collection: Collection) -> bool:
    """Whether attributes were kept for these models."""
    return _edits(collection).is_file()


def is_results(path: Path) -> bool:
    """Whether a kept collection has results and no weights."""
    return path.name.endswith(RESULTS_SUFFIX)


def _edits(collection: Collection) -> Path:
    # A digest again, since the fingerprint of a file from elsewhere is a text from elsewhere.
    return folder() / _EDITS / f"{sha256(collection.fingerprint.encode()).hexdigest()[:32]}{SUFFIX}"


def _trust(path: Path) -> None:
    mark = _made(folder() / _PICKLED) / _stem(path)
    try:
        mark.write_text(_digest(path), encoding="utf-8")
    except OSError as error:
        raise ExportError(f"{mark}: the choice to read pickled files cannot be kept: {error}") from error


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _made(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ExportError(f"{path}: collections cannot be kept there: {error.strerror or error}") from error
    return path


def _stem(path: Path) -> str:
    return path.name.removesuffix(SUFFIX).removesuffix(RESULTS_SUFFIX)


@lru_cache(maxsize=1024)
def _title(path: Path, changed: int) -> str:
    """The name that a file gives itself, from its first lines; its stem when there is none."""
    if is_results(path):
        return f"{_stem(path).rpartition('-')[0]} (results)"
    try:
        with path.open(encoding="utf-8") as file:
            found = _NAME_LINE.search(file.read(_HEAD))
        return str(json.loads(found[1]))[:120] if found else _stem(path)
    except (OSError, ValueError):
        return _stem(path)
