"""Which files hold a model's tensors: decided from names and an index alone, the same on a disk and on the Hub.

An index is written by whoever made the model, so every name in it is a claim: only plain names of files that stand in
the same folder are followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from unicodedata import normalize

from uws_core.errors import OutsideRoot, UnreadableFile, UnsupportedFormat
from uws_core.nouns.models import LeftOut
from uws_core.sources.files.parts import families

SUFFIX: Final = ".safetensors"
INDEX: Final = ".safetensors.index.json"
# An index names every tensor once; a million of them take about 100 MB.
LONGEST_INDEX: Final = 100_000_000
# What trainers call the one weights file of a model, most telling first.
USUAL: Final = (
    "model.safetensors", "adapter_model.safetensors", "diffusion_pytorch_model.safetensors",
    "pytorch_lora_weights.safetensors", "pytorch_model.safetensors", "adapters.safetensors", "adapter.safetensors",
)  # fmt: skip
# What trainers save beside a model: state to go on training, no weights to compare.
STATE: Final = re.compile(r"^(optimizer|scheduler|scaler|rng_state.*|training_args|trainer_state.*)\.(pt|pth|bin)$")
_SHARD = re.compile(r"-\d{5,6}-of-(?=\d{5,6}\.)")
_NUMBERED = re.compile(r"^(.*)-(\d{5,6})-of-(\d{5,6})\.safetensors$")
_ARCHIVE: Final = "an archive is not read; unpack it"
_UNFINISHED: Final = "an unfinished download; finish it, or delete it"
# Formats of weights that are not read, with the way out.
FOREIGN: Final[Mapping[str, str]] = {
    ".gguf": "GGUF weights are quantised in blocks and not read; use the checkpoint they were converted from",
    ".bin": "a pickled file can run code when opened, so it is read only when asked for; convert it to safetensors",
    ".pt": "a pickled file can run code when opened, so it is read only when asked for; convert it to safetensors",
    ".pth": "a pickled file can run code when opened, so it is read only when asked for; convert it to safetensors",
    ".ckpt": "a pickled file can run code when opened, so it is read only when asked for; convert it to safetensors",
    ".h5": "Keras files are not read; save the model as safetensors",
    ".msgpack": "Flax files are not read; save the model as safetensors",
    ".onnx": "ONNX files are not read; save the model as safetensors",
    ".npz": "numpy files are not read; save the tensors as safetensors",
    ".npy": "numpy files are not read; save the tensors as safetensors",
    ".pkl": "a pickled file can run code when opened and is not read; save the tensors as safetensors",
    ".pickle": "a pickled file can run code when opened and is not read; save the tensors as safetensors",
    ".joblib": "a pickled file can run code when opened and is not read; save the tensors as safetensors",
    ".tar": "an archive is not read (torch's old `.pth.tar` is a pickled file); save the weights as safetensors",
    ".zip": _ARCHIVE,
    ".gz": _ARCHIVE,
    ".tgz": _ARCHIVE,
    ".bz2": _ARCHIVE,
    ".xz": _ARCHIVE,
    ".zst": _ARCHIVE,
    ".7z": _ARCHIVE,
    ".rar": _ARCHIVE,
    ".mar": _ARCHIVE,
    ".nemo": "a NeMo archive is not read; unpack it and convert its weights to safetensors",
    ".distcp": "a part of a distributed torch checkpoint; join it with torch.distributed.checkpoint.format_utils",
    ".ggml": "GGML weights are quantised in blocks and not read; use the checkpoint they were converted from",
    ".part": _UNFINISHED,
    ".partial": _UNFINISHED,
    ".incomplete": _UNFINISHED,
    ".crdownload": _UNFINISHED,
    ".download": _UNFINISHED,
    ".aria2": _UNFINISHED,
    ".tmp": _UNFINISHED,
    ".hdf5": "Keras files are not read; save the model as safetensors",
    ".keras": "Keras files are not read; save the model as safetensors",
    ".tflite": "TensorFlow files are not read; save the model as safetensors",
    ".pb": "TensorFlow files are not read; save the model as safetensors",
    ".ot": "Rust's torch files are not read; save the model as safetensors",
    ".pdparams": "Paddle files are not read; save the model as safetensors",
    ".mlmodel": "Core ML files are not read; save the model as safetensors",
    ".engine": "compiled engines hold no weights that can be read; use the checkpoint they were built from",
    ".pte": "compiled programs hold no weights that can be read; use the checkpoint they were built from",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one model: the weights, and the index that says which tensor lies where, when there is one.

    `rest` are the folder's other weights where nobody chose among them; an index may still name some of these.
    """

    files: tuple[str, ...]
    index: str = ""
    rest: tuple[str, ...] = ()


def layout_of(names: Collection[str], part: str = "") -> Layout:
    """The weights among the file `names` of one model folder; `part` picks one file or one sub-folder.

    Raises:
        OutsideRoot: `part` leaves the folder.
        UnreadableFile: a numbered shard is missing, or `part` names nothing.
        UnsupportedFormat: no safetensors, or several with no way to tell which is the model.
    """
    part = safe_name(part) if part else ""
    if part in names and part.endswith(INDEX):
        return Layout((), part)
    if part in names and not part.endswith(SUFFIX):
        raise UnsupportedFormat(foreign_reason(part) or f"{part} is no safetensors file")
    if part.endswith(SUFFIX):
        if part not in names:
            raise UnreadableFile(f"{part} is not there")
        return Layout((part,))
    here = sorted(name for name in names if _folder(name) == part)
    indexes = [name for name in here if name.endswith(INDEX)]
    if len(indexes) > 1:
        raise UnsupportedFormat(f"{len(indexes)} indexes, so several models: {_some(indexes)}; name one of them")
    weights = [name for name in here if _holds_weights(name)]
    if indexes:
        return Layout((), indexes[0], tuple(weights))
    files = _without_index([name for name in here if name.endswith(SUFFIX)], here)
    return Layout(files, rest=tuple(name for name in weights if name not in files))


