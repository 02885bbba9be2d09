"""The built-in tasks as a model, data and a score: what `adapt` needs, for collections whose networks are here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from uws_core.analysis.cores import one_core_each
from uws_core.errors import CollectionError
from uws_core.nouns.adapting import DEFAULT_ROWS, Comparison, GradientShare, Row
from uws_core.nouns.models import Collection
from uws_core.use.adapt.bases import Basis, from_collection
from uws_core.use.adapt.comparison import adapt
from uws_core.use.adapt.gradient import captured_gradient
from uws_core.use.adapt.options import AdaptData, AdaptOptions, Report
from uws_core.zoo import demo, vit
from uws_core.zoo.recipes import ADAPTER, BATCH
from uws_core.zoo.tasks import TASKS, Split, Task, digits, seeded

# Of the 1347 training pictures so many choose the rate; the 450 test pictures are never trained on or chosen with.
VALIDATION = 270
# The same number of steps as the built-in adapters had.
STEPS = ADAPTER.epochs * (1347 // BATCH)
KEPT = 6
HEAD = ("head",)
# Tasks whose inputs change: on these the head alone does not do.
USUAL_TASKS = ("rotated", "inverted", "shuffled")
# A prepared batch: the task's picture of a split, and the split itself.
Prepared = tuple[Tensor, Split]


class TinyTransformer(nn.Module):
    """The built-in network as a module, with linear layers under the names of its weights; see `zoo.vit`."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed()
        self.pos_embed = nn.Parameter(torch.zeros(vit.TOKENS, vit.WIDTH))
        self.blocks = nn.ModuleList(_Block() for _ in range(vit.DEPTH))
        self.norm = nn.LayerNorm(vit.WIDTH)
        self.head = nn.Linear(vit.WIDTH, weights["head.weight"].shape[0])
        self.load_state_dict(dict(weights))

    def forward(self, images: Tensor, *, per_token: bool = False) -> Tensor:
        """The head's outputs for images (b, 8, 8): (b, outputs), or (b, 16, outputs) when every token is read."""
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        answers: Tensor = self.head(tokens if per_token else tokens.mean(1))
        return answers


