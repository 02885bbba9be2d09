"""Finds the models in a folder from file names alone: one model a file, or one a model folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from uws_core.errors import UnreadableFile
from uws_core.nouns.models import LeftOut
from uws_core.sources.files.hub_cache import cached_repo, dangling, other_kind, snapshots
from uws_core.sources.files.parts import families, family_reason
from uws_core.sources.files.shards import INDEX, STATE, SUFFIX, USUAL, foreign_reason, is_numbered, shard_groups
from uws_core.sources.formats.pickled import PICKLED_INDEX, PICKLED_SUFFIXES
from uws_core.sources.formats.subspace_files import INDEX_OF_COMPRESSED
from uws_core.sources.model_table import MODEL_TABLE

# `runs/task/seed/checkpoint-500` is as deep as trainers go.
DEEPEST: Final = 4
# Ten thousand models of a dozen files; a whole disk named by mistake is noticed within seconds.
MOST_ENTRIES: Final = 200_000
# What marks a folder as one model, beside its weights.
CARDS: Final = frozenset({"config.json", "adapter_config.json", "model_index.json", "params.json"})
# Saved collections, and the indexes of weights that are listed themselves.
_TOLD: Final = (".uws.toml", ".index.json")
NO_WEIGHTS: Final = "no weights are in it"


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model by its place and the name that the folder gives it, relative and without a suffix."""

    path: Path
    label: str
    # The weights file or its index in the folder; empty for safetensors, which are found by themselves.
    file: str = ""
    pickled: bool = False
    # The commit of a snapshot in the Hub client's cache.
    commit: str = ""


def models_in(folder: Path, *, pickled: bool = False) -> tuple[tuple[FoundModel, ...], tuple[LeftOut, ...]]:
    """The models in a folder in natural order (`m2` before `m10`), and every other entry with why it is not used.

    With `pickled`, torch's own files are models too where no safetensors are; they are never otherwise.

    Raises:
        UnreadableFile: the folder cannot be listed, or holds far more files than a collection has.
    """
    try:
        found = list(_Walk(folder, pickled=pickled).models(folder, 0))
    except OSError as error:
        raise UnreadableFile(f"{folder}: {error.strerror or error}") from error
    models = [one for one in found if isinstance(one, FoundModel)]
    taken = Counter(one.label for one in models)
    models = [
        # A file `a.safetensors` beside a folder `a`: the file keeps its suffix.
        replace(one, label=one.path.relative_to(folder).as_posix()) if taken[one.label] > 1 else one
        for one in models
    ]
    models.sort(key=lambda one: natural(one.label))
    return tuple(models), tuple(one for one in found if isinstance(one, LeftOut))


