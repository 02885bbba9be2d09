"""The start of every pass: its layer, the opened models, a device and a number type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import torch

from uws_core.errors import UwsError
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.passes.options import Report, no_report
from uws_core.sources.base import Rows, Source, on_hub
from uws_core.sources.hub.prefetch import prefetch_layers
from uws_core.sources.opening import open_source
from uws_core.sources.source_cache import is_unchanged

# Opening a model that this process has not opened before waits for its headers.
_OPENERS = 8

_TYPES = {"single": torch.float32, "double": torch.float64}


@contextmanager
def open_models(
    refs: Sequence[ModelRef], layer: LayerKey | None = None, *, rows: Rows = None, report: Report = no_report
) -> Iterator[list[Source]]:
    """Every model, opened; a source holds no open file, so there may be ten thousand.

    With `layer`, its bytes on the Hub are fetched in parallel before it is read in order. At the end each model's files
    are checked: a model whose files changed during the read is an error. The check costs one `stat` a file, and a new
    digest only where the file changed or had just been written.

    Raises:
        SourceError: a model cannot be opened, or changed since its commit was taken or while it was read.
    """
    with ExitStack() as stack:
        sources = [stack.enter_context(source) for source in open_sources(refs)]
        if layer is not None:
            prefetch_layers(sources, [layer], rows=rows, report=report)
        yield sources
        for source in sources:
            if not is_unchanged(source):
                open_source(source.ref)


def open_sources(refs: Sequence[ModelRef]) -> list[Source]:
    """The models in order, opened several at once where that may wait for a network."""
    if not any(on_hub(ref) for ref in refs):
        return [open_source(ref) for ref in refs]
    with ThreadPoolExecutor(_OPENERS, thread_name_prefix="uws-open") as pool:
        return list(pool.map(open_source, refs))


def is_low_rank(collection: Collection, layer: LayerKey) -> bool:
    """Whether the models hold the layer as factors of an update, so that their base is the update zero."""
    return layer.name in open_source(collection.refs[0]).low_rank


def product_dtype(precision: str, sources: Sequence[Source], layer: LayerKey) -> torch.dtype:
    """The type products are formed in: `single`, `double`, or for `auto` double only where weights are stored so.

    Single precision with float64 sums over slabs keeps eigenvalues to 1e-6 of the largest, because the mean is
    subtracted first; bfloat16 and float16 weights are exact in float32.
    """
    if precision == "auto":
        return torch.float64 if any(source.stored_type(layer.name) == "F64" for source in sources) else torch.float32
    if precision not in _TYPES:
        raise UwsError(f"precision is auto, single or double; found {precision!r}")
    return _TYPES[precision]


def torch_device(device: str) -> torch.device:
    """The device that `device` names; `auto` is CUDA where there is one.

    Raises:
        UwsError: no such kind of device, or CUDA was asked for and is not there, or not so many of it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (":" in device and not (kind == "cuda" and number.isdecimal())):
        raise UwsError(f"A device is auto, cpu, cuda or cuda:1; found {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UwsError(f"{device!r} was asked for, this machine or this build of torch has no CUDA; use auto or cpu")
    if number and int(number) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise UwsError(f"{device!r} was asked for, the last CUDA device of this machine is cuda:{last}")
    return torch.device(device)


@contextmanager
def full_single_precision() -> Iterator[None]:
    """Float32 products in float32: no TF32, whose 10 mantissa bits would lose a difference of 1e-4 between models."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
