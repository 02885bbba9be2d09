"""Uploaded files as models: under which safe names they lie, and which configuration belongs to which weights.

A browser sends names without folders, so a configuration says whose it is by its name, or there is one for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from uws_core.errors import UnreadableFile, UwsError
from uws_core.nouns.models import LeftOut
from uws_core.sources.files.header import PREFIX, header_length, parse_header
from uws_core.sources.files.tensors import ADAPTER, CONFIG, takes_config
from uws_core.sources.formats.adapter_config import NOTES
from uws_core.sources.formats.pickled import PICKLED_SUFFIXES

WEIGHTS: Final = ".safetensors"
# The configuration of a whole model; nothing of it is needed to compare weights.
_CARD: Final = "config.json"
_LONGEST_NAME: Final = 80
_MOST_NAMED: Final = 3


@dataclass(frozen=True)
class Plan:
    """The files to write, each by its path inside a folder of all: a folder a model; and what is to be known of it."""

    files: tuple[tuple[str, bytes], ...]
    notes: tuple[LeftOut, ...] = ()


def planned(files: Sequence[tuple[str, bytes]], *, pickled: bool = False) -> Plan:
    """How uploaded files, by their names, become models: an `adapter_config.json` goes to the adapters that lack one.

    Raises:
        UwsError: several configurations and nothing says whose they are, no weights, or pickled ones unasked for.
    """
    # The files with names that are all different: a second `a.safetensors` is `a-2.safetensors`.
    taken: dict[str, bytes] = {}
    for name, data in files:
        stem, dot, suffix = name.rpartition(".")
        one, number = name, 2
        while one in taken:
            one, number = f"{stem or suffix}-{number}{dot}{suffix if stem else ''}", number + 1
        taken[one] = data
    weights = {name: data for name, data in taken.items() if not name.endswith(".json")}
    configs = [(name, data) for name, data in files if name.endswith(".json")]
    _check(list(weights), pickled=pickled)
    own = {name: _named_after(name, configs) for name in weights}
    takers = [name for name, data in weights.items() if own[name] is None and _takes(name, data)]
    bare, shared = {data for name, data in configs if _plain(name) == CONFIG}, None
    if takers and len(bare) > 1:
        raise UwsError(
            f"{len(bare)} different files {CONFIG}, and nothing says whose they are: name each after its weights, "
            f"such as {PurePosixPath(takers[0]).stem}.{CONFIG}, or upload one that is for all"
        )
    if takers and bare:
        (shared,) = bare
    planned: list[tuple[str, bytes]] = []
    for (name, data), safe in zip(weights.items(), _safe_names(list(weights)), strict=True):
        folder = safe.rpartition(".")[0]
        planned.append((f"{folder}/{_kept_name(name, safe)}", data))
        config = shared if name in takers else own[name]
        planned += [] if config is None else [(f"{folder}/{CONFIG}", config)]
    return Plan(tuple(planned), _notes(configs, own, takers if shared is not None else []))


def _check(weights: list[str], *, pickled: bool) -> None:
    if not weights:
        raise UwsError("no weights among the uploaded files; add the safetensors files that the configuration is of")
    foreign = [name for name in weights if name.endswith(PICKLED_SUFFIXES)]
    if foreign and not pickled:
        raise UwsError(
            f"{foreign[0]} is a pickled file, which can run what its author wrote into it; save it as safetensors, or "
            "choose in the options to read pickled files if you trust it"
        )


def _named_after(weights: str, configs: Sequence[tuple[str, bytes]]) -> bytes | None:
    """The configuration that is named after these weights, or lies in one folder with them alone."""
    path = PurePosixPath(weights)
    wanted = {f"{path.stem}{mark}{CONFIG}" for mark in "._-"}
    beside = str(path.parent / CONFIG) if len(path.parts) > 1 else ""
    return next((data for name, data in configs if _plain(name) in wanted or name == beside), None)


def _plain(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _takes(name: str, data: bytes) -> bool:
    """Whether weights are an adapter's that look for a configuration: told by their header, or for pickles by name."""
    if name.endswith(PICKLED_SUFFIXES):
        return _plain(name).startswith(ADAPTER)
    try:
        length = header_length(data[:PREFIX], file_size=len(data))
        header = parse_header(data[PREFIX : PREFIX + length], file_size=len(data))
    except UnreadableFile:
        return False
    return takes_config(header.spans) and NOTES not in header.metadata


def _notes(
    configs: Sequence[tuple[str, bytes]], own: Mapping[str, bytes | None], takers: Sequence[str]
) -> tuple[LeftOut, ...]:
    """Whose the shared configuration is taken to be, and which files are not used."""
    notes = []
    if len(takers) > 1:
        more = f" and {len(takers) - _MOST_NAMED} more" if len(takers) > _MOST_NAMED else ""
        names = ", ".join(PurePosixPath(name).stem for name in takers[:_MOST_NAMED]) + more
        notes.append(LeftOut(CONFIG, f"taken for all {len(takers)} adapters that brought none of their own: {names}"))
    used = {data for data in own.values() if data is not None}
    for name, data in configs:
        if _plain(name) == _CARD:
            notes.append(LeftOut(name, "not needed: names and shapes of the weights say what can be compared"))
        elif data not in used and not (takers and _plain(name) == CONFIG):
            notes.append(LeftOut(name, "not used: no weights among the uploaded files look for it"))
    return tuple(dict.fromkeys(notes))


def _kept_name(name: str, safe: str) -> str:
    """The name inside the model's folder: pickled adapters are known by theirs."""
    is_adapter = name.endswith(PICKLED_SUFFIXES) and _plain(name).startswith(ADAPTER)
    return f"{ADAPTER}.{safe.rpartition('.')[2]}" if is_adapter else safe


def _safe_names(names: Sequence[str]) -> list[str]:
    """A plain file name for each, with a suffix, all different also without it."""
    stems: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", _plain(name).removesuffix(_suffix(name))).strip("-.") or "model"
        stem, number = plain[:_LONGEST_NAME], 2
        while stem in stems:
            stem, number = f"{plain[:_LONGEST_NAME]}-{number}", number + 1
        stems.append(stem)
    return [f"{stem}{_suffix(name)}" for stem, name in zip(stems, names, strict=True)]


def _suffix(name: str) -> str:
    return next((suffix for suffix in PICKLED_SUFFIXES if name.endswith(suffix)), WEIGHTS)
