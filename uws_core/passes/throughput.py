"""A micro-measurement of this machine: what the cost estimate needs, in a fraction of a second."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from uws_core.analysis.cores import one_core_each
from uws_core.nouns.cost import BUDGET, Throughput
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.passes.block_layout import BlockLayout
from uws_core.passes.gram import gram_of_sources
from uws_core.passes.moments import Moments
from uws_core.passes.open_models import open_models
from uws_core.passes.options import ComputeOptions
from uws_core.passes.workers import on_every_core
from uws_core.sources.opening import resolved

# So many weights, once as many models and once as few.
_WEIGHTS, _MANY, _FEW = 2**22, 512, 32
_PIECE = 512 * 2**10
# So many small models are opened to see how long one takes.
_FILES = 64
_SMALL = tuple(LayerKey(f"blocks.{i}.weight", (8, 8)) for i in range(4))


@cache
def measured_throughput() -> Throughput:
    """This machine's throughput, measured once a process; that of a modest machine where it cannot be measured."""
    try:
        return _measured()
    except (OSError, RuntimeError):
        # There is no room for a file of 16 MiB, or the process is ending and starts no thread any more.
        return Throughput()


def _measured() -> Throughput:
    """The throughput on 16 MiB a core, all at once as in a pass: reading, products, sums.

    The files have just been written: reading is that of the page cache, a cold disk or a network is slower, and each
    small file is opened twice, as files are that this process has not met before.
    """
    values = torch.randn(_WEIGHTS, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        path.write_bytes(values.numpy().tobytes())

        def read_file() -> None:
            piece = memoryview(bytearray(_PIECE))
            with path.open("rb", buffering=0) as file:
                while file.readinto(piece):
                    pass

        cores, read = _seconds_together(read_file)
        opening, finding = _opening(Path(folder))
    _, many = _seconds_together(lambda: _sums(values.view(_MANY, -1, 1024)))
    _, few = _seconds_together(lambda: _sums(values.view(_FEW, -1, 1024)))
    # What differs is the products; noise must not make anything free.
    a_step = max(many - few, many / 10) / ((_MANY - _FEW) * _WEIGHTS)
    an_entry = max(few / _WEIGHTS - _FEW * a_step, few / _WEIGHTS / 10)
    return Throughput(
        bytes_per_second=cores * values.nbytes / read,
        steps_per_second=cores / a_step,
        entries_per_second=cores / an_entry,
        seconds_per_open=opening,
        seconds_per_read=finding,
        cores=cores,
        measured=True,
    )


def _opening(folder: Path) -> tuple[float, float]:
    """The seconds to open one model and check that its file is unchanged, and for one small tensor of it in a pass."""
    paths = [folder / f"m{number}.safetensors" for number in range(_FILES)]
    for path in paths:
        save_file({key.name: torch.randn(key.shape) for key in _SMALL}, path)
    refs = tuple(resolved(ModelRef(str(path), ""))[0] for path in paths)

    def opening() -> None:
        with open_models(refs):
            pass

    labels = tuple(map(str, range(_FILES)))
    collection = Collection(name="small", refs=refs, labels=labels, layers=_SMALL, table={}, fingerprint="")
    options = ComputeOptions(device="cpu", budget=BUDGET)

    def finding() -> None:
        for key in _SMALL:
            gram_of_sources(collection, key, sources, options)

    with open_models(refs) as sources, one_core_each():
        reading = _seconds(finding)
    return _seconds(opening) / _FILES, reading / (_FILES * len(_SMALL))


def _sums(values: torch.Tensor) -> None:
    rows = values.shape[0]
    whole = np.ones(rows, dtype=np.bool_)
    layout = BlockLayout.of((values.shape[1], values.shape[2]), rows)
    Moments(layout, models=rows, finite=whole, kind=torch.float32, device=torch.device("cpu")).add(values)


def _seconds_together(work: Callable[[], None]) -> tuple[int, float]:
    """The number of cores, and the seconds that each takes when all work at once."""
    cores = list[int]()
    seconds = _seconds(lambda: cores.append(on_every_core(work)))
    return cores[0], seconds


def _seconds(work: Callable[[], object]) -> float:
    """The best of five: what else runs on a machine only ever adds."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best
