"""Which folders of this machine a page may read: only those under the roots that were named at start.

The folder itself and its table are checked here; links inside models are checked when the models are opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path

from uws_core.errors import OutsideRoot, SourceError
from uws_core.sources.model_table import MODEL_TABLE

# As deep as models are looked for below a folder.
_DEPTH = 4
# A thousand models of fifty files; a folder beyond it is not looked through on every click.
_MOST_ENTRIES = 50_000
_MOST_CHARACTERS = 4096


def roots() -> tuple[Path, ...]:
    """The folders below which a page may read: `UWS_ROOTS`, or else the folder the app was started in."""
    named = [part for part in os.environ.get("UWS_ROOTS", "").split(os.pathsep) if part.strip()]
    return tuple(dict.fromkeys(Path(part.strip()).expanduser().resolve() for part in named)) or (Path.cwd().resolve(),)


def allowed(text: str) -> Path:
    """The folder a person typed, resolved: absolute, from the home folder, or relative to a root.

    Containment is checked before existence, so nobody learns what exists outside the roots.

    Raises:
        OutsideRoot: it lies outside every root, or its table is a link that leads outside.
        SourceError: there is no such folder, or the text cannot be a path.
    """
    places = roots()
    folder = _resolved(text, places)
    if not _inside(folder, places):
        raise OutsideRoot(
            f"{text.strip()} is outside the folders this app may read ({_listed(places)}). "
            "Start the app with UWS_ROOTS naming a folder above it, or move the models"
        )
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise SourceError(f"A folder was expected at {folder}; there is {found}. Check the spelling")
    table = folder / MODEL_TABLE
    if table.is_symlink() and not _inside(_target(table), places):
        raise OutsideRoot(
            f"{table} is a link that leads outside the folders this app may read ({_listed(places)}). "
            "Name its target in UWS_ROOTS too, or copy the file"
        )
    return folder


def stamp(folder: Path) -> str:
    """A digest of names, sizes and times in a folder: another one means that it has to be read again. Opens no file."""
    digest = sha256()
    for entry in _entries(folder):
        try:
            seen = entry.stat()
        except OSError:
            continue
        digest.update(f"{entry.path}\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _resolved(text: str, places: tuple[Path, ...]) -> Path:
    """The path meant by the text: a relative one is looked for below every root, the first that exists wins."""
    asked = text.strip().strip("\"'")
    if not asked or len(asked) > _MOST_CHARACTERS or "\0" in asked:
        raise SourceError("Type the path of a folder that holds a model in each file or in each folder")
    try:
        path = Path(asked).expanduser()
        candidates = [(root / path).resolve() for root in places]
        return next((each for each in candidates if _inside(each, places) and each.is_dir()), candidates[0])
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{asked[:200]} cannot be a path here ({error}); check the spelling") from error


def _entries(folder: Path, depth: int = _DEPTH) -> Iterator[os.DirEntry[str]]:
    """Everything in a folder and in the folders inside it, sorted by name, hidden ones too."""
    return islice(_walked(folder, depth), _MOST_ENTRIES)


def _walked(folder: Path | str, depth: int) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        yield entry
        if depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _walked(entry.path, depth - 1)


def _target(link: Path) -> Path:
    try:
        return link.resolve()
    except (OSError, RuntimeError):
        # A circle of links leads nowhere, so nothing is read through it.
        return link.parent.resolve()


def _inside(path: Path, places: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(root) for root in places)


def _listed(places: tuple[Path, ...]) -> str:
    return ", ".join(str(root) for root in places)