def natural(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """A sort key that reads runs of digits as numbers and letters without case."""
    pieces = re.split(r"(\d+)", name.casefold())
    return tuple((0, int(x), "") if x.isdecimal() else (1, 0, x) for x in pieces if x), name


class _Walk:
    """One search of a folder: every real folder is entered once, so a circle of links ends."""

    def __init__(self, root: Path, *, pickled: bool) -> None:
        self.root = root
        self.pickled = pickled
        self.entered: set[Path] = set()
        self.entries = 0

    def models(self, folder: Path, depth: int) -> Iterator[FoundModel | LeftOut]:
        """The models in `folder` and below, and what else lies there."""
        if cached_repo(folder):
            yield from self.cached(folder, depth)
            return
        files, folders, broken = self.listed(folder)
        if INDEX_OF_COMPRESSED in files:
            yield FoundModel(folder, self.label(folder))
            return
        weights = [name for name in files if name.endswith(SUFFIX)]
        is_model = _is_model(files, weights, at_root=depth == 0)
        yield from (LeftOut(self.label(folder / name), dangling(folder / name)) for name in broken)
        if is_model:
            yield FoundModel(folder, self.label(folder))
        else:
            yield from self.single_files(folder, files, weights)
            yield from self.foreign(folder, files, at_root=depth == 0)
            yield from self.others(folder, files)
        # Below a model folder lie its own earlier checkpoints; only the folder that the user named is searched.
        if depth == 0 or not is_model:
            ranks = {name: group for group in families(folders).values() for name in group}
            for group in dict.fromkeys(ranks.values()):
                yield LeftOut(self.label(folder / group[0]), family_reason(group))
            for name in folders:
                if name not in ranks:
                    yield from self.below(folder / name, depth + 1)
        else:
            yield from self.nested(folder, folders)

    def below(self, folder: Path, depth: int) -> Iterator[FoundModel | LeftOut]:
        """What lies in a sub-folder, unless it is too deep, was entered before, or may not be read."""
        real = folder.resolve()
        if real in self.entered:
            yield LeftOut(self.label(folder), "it is a link to a folder that was searched already")
            return
        if depth > DEEPEST:
            yield LeftOut(self.label(folder), f"it lies more than {DEEPEST} folders deep and was not searched")
            return
        if kind := other_kind(folder):
            yield LeftOut(self.label(folder), f"it holds {kind} of the Hub's cache, no model")
            return
        try:
            found = list(self.models(folder, depth))
        except OSError as error:
            yield LeftOut(self.label(folder), f"the folder cannot be listed: {error.strerror or error}")
            return
        if all(isinstance(one, LeftOut) and one.reason.startswith(NO_WEIGHTS) for one in found):
            found = [self.nothing(folder, [one.what for one in found if isinstance(one, LeftOut)])]
        yield from found

    def cached(self, folder: Path, depth: int) -> Iterator[FoundModel | LeftOut]:
        """The snapshots of a cached repository, labelled with its name, and with the commit where there are several."""
        repo, found = cached_repo(folder), snapshots(folder)
        self.entered.add(folder.resolve())
        if not found:
            yield LeftOut(repo, "the cache holds no snapshot of it; download it again")
        for snapshot in found:
            label = repo if len(found) == 1 else f"{repo}@{snapshot.name[:12]}"
            inside = list(self.models(snapshot, depth + 1))
            here = self.label(snapshot)
            if not any(isinstance(one, FoundModel) for one in inside) and not any(
                one.what.startswith(here) for one in inside if isinstance(one, LeftOut)
            ):
                yield LeftOut(label, f"the cache holds no weights file of snapshot {snapshot.name[:12]}")
            for one in inside:
                if isinstance(one, FoundModel):
                    yield replace(one, label=one.label.replace(here, label, 1), commit=snapshot.name)
                else:
                    yield replace(one, what=one.what.replace(here, label, 1))

    def single_files(self, folder: Path, files: list[str], weights: list[str]) -> Iterator[FoundModel | LeftOut]:
        """Each safetensors file as a model, but those that are parts of one."""
        parts = {name: group for group in families(weights, is_model=_has_card(files)).values() for name in group}
        parts |= {name: group for group in shard_groups(weights) for name in group}
        for group in dict.fromkeys(parts.values()):
            yield LeftOut(self.label(folder / group[0]), family_reason(group))
        for name in weights:
            if name not in parts:
                yield FoundModel(folder / name, self.label(folder / name.removesuffix(SUFFIX)))

    def foreign(self, folder: Path, files: list[str], *, at_root: bool) -> Iterator[FoundModel | LeftOut]:
        """Weights in formats that are not read, or are by request; what trainers save to go on training is none."""
        weights = [name for name in files if foreign_reason(name) and not STATE.match(name)]
        own = [name for name in weights if self.pickled and name.endswith(PICKLED_SUFFIXES)]
        index = [name for name in files if self.pickled and name.endswith(PICKLED_INDEX)]
        whole = index or (own if len(own) == 1 and (not at_root or _has_card(files)) else [])
        if whole:
            yield FoundModel(folder, self.label(folder), whole[0], pickled=True)
        parts = {name: group for group in families(own, is_model=_has_card(files)).values() for name in group}
        for group in dict.fromkeys(parts.values()):
            if not whole:
                yield LeftOut(self.label(folder / group[0]), family_reason(group))
        for name in weights:
            if name not in own:
                yield LeftOut(self.label(folder / name), foreign_reason(name) or "")
            elif not whole and name not in parts:
                yield FoundModel(folder / name, self.label((folder / name).with_suffix("")), pickled=True)

    def others(self, folder: Path, files: list[str]) -> Iterator[LeftOut]:
        """One note on the files that hold no weights by their names; cards and tables belong to the models."""
        used = {*CARDS, MODEL_TABLE}
        names = [name for name in files if not _is_weights(name) and name not in used and not name.endswith(_TOLD)]
        if names:
            yield self.nothing(folder, names)

    def nothing(self, folder: Path, names: list[str]) -> LeftOut:
        """The note on a folder without weights, or on the files in one that hold none."""
        names = [Path(name).name for name in names]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return LeftOut(self.label(folder), f"{NO_WEIGHTS}: {shown}" if names else NO_WEIGHTS)

    def nested(self, folder: Path, folders: list[str]) -> Iterator[LeftOut]:
        """Models inside a model."""
        for name in folders:
            if any(_is_weights(file.name) for file in (folder / name).iterdir()):
                reason = f"it lies inside the model {self.label(folder)}; open that folder to compare them"
                yield LeftOut(self.label(folder / name), reason)

    def listed(self, folder: Path) -> tuple[list[str], list[str], list[str]]:
        """The visible files, folders, and entries that are neither, by name in natural order; links are followed."""
        self.entered.add(folder.resolve())
        paths = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_by_name)
        self.entries += len(paths)
        if self.entries > MOST_ENTRIES:
            raise UnreadableFile(
                f"{self.root}: more than {MOST_ENTRIES:,} files lie in it and below; name a folder nearer to the models"
            )
        files = [path.name for path in paths if path.is_file()]
        folders = [path.name for path in paths if path.is_dir()]
        known = {*files, *folders}
        return files, folders, [path.name for path in paths if path.name not in known]

    def label(self, path: Path) -> str:
        """A path as it is shown: relative to the folder that the user named."""
        return self.root.name if path == self.root else path.relative_to(self.root).as_posix()


def _is_model(files: list[str], weights: list[str], *, at_root: bool) -> bool:
    """Whether the safetensors of a folder make up one model.

    In the folder that the user named, that takes more than a usual name among others: a card, an index or shards.
    """
    if any(name.endswith(INDEX) for name in files) or (weights and all(map(is_numbered, weights))):
        return True
    usual, card = any(name in USUAL for name in weights), _has_card(files)
    if len(weights) == 1:
        return not at_root or usual or card
    if any(len(group) == len(weights) for group in families(weights, is_model=card).values()):
        return True
    # Shards, with the file that joins them beside.
    others = [name for name in weights if not is_numbered(name)]
    if len(shard_groups(weights)) == 1 and (card or all(name.startswith("consolidated") for name in others)):
        return True
    return usual and (card or not at_root)


def _has_card(files: list[str]) -> bool:
    return not CARDS.isdisjoint(files)


def _is_weights(name: str) -> bool:
    return name.endswith(SUFFIX) or (foreign_reason(name) is not None and not STATE.match(name))


def _by_name(path: Path) -> tuple[tuple[tuple[int, int, str], ...], str]:
    return natural(path.name)
