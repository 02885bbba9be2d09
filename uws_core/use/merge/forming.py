"""Tensors of a merge formed ahead of their writer, in order: by threads of one core each, or by an executor's workers.

Workers of a cluster read the members, form one layer each and send its numbers, a share 1/n of what they read; only
the process that asked for the merge writes. What is no layer (biases, norms, copies) is formed in that process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import prod
from queue import Empty, Full, Queue
from threading import Event
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uws_core.analysis.cores import one_core_each
from uws_core.errors import ClusterError, UwsError
from uws_core.nouns.models import LayerKey
from uws_core.passes.blocks import single_layer_collection
from uws_core.passes.workers import worker_threads
from uws_core.use.merge.dense import merged_pieces, open_updates
from uws_core.use.merge.measures import Sums
from uws_core.use.merge.order import Cut, Selection
from uws_core.use.merge.plan import MergePlan

# Pieces that a thread may be ahead, some 8 MB, and how often one that waits looks whether it is still wanted.
_AHEAD, _POLL = 64, 0.2
# Layers with the workers at a time.
_MOST = 256
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class NetworkTensor:
    """One tensor of the merged network: `key` where it is a layer, `merged` False where it is copied."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    merged: bool
    key: LayerKey | None = None

    @property
    def nbytes(self) -> int:
        """Its bytes when it is written."""
        return prod(self.shape) * self.dtype.itemsize


def _nobody() -> None:
    """Nobody stops this."""


@dataclass(frozen=True, slots=True)
class Crew:
    """Who forms the tensors: an executor's workers, or without one threads here.

    `stopped` is called while the writer waits for workers, and raises Cancelled. Without `kept` only distances are
    wanted, and no numbers are sent.
    """

    executor: Executor | None = None
    stopped: Callable[[], None] = _nobody
    kept: bool = True


HERE = Crew()


@dataclass(frozen=True, slots=True)
class Formed:
    """A tensor that is formed elsewhere: `pieces` gives its numbers in row order as they come, `sums` its distances."""

    tensor: NetworkTensor
    sums: Sums
    stopped: Callable[[], None] = _nobody
    _queue: Queue[Tensor | BaseException | None] = field(default_factory=lambda: Queue(_AHEAD))

    def pieces(self) -> Iterator[Tensor]:
        """The numbers, once.

        Raises:
            UwsError: what kept the thread or the worker from going on.
            Cancelled: `stopped` raised it.
        """
        while True:
            try:
                piece = self._queue.get(timeout=_POLL)
            except Empty:
                self.stopped()
                continue
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def fill(self, pieces: Iterator[Tensor], stop: Event) -> None:
        """Puts the pieces where they are waited for, until somebody stops it; what goes wrong goes the same way."""
        try:
            for piece in pieces:
                # A copy, of the written type: the slab that a piece may lie in is read into again.
                self._put(piece.to(self.tensor.dtype, copy=True), stop)
                if stop.is_set():
                    return
            self._put(None, stop)
        except BaseException as error:
            self._put(error, stop)

    def take(self, future: Future[LayerShare]) -> None:
        """Puts what a worker formed where it is waited for."""
        try:
            share = _result(self.tensor.name, future)
        except BaseException as error:
            self._queue.put(error)
            return
        self.sums.absorb(share.sums)
        if share.numbers is not None:
            self._queue.put(torch.from_numpy(share.numbers).view(self.tensor.dtype))
        self._queue.put(None)

    def _put(self, item: Tensor | BaseException | None, stop: Event) -> None:
        while not stop.is_set():
            with suppress(Full):
                self._queue.put(item, timeout=_POLL)
                return


@dataclass(frozen=True, slots=True)
class LayerShare:
    """What a worker sends of a layer: its numbers as bytes in the written type, if wanted, and its distances' sums."""

    numbers: NDArray[np.uint8] | None
    sums: Sums