class _PatchEmbed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, vit.WIDTH, vit.PATCH, stride=vit.PATCH)

    def forward(self, images: Tensor) -> Tensor:
        embedded: Tensor = self.proj(images[:, None])
        return embedded


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(vit.WIDTH, vit.WIDTH) for _ in "qkvo")

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = (
            part(tokens).view(*tokens.shape[:2], vit.HEADS, -1).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return out


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(vit.WIDTH, vit.HIDDEN), nn.Linear(vit.HIDDEN, vit.WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.down(functional.gelu(self.up(tokens)))
        return out


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(vit.WIDTH), nn.LayerNorm(vit.WIDTH)
        self.attn, self.mlp = _Attention(), _Mlp()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


def tasks_of(collection: Collection) -> tuple[str, ...]:
    """The built-in tasks that can be trained on this collection: those of its models, where its base is here."""
    base = collection.base
    if base is None or Path(base.repo).name != "base.safetensors" or not _same_base(Path(base.repo)):
        return ()
    present = set(map(str, collection.table.get("task", ())))
    return tuple(name for name in TASKS if name in present)


def group_of(collection: Collection, task: str) -> tuple[str, ...]:
    """The models of the task's own group, which its basis must not see."""
    column = collection.table.get("task", ())
    return tuple(label for label, value in zip(collection.labels, column, strict=True) if value == task)


def basis_for(collection: Collection, task: str, *, kept: int = KEPT, report: Report | None = None) -> Basis:
    """The basis of the block matrices of all models but those of the task's own group.

    Raises:
        CollectionError: the collection has no such task, or its networks are not here.
    """
    known = tasks_of(collection)
    if task not in known:
        raise CollectionError(
            f"{collection.name} has no task {task!r} that can be trained here"
            + (
                f"; it has {', '.join(known)}"
                if known
                else "; demo:lora and demo:finetuned have tasks. For your own models call uws.adapt(model, basis, ...) "
                "in Python, or give a folder with a training log"
            )
        )
    return _fitted(_Wanted(collection.fingerprint, task, kept, collection, report))


@dataclass(frozen=True)
class _Wanted:
    """A basis by what it depends on; the collection comes along to read it."""

    fingerprint: str
    task: str
    kept: int
    collection: Collection = field(compare=False)
    report: Report | None = field(compare=False)


# A page takes a gradient and then trains in the same basis, whose fit is seconds of small products.
@lru_cache(maxsize=4)
def _fitted(wanted: _Wanted) -> Basis:
    collection = wanted.collection
    layers = [name for name in vit.block_matrices() if name in collection.by_name]
    held_out = group_of(collection, wanted.task)
    with _one_thread():
        return from_collection(collection, kept=wanted.kept, held_out=held_out, layers=layers, report=wanted.report)


def compare(
    collection: Collection,
    task: str,
    *,
    kept: int = KEPT,
    rows: Sequence[Row | str] = DEFAULT_ROWS,
    options: AdaptOptions | None = None,
    report: Report | None = None,
) -> Comparison:
    """Returns the fair comparison on a built-in task; `options` default to the steps of the built-in adapters.

    Raises:
        CollectionError: no such task.
        UwsError: see `adapt`.
    """
    options = options or AdaptOptions(steps=STEPS)
    # The basis is a second's work of a comparison of minutes: its progress is a message.
    fitting = None if report is None else (lambda _, message: report(0.0, message))
    basis = basis_for(collection, task, kept=kept, report=fitting)
    full = replace(
        options,
        head=HEAD,
        score=lambda model, batches: score(TASKS[task], model, batches),
        metric=TASKS[task].metric,
        task=task,
        held_out=group_of(collection, task),
    )
    with _one_thread():
        return adapt(
            lambda seed: network(task, seed),
            basis,
            loss=lambda model, batch: loss(TASKS[task], model, batch),
            data=task_data(task),
            rows=rows,
            options=full,
            report=report,
        )


def captured(
    collection: Collection, task: str, *, kept: int = KEPT, seed: int = 0, basis: Basis | None = None
) -> tuple[GradientShare, ...]:
    """Returns the captured gradient of one batch of a built-in task, with a fresh head and nothing trained.

    Raises:
        CollectionError: no such task.
    """
    with _one_thread():
        return captured_gradient(
            network(task, seed),
            basis or basis_for(collection, task, kept=kept),
            loss=lambda model, batch: loss(TASKS[task], model, batch),
            batch=_train_batch(TASKS[task], seed, 0),
        )


def network(task: str, seed: int) -> TinyTransformer:
    """The base with the fresh head of a seed."""
    head = vit.fresh_head(seeded(f"adapt head {task} {seed}"), outputs=TASKS[task].outputs)
    return TinyTransformer(_base_weights() | head)


def task_data(task: str) -> AdaptData:
    """The data of a built-in task: noise and masks are drawn anew at each step, and always alike for scores."""
    chosen, (train, test) = TASKS[task], digits()
    held = Split(train.images[-VALIDATION:], train.digits[-VALIDATION:])
    return AdaptData(
        train=lambda seed, step: _train_batch(chosen, seed, step),
        validation=[(chosen.picture(held.images, seeded(f"validation {task}")), held)],
        test=[(chosen.picture(test.images, seeded(f"score {task}")), test)],
    )


def loss(task: Task, model: nn.Module, batch: Prepared) -> Tensor:
    """The task's loss of a batch."""
    inputs, split = batch
    return task.loss_of(model(inputs, per_token=task.reconstructs), inputs, split)


def score(task: Task, model: nn.Module, batches: Sequence[Prepared]) -> float:
    """The task's mean score over batches."""
    scores: list[float] = [
        task.score_of(model(inputs, per_token=task.reconstructs), inputs, split) for inputs, split in batches
    ]
    return sum(scores) / len(scores)


def _train_batch(task: Task, seed: int, step: int) -> Prepared:
    train = digits()[0]
    size = len(train.digits) - VALIDATION
    epoch, position = divmod(step, size // BATCH)
    chosen = _order(seed, epoch)[position * BATCH : (position + 1) * BATCH]
    split = Split(train.images[chosen], train.digits[chosen])
    return task.picture(split.images, torch.Generator().manual_seed(seed * 1_000_003 + step)), split


@cache
def _order(seed: int, epoch: int) -> Tensor:
    size = len(digits()[0].digits) - VALIDATION
    return torch.randperm(size, generator=seeded(f"adapt order {seed} {epoch}"))


@cache
def _same_base(path: Path) -> bool:
    own = demo.DATA / "base.safetensors"
    try:
        return path.samefile(own) or path.read_bytes() == own.read_bytes()
    except OSError:
        return False


@cache
def _base_weights() -> dict[str, Tensor]:
    stored: dict[str, Tensor] = load_file(demo.DATA / "base.safetensors")
    return {name: value for name, value in stored.items() if not name.startswith("head.")}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Products of these networks are so small that two threads take six times as long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_core_each():
            yield
    finally:
        torch.set_num_threads(before)
