"""The protocol of an opened model (`Source`), and the small types it uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from os.path import isabs
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from uws_core.errors import LayerError
from uws_core.nouns.loader import LoaderReport
from uws_core.nouns.models import LayerKey, LeftOut, LowRank, ModelRef

if TYPE_CHECKING:
    from torch import Tensor

    from uws_core.sources.files.blob import Extent, RowReader

# A half-open range of output rows; None is all of them.
Rows = tuple[int, int] | None
# Path, size, inode, times of last change of content and of entry; size -1 for what is not there.
FileStamp = tuple[str, int, int, int, int]


def on_hub(ref: ModelRef) -> bool:
    """Whether a reference names a repository on the Hub: models on this machine have absolute paths."""
    # Called for every model of every layer; building a Path would cost ten times as much.
    return not isabs(ref.repo) and not ref.without_weights  # noqa: PTH117


def within(layer: LayerKey, rows: Rows) -> tuple[int, int]:
    """The requested rows of a layer, all of them by default.

    Raises:
        LayerError: rows outside it.
    """
    start, stop = rows or (0, layer.shape[0])
    if not 0 <= start <= stop <= layer.shape[0]:
        raise LayerError(f"{layer.name} has rows 0 to {layer.shape[0]}; {start} to {stop} were asked for")
    return start, stop


class Source(Protocol):
    """One opened model: its layers by name, each readable in part; nothing is read before `read` is called.

    A source holds no open file between calls, so ten thousand can be open at once. Usable as a context manager.
    """

    ref: ModelRef
    # "checkpoint" for whole weights, "adapter" for updates of a base.
    format: str
    # Whose names an adapter's keys are in: peft, kohya, diffusers, comfyui.
    dialects: tuple[str, ...]
    # The layers that are read as thin factors.
    low_rank: Set[str]
    # The layers that are stored as inputs x outputs, so that the sides `in` and `out` are each other's.
    transposed: Set[str]
    # Tensors that are no layers (vectors, scalars, unknown dtypes), each with the reason.
    left_out: tuple[LeftOut, ...]
    # The stamps of the files when they were opened; empty when they are too young to prove that nothing changed.
    stamps: tuple[FileStamp, ...]

    def layers(self) -> tuple[LayerKey, ...]:
        """The layers that can be compared, in the order of the file."""
        ...

    def find(self, layer: str) -> LayerKey | None:
        """The layer that a name means here, or None; a base may name its layers with other leading components."""
        ...

    def digest(self) -> str:
        """A digest of header, size and a 4 KiB sample of every tensor: the commit of a model on disk."""
        ...

    def report(self) -> LoaderReport:
        """The fate of every key of the files: which layer it became part of, or why it was left out."""
        ...

    def extents(self, layer: str, rows: Rows = None) -> list[Extent]:
        """The byte ranges that reading a layer, or some of its rows, moves.

        Raises:
            LayerError: no such layer.
        """
        ...

    def stored_bytes(self, layer: str) -> int:
        """The bytes that reading the whole layer moves."""
        ...

    def stored_type(self, layer: str) -> str:
        """What the format calls the type of the layer's numbers, such as F32; of an update that of its factor `down`.

        An update whose factors are only formed when it is read has none, and the answer is empty.
        """
        ...

    def read(self, layer: str, rows: Rows = None, *, into: Tensor | None = None) -> Tensor | LowRank:
        """Rows `(stop - start, p)` of a layer in its stored dtype, or the thin factors of an adapter's layer.

        With `into`, a contiguous tensor of that shape, a dense layer is written there, cast to its dtype, and `into` is
        returned: no second buffer.

        Raises:
            LayerError: no such layer.
            UnreadableFile: the bytes are not there.
        """
        ...

    def reader(self, layer: str) -> RowReader | None:
        """What reads rows of the layer many times, or None where `read` does more than to read one tensor.

        Raises:
            LayerError: no such layer.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *stop: object) -> None: ...


@runtime_checkable
class Whole(Protocol):
    """A source that has all of a network, so that a model can be put together again and its size counted."""

    def state(self) -> dict[str, Tensor]:
        """Every tensor by name, layers and others, in its own shape and stored dtype."""
        ...

    def put(self, state: Mapping[str, Tensor], layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state with these layers (m x p) in place of its own, each in the shape and dtype it is stored in."""
        ...

    def entries(self) -> int:
        """The count of numbers in all tensors; reads nothing but the header."""
        ...


@runtime_checkable
class Portable(Protocol):
    """A source that can say what stands beside some of its layers, so that a model can be stored in two parts."""

    @property
    def config(self) -> Mapping[str, object]:
        """The configuration beside the weights (`config.json` or `adapter_config.json`); empty without one."""
        ...

    def untouched(self, layers: Iterable[str]) -> dict[str, Tensor]:
        """Every stored tensor that is no part of these layers, by stored name, in its own shape and type.

        Raises:
            LayerError: no such layer.
        """
        ...

    def untouched_bytes(self, layers: Iterable[str]) -> int:
        """The stored bytes of `untouched`; reads nothing but the header."""
        ...

    def stored_as(self, layer: str) -> tuple[str, tuple[int, ...]]:
        """The stored name and shape of a layer; for an update its module and `(m, p)`."""
        ...

    def rank(self, layer: str) -> int:
        """The rank of a layer's update; the smaller side of a whole matrix."""
        ...