def formed(
    plan: MergePlan,
    tensors: Sequence[NetworkTensor],
    form: Callable[[NetworkTensor, Sums], Iterator[Tensor]],
    cuts: Sequence[Cut] | None,
    crew: Crew,
) -> Iterator[Formed]:
    """These tensors in order, each with its pieces, the next ones being formed meanwhile.

    `form` makes the pieces of a tensor and adds what is merged to the sums. In threads one a core, since whole
    operations on all cores wait for each other; a thread that is far ahead waits.
    What workers have sent and what they are at takes at most the plan's budget here, or one tensor.
    """
    pool, cores = worker_threads()
    stop = Event()
    here: list[Future[None]] = []
    there: list[Future[LayerShare]] = []
    waiting: deque[Formed] = deque()
    rest = deque(tensors)

    def room(one: NetworkTensor) -> bool:
        if crew.executor is None:
            return len(waiting) < cores
        held = sum(each.tensor.nbytes for each in waiting) if crew.kept else 0
        return not waiting or (held + one.nbytes * crew.kept <= plan.budget and len(waiting) < _MOST)

    def begin(one: NetworkTensor) -> None:
        ahead = Formed(one, Sums(len(plan.members), max(prod(one.shape), 1)), crew.stopped)
        waiting.append(ahead)
        if crew.executor is None or one.key is None:
            here.append(pool.submit(ahead.fill, form(one, ahead.sums), stop))
            return
        kind = one.dtype if crew.kept else None
        sent = crew.executor.submit(layer_share, one_layer(plan, one.key), kind, cuts)
        there.append(sent)
        sent.add_done_callback(ahead.take)

    try:
        with one_core_each():
            while rest or waiting:
                while rest and room(rest[0]):
                    begin(rest.popleft())
                yield waiting[0]
                waiting.popleft()
    finally:
        stop.set()
        for sent in there:
            sent.cancel()
        wait(here)


def layer_share(plan: MergePlan, dtype: torch.dtype | None, cuts: Sequence[Cut] | None) -> LayerShare:
    """Returns the merge of the one layer of a plan, in this type (None: no numbers); what a worker does."""
    (key,) = plan.layers
    sums = Sums(len(plan.members), key.entries)
    numbers = torch.empty(0 if dtype is None else key.entries, dtype=dtype or torch.float32)
    filled = 0
    with one_core_each(), open_updates(plan.collection, plan.members, key, budget=plan.budget) as updates:
        for piece in merged_pieces(plan.recipe, updates, plan.labels, cuts=cuts, sums=sums):
            if dtype is not None:
                numbers[filled : filled + piece.numel()] = piece.reshape(-1)
                filled += piece.numel()
    return LayerShare(None if dtype is None else numbers.view(torch.uint8).numpy(), sums)


def trimmed_over(
    plan: MergePlan, tensors: Sequence[NetworkTensor], slabs: Callable[[NetworkTensor], Iterable[Tensor]], crew: Crew
) -> tuple[Cut, ...]:
    """Where each member's entries are trimmed over all these tensors together; all are read twice."""
    entries = sum(prod(one.shape) for one in tensors)
    dropped = [[entries - int(plan.recipe.density * entries)]] * len(plan.members)
    # Workers look at layers; without them everything is looked at here.
    there = [one.key for one in tensors if crew.executor is not None and one.key is not None]
    here = [one for one in tensors if crew.executor is None or one.key is None]
    selection = Selection(dropped)
    for look in (Selection.count, Selection.collect):
        if look is Selection.collect:
            selection.locate()
        items = [(one_layer(plan, key), selection.blank(), look is Selection.collect) for key in there]
        for part in in_order(crew, _looked_at, items):
            selection.absorb(part)
        for one in here:
            for values in slabs(one):
                look(selection, values.float())
    return tuple(cuts[0] for cuts in selection.cuts())


def _looked_at(plan: MergePlan, selection: Selection, again: bool) -> Selection:
    """The selection with the entries of one layer counted, or in the second pass collected; what a worker does."""
    (key,) = plan.layers
    with one_core_each(), open_updates(plan.collection, plan.members, key, budget=plan.budget) as updates:
        for values in updates.slabs():
            (selection.collect if again else selection.count)(values.float())
    return selection


def in_order(
    crew: Crew, work: Callable[..., _Found], items: Sequence[tuple[MergePlan, *tuple[object, ...]]]
) -> Iterator[_Found]:
    """`work` of each item, whose first argument is a plan of one layer, by the workers; results in order.

    Raises:
        ClusterError: a worker was lost.
        Cancelled: `stopped` raised it.
    """
    assert crew.executor is not None or not items
    rest, running = deque(items), deque[tuple[str, Future[_Found]]]()
    try:
        while rest or running:
            while rest and len(running) < _MOST and crew.executor is not None:
                item = rest.popleft()
                running.append((item[0].layers[0].name, crew.executor.submit(work, *item)))
            name, future = running[0]
            while not wait([future], timeout=_POLL).done:
                crew.stopped()
            running.popleft()
            yield _result(name, future)
    finally:
        for _, future in running:
            future.cancel()


def one_layer(plan: MergePlan, key: LayerKey) -> MergePlan:
    """The part of a plan that one work item needs."""
    return replace(plan, collection=single_layer_collection(plan.collection, key), layers=(key,))


def _result(name: str, future: Future[_Found]) -> _Found:
    try:
        return future.result()
    except UwsError:
        raise
    # Any exception of a worker or of the transport: a killed worker is an error of Dask's own.
    except Exception as error:
        cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ClusterError(
            f"{name}: the worker that had it failed or was lost ({cause}). What is written so far is kept; write the "
            "same merge again when the workers are back, or without them"
        ) from error
