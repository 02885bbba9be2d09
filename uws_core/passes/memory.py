"""The memory of the device: the size of a chunk, copies of slabs to a GPU, and the way out where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

import torch
from torch import Tensor

from uws_core.nouns.cost import bytes_text
from uws_core.passes.options import Report
from uws_core.sources.files.row_slabs import Slab

# Columns are worked on in chunks that stay in the processor's cache over the half dozen sweeps each chunk gets;
# on a GPU a chunk only has to be large enough to keep it busy, and two more of its size are needed beside it.
_ON_CPU = 4 * 2**20
_MOST_ON_GPU, _LEAST_ON_GPU = 512 * 2**20, 16 * 2**20
_SHARE = 8
# A layer is read anew with half the chunk that often, before it is computed on the processor.
_HALVINGS = 3
_T = TypeVar("_T")


def chunk_bytes(device: torch.device) -> int:
    """The bytes of one chunk of columns: what the cache of the processor holds, or an eighth of a GPU's free memory."""
    if device.type == "cpu":
        return _ON_CPU
    free, _ = torch.cuda.mem_get_info(device)
    return max(_LEAST_ON_GPU, min(free // _SHARE, _MOST_ON_GPU))


def where_it_fits(
    work: Callable[[torch.device, int], _T], device: torch.device, *, report: Report, what: str
) -> tuple[_T, torch.device]:
    """What `work(device, chunk)` returns, and the device; with smaller chunks, then on the CPU, where memory is short.

    `report` is called at each step, because the pass takes longer then.
    """
    if device.type != "cpu":
        chunk = chunk_bytes(device)
        for _ in range(_HALVINGS):
            try:
                return work(device, chunk), device
            except torch.OutOfMemoryError:
                chunk //= 2
            # Outside of the handler, whose traceback holds on to the tensors.
            torch.cuda.empty_cache()
            report(0.0, f"{what}: the memory of {device} is short, once more in chunks of {bytes_text(chunk)}")
        report(0.0, f"{what}: the memory of {device} does not suffice, computed on the processor")
    here = torch.device("cpu")
    return work(here, chunk_bytes(here)), here


def on_device_or_cpu(work: Callable[[torch.device], _T], device: torch.device, *, report: Report, what: str) -> _T:
    """What `work(device)` returns, computed on the CPU where the device's memory is short; `report` is called then."""
    if device.type != "cpu":
        with suppress(torch.OutOfMemoryError):
            return work(device)
        torch.cuda.empty_cache()
        report(0.0, f"{what}: the memory of {device} does not suffice, computed on the processor")
    return work(torch.device("cpu"))


def on_device(slabs: Iterable[Slab], device: torch.device) -> Iterator[tuple[Slab, Tensor]]:
    """Each slab with its values (n, rows, p) on the device, which may be overwritten until the next is asked for.

    On a GPU the copies have a stream of their own and two buffers there: one slab is copied while the products of the
    one before run. The host waits for the copy, whose buffer is read into again, and never for the products.
    """
    if device.type == "cpu":
        yield from ((slab, slab.values) for slab in slabs)
        return
    products, copies = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    free, buffers = [torch.cuda.Event() for _ in range(2)], list[Tensor]()  # type: ignore[no-untyped-call]
    for index, slab in enumerate(slabs):
        parity, count = index % 2, slab.values.numel()
        if len(buffers) < 2:
            buffers.append(torch.empty(count, dtype=slab.values.dtype, device=device))
            copies.wait_stream(products)
        target = buffers[parity][:count].view(slab.values.shape)
        copies.wait_event(free[parity])
        with torch.cuda.stream(copies):
            target.copy_(slab.values, non_blocking=True)
        copied = copies.record_event()
        products.wait_event(copied)
        yield slab, target
        free[parity].record(products)
        copied.synchronize()
