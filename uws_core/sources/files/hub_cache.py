"""The Hub client's own cache on disk: which folder is which repository, at which commit.

`models--owner--name/snapshots/<commit>/` holds links into `blobs/`; `refs/main` names the commit of the main branch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from uws_core.errors import UnreadableFile

_MODEL: Final = re.compile(r"models--(?:([\w.\-]+?)--)?([\w.\-]+)")
_OTHER: Final = re.compile(r"(datasets|spaces)--.+")


def cached_repo(folder: Path) -> str:
    """The repository that a folder of the cache holds, `owner/name`; empty for any other folder."""
    found = _MODEL.fullmatch(folder.name)
    if not found or not (folder / "snapshots").is_dir():
        return ""
    return f"{found[1]}/{found[2]}" if found[1] else found[2]


def other_kind(folder: Path) -> str:
    """What a folder of the cache holds instead of a model: `datasets` or `spaces`, else nothing."""
    found = _OTHER.fullmatch(folder.name)
    return found[1] if found else ""


def snapshots(folder: Path) -> list[Path]:
    """The snapshots of a cached repository, the one of its main branch first."""
    found = sorted(path for path in (folder / "snapshots").iterdir() if path.is_dir())
    main = folder / "refs" / "main"
    commit = main.read_text(encoding="utf-8", errors="replace").strip() if main.is_file() else ""
    return sorted(found, key=lambda path: path.name != commit)


def snapshot_of(folder: Path) -> Path:
    """The folder that holds the files: the snapshot of a cached repository, any other folder itself.

    Raises:
        UnreadableFile: a repository without a snapshot.
    """
    if not cached_repo(folder):
        return folder
    found = snapshots(folder)
    if not found:
        raise UnreadableFile(f"{folder}: the cache of {cached_repo(folder)} holds no snapshot; download it again")
    return found[0]


def snapshot_name(path: Path) -> str:
    """`owner/name@commit` of a snapshot's folder, the commit in twelve digits; empty for any other folder."""
    repo = cached_repo(path.parent.parent) if path.parent.name == "snapshots" else ""
    return f"{repo}@{path.name[:12]}" if repo else ""


def dangling(path: Path) -> str:
    """Why an entry that is neither a file nor a folder is not read."""
    if not path.is_symlink():
        return "it is neither a file nor a folder"
    target = path.readlink()
    if target.parent.name == "blobs":
        return f"a link to {target}, which is not there: its download was not finished, or the cache was cleaned"
    return f"a link to {target}, which is not there"