def placed(
    index: bytes, *, names: Collection[str], folder: str = "", suffix: str = SUFFIX
) -> dict[str, tuple[str, ...]]:
    """The tensors that an index says lie in each file, by file, in the order of the file names.

    Raises:
        OutsideRoot: a file name that is absolute, climbs, or stands in another folder.
        UnreadableFile: no such JSON, or a file that is not there.
    """
    weight_map = {tensor: file.removeprefix("./") for tensor, file in _weight_map(index).items()}
    outside = sorted({file for file in weight_map.values() if not _plain(file, suffix)})
    if outside:
        raise OutsideRoot(f"the index names files outside the model's folder: {_some(outside)}; it was not followed")
    prefix = f"{folder}/" if folder else ""
    # A disk may keep accented letters in two characters where the index has them in one.
    spelled = {normalize("NFC", name): name for name in names}
    place = {file: spelled.get(normalize("NFC", prefix + file)) for file in weight_map.values()}
    if missing := sorted(file for file, name in place.items() if name is None):
        raise UnreadableFile(f"the index names files that are not there: {_some(missing)}")
    by_file: dict[str, list[str]] = {}
    for tensor, file in weight_map.items():
        by_file.setdefault(place[file] or "", []).append(tensor)
    return {file: tuple(by_file[file]) for file in sorted(by_file)}


def safe_name(name: str) -> str:
    """`name` if it is a relative posix path that stays below its folder.

    Raises:
        OutsideRoot: absolute, climbing with `..`, with a drive, a backslash or a control character.
    """
    path = PurePosixPath(name)
    bad = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not name.isprintable()
    if bad or path.as_posix() != name:
        raise OutsideRoot(f"{name[:80]!r} is not a plain relative path inside the model's folder")
    return name


def foreign_reason(name: str) -> str | None:
    """Why a weights file of another format is not read, or None for what holds no weights."""
    if name.lower().endswith(SUFFIX) and not name.endswith(SUFFIX):
        return f"its ending is not written {SUFFIX}; rename it"
    return FOREIGN.get(PurePosixPath(name).suffix.lower())


def not_read(rest: Iterable[str], instead: str) -> tuple[LeftOut, ...]:
    """The weights of a model folder that are not read because those in `instead` are; shards are one entry."""
    reason = f"not read: the model's weights are those in {instead}"
    hint = "; name this file as the part to read it instead"
    # A collapsed name is no file's.
    names = dict.fromkeys(_SHARD.sub("-*-of-", name) for name in rest)
    return tuple(LeftOut(one, reason + (hint if one.endswith(SUFFIX) and "*" not in one else "")) for one in names)


def is_numbered(name: str) -> bool:
    """Whether a file is one shard of several by name."""
    return _NUMBERED.match(name) is not None


def shard_groups(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The names that are shards, by the model that they are of."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if found := _NUMBERED.match(name):
            groups.setdefault((found[1], found[3]), []).append(name)
    return [tuple(sorted(group)) for group in groups.values()]


def _without_index(weights: list[str], here: list[str]) -> tuple[str, ...]:
    if len(weights) == 1:
        return tuple(weights)
    for usual in USUAL:
        if found := next((name for name in weights if PurePosixPath(name).name == usual), ""):
            return (found,)
    if weights and (numbered := _numbered(weights)):
        return numbered
    for parts in families(map(_own_name, weights), is_model=True).values():
        if len(parts) == len(weights):
            return tuple(weights)
    if weights:
        raise UnsupportedFormat(
            f"{len(weights)} safetensors files and no index that joins them: {_some(weights)}; name one of them"
        )
    reasons = sorted({reason for name in here if (reason := foreign_reason(name))})
    raise UnsupportedFormat("; ".join(reasons) or "no safetensors file is there")


def _numbered(weights: list[str]) -> tuple[str, ...]:
    """All of `x-00001-of-00003.safetensors` ..., also beside a file that joins them; empty without such names."""
    found = [match for name in weights if (match := _NUMBERED.match(name))]
    if len({(match[1], match[3]) for match in found}) != 1:
        return ()
    shards = [match[0] for match in found]
    if len(shards) != int(found[0][3]):
        raise UnreadableFile(f"{len(shards)} of {int(found[0][3])} shards are there: {_some(shards)}")
    return tuple(shards)


def _weight_map(index: bytes) -> dict[str, str]:
    if len(index) > LONGEST_INDEX:
        raise UnreadableFile(f"the index has {len(index):,} bytes, at most {LONGEST_INDEX:,} are read")
    try:
        found = json.loads(index)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"the index is not JSON: {str(error)[:200]}") from error
    weight_map = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnreadableFile("the index has no weight_map table")
    if not all(isinstance(file, str) for file in weight_map.values()):
        raise UnreadableFile("the index's weight_map holds something other than file names")
    return weight_map


def _plain(file: str, suffix: str) -> bool:
    """Whether a shard's name is one weights file of the index's own folder."""
    try:
        return "/" not in safe_name(file) and file.endswith(suffix)
    except OutsideRoot:
        return False


def _holds_weights(name: str) -> bool:
    own = PurePosixPath(name).name
    return own.endswith(SUFFIX) or (foreign_reason(own) is not None and not STATE.match(own))


def _own_name(name: str) -> str:
    return PurePosixPath(name).name


def _folder(name: str) -> str:
    parent = PurePosixPath(name).parent.as_posix()
    return "" if parent == "." else parent


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name[:80]) for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
