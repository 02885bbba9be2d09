"""Weights in torch's own pickled files, read only where the reference says so, through the weights-only loader.

Opening a pickle can run whatever its author wrote into it. The weights-only loader refuses all but tensors and plain
containers, and files are mapped, not copied; yet safetensors remain the format to prefer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeGuard

from uws_core.errors import OutsideRoot, UnreadableFile, UnsupportedFormat
from uws_core.nouns.models import LeftOut
from uws_core.sources.files.blob import FileBlob, bytes_of, torch_dtypes
from uws_core.sources.files.header import TensorSpan
from uws_core.sources.files.look_alikes import FIRST_BYTES, what_is
from uws_core.sources.files.shards import STATE, not_read, placed
from uws_core.sources.files.tensors import ADAPTER, CONFIG, LONGEST_CONFIG, SAMPLE, Tensors, takes_config

if TYPE_CHECKING:
    from torch import Tensor

PICKLED_SUFFIXES: Final = (".bin", ".pt", ".pth", ".ckpt")
PICKLED_INDEX: Final = ".bin.index.json"
# Under which name trainers keep the weights among other things.
_INSIDE: Final = ("state_dict", "model_state_dict", "model", "module", "params", "params_ema")


@dataclass(frozen=True, slots=True)
class _Mapped:
    """The bytes of one tensor, wherever in its file torch found them; see `Blob`."""

    name: str
    value: Tensor
    far = False
    piece = FileBlob.piece
    head = 0

    @property
    def size(self) -> int:
        """The tensor's bytes."""
        return self.value.numel() * self.value.itemsize

    def read(self, start: int, stop: int, *, into: memoryview | None = None) -> memoryview:
        """Bytes `[start, stop)`; see `Blob.read`."""
        found = bytes_of(self.value.contiguous())[start:stop]
        if into is None:
            return found
        into[:] = found
        return into


class PickledTensors(Tensors):
    """The tensors of pickled files, mapped into memory; see `Tensors`."""

    def __init__(
        self,
        values: Mapping[str, object],
        files: Mapping[str, FileBlob],
        config: bytes,
        left_out: tuple[LeftOut, ...] = (),
    ) -> None:
        spans = MappingProxyType({name: _span(name, value) for name, value in values.items()})
        nothing: Mapping[str, str] = MappingProxyType({})
        homes = {name: _Mapped(name, value.detach()) for name, value in values.items() if _plain(value)}
        super().__init__(spans, MappingProxyType(homes), tuple(files.values()), nothing, config, left_out)

    def digest(self) -> str:
        """Digests layout, a 4 KiB sample of every tensor, and the configuration; see `Tensors.digest`."""
        import torch

        found = hashlib.sha256()
        for name, span in self.spans.items():
            found.update(repr((name, span.dtype, span.shape)).encode())
            home = self.homes.get(name)
            if not isinstance(home, _Mapped):
                continue
            value = home.value.reshape(-1)
            count = SAMPLE // value.itemsize
            start = max(0, (value.numel() - count) // 2)
            found.update(value[start : start + count].contiguous().view(torch.uint8).numpy().tobytes())
        found.update(self.config)
        return found.hexdigest()[:40]


def tensors_at(path: Path, file: str = "") -> Tensors:
    """The tensors of the pickled model at `path`: the file itself, or `file` (weights or their index) in the folder.

    Raises:
        OutsideRoot: the index leads out of the folder.
        UnreadableFile: damaged, missing, or holding more than tensors.
        UnsupportedFormat: an old format that cannot be mapped, or no tensors by name.
    """
    folder, name = (path, file) if path.is_dir() else (path.parent, path.name)
    try:
        files, rest = {name: FileBlob(folder / name)}, list[str]()
        if name.endswith(PICKLED_INDEX):
            there = {entry.name for entry in folder.iterdir()}
            index = (folder / name).read_bytes()
            files = {one: FileBlob(folder / one) for one in placed(index, names=there, suffix=".bin")}
            weights = [one for one in sorted(there) if one.endswith(PICKLED_SUFFIXES) and not STATE.match(one)]
            rest = [one for one in weights if one not in files]
    except OSError as error:
        raise UnreadableFile(f"{name}: {error.strerror or error}") from error
    root = folder.resolve()
    if outside := [one for one in files if len(files) > 1 and not (folder / one).resolve().is_relative_to(root)]:
        raise OutsideRoot(f"{outside[0]}: the index leads through a link out of {root}")
    values: dict[str, object] = {}
    for one in files:
        values |= _loaded(folder / one)
    config = folder / CONFIG
    is_its_own = config.is_file() and (name.startswith(ADAPTER) or takes_config(values))
    settings = config.read_bytes()[:LONGEST_CONFIG] if is_its_own else b""
    return PickledTensors(values, files, settings, not_read(rest, name))


def _loaded(path: Path) -> dict[str, object]:
    """Everything by name: the weights first, then what stands beside them where they are one entry among others."""
    import torch

    try:
        found = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except RuntimeError as error:
        known = _why_not(path, error)
        if "mmap can only be used" in str(error) and "weights-only" in known:
            raise UnsupportedFormat(f"{path.name}: torch's format from before 2020; save it as safetensors") from error
        raise UnreadableFile(f"{path.name}: {known}") from error
    # The unpickler meets hostile bytes with almost any exception; none of them is a reason to stop.
    except Exception as error:
        raise UnreadableFile(f"{path.name}: {_why_not(path, error)}") from error
    beside: dict[str, object] = {}
    for inner in _INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(inner), Mapping):
            beside |= {str(name): value for name, value in found.items() if name != inner}
            found = found[inner]
    named = {str(name): value for name, value in found.items()} if isinstance(found, Mapping) else {}
    if not any(map(_plain, named.values())):
        raise UnsupportedFormat(f"{path.name}: no tensors by name are in it")
    return named | {name: value for name, value in beside.items() if name not in named}


def _why_not(path: Path, error: Exception) -> str:
    """What the file is, where it is no pickle at all, else what the loader says."""
    with path.open("rb") as file:
        first = file.read(FIRST_BYTES)
    # Pickles and zip archives are what torch writes.
    known = "" if first.startswith((b"\x80", b"PK")) else what_is(first, path.stat().st_size)
    return known or f"the weights-only loader refuses it: {str(error)[:200]}"


def _plain(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor whose entries can be read as they stand."""
    import torch

    if not isinstance(value, torch.Tensor):
        return False
    return value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized


def _kind(value: object) -> str:
    """What a value is, in the word that stands where a tensor's type does."""
    import torch

    if not isinstance(value, torch.Tensor):
        return f"{type(value).__name__}, no tensor"
    if value.layout != torch.strided:
        return f"sparse ({value.layout})"
    if value.is_quantized:
        return f"quantised ({value.dtype})"
    if value.device.type != "cpu":
        return f"without values (device {value.device.type})"
    names = {dtype: name for name, dtype in torch_dtypes().items()}
    return names.get(value.dtype, str(value.dtype))


def _span(name: str, value: object) -> TensorSpan:
    import torch

    if not isinstance(value, torch.Tensor):
        return TensorSpan(name, _kind(value), (0,), 0, 0)
    return TensorSpan(name, _kind(value), tuple(value.shape), 0, value.numel() * value.itemsize)
