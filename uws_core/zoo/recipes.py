"""Training of one network of the zoo: the recipe of each collection, and the start of each model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from uws_core.zoo import lora, vit
from uws_core.zoo.tasks import TASKS, Split, Task, digits, seeded

SEEDS = range(4)
BATCH = 64
WARM_UP = 0.15
WEIGHT_DECAY = 0.05

Loss = Callable[[vit.Weights, Split], Tensor]


@dataclass(frozen=True)
class Recipe:
    """Passes over the training pictures, and the largest step size of the one-cycle schedule."""

    epochs: int
    rate: float


BASE = Recipe(epochs=80, rate=5e-3)
SCRATCH = Recipe(epochs=30, rate=5e-3)
FINETUNED = Recipe(epochs=20, rate=3e-3)
ADAPTER = Recipe(epochs=16, rate=1e-2)


@dataclass(frozen=True)
class Job:
    """One model to make: which collection, task and seed."""

    collection: str
    task: str
    seed: int

    @property
    def name(self) -> str:
        """The model's name in the collection."""
        return f"{self.task}-{self.seed}"

    @property
    def starts_from_base(self) -> bool:
        """True where the model needs the base."""
        return self.collection in ("finetuned", "lora")

    @property
    def initialisation(self) -> str:
        """An id of the random numbers training started from; equal ids are equal numbers.

        Of the four adapters of a task, the even seeds start from the A factors that twenty adapters share.
        """
        if self.collection == "finetuned":
            return "base"
        if self.collection == "lora":
            return "A-shared" if self.seed % 2 == 0 else f"A-{self.name}"
        return f"random-{self.name}"

    @property
    def stream(self) -> str:
        """The name of this model's random numbers: its head, its order of pictures, its noise and masks."""
        return f"{self.collection} {self.name}"


def make(job: Job, base: vit.Weights | None = None) -> vit.Weights:
    """The weights of one model: a whole network, or an adapter's factors and head.

    Raises:
        ValueError: the job starts from the base, and none was given.
    """
    task = TASKS[job.task]
    if not job.starts_from_base:
        start = vit.initialise(seeded(job.initialisation), outputs=task.outputs)
        return start if job.collection == "untrained" else fit(start, _plain_loss(job), SCRATCH, seed=job.stream)
    if base is None:
        raise ValueError(f"{job.stream} starts from the base, and none was given")
    head = vit.fresh_head(seeded(f"head {job.stream}"), outputs=task.outputs)
    if job.collection == "finetuned":
        return fit(base | head, _plain_loss(job), FINETUNED, seed=job.stream)
    start = lora.with_head(lora.initial_down(seeded(job.initialisation)) | lora.initial_up(), head)
    whole = _plain_loss(job)
    return fit(start, lambda adapter, split: whole(lora.merge(base, adapter), split), ADAPTER, seed=job.stream)


def make_base() -> vit.Weights:
    """The base: trained at once to name the digit and to rebuild hidden patches; it keeps the naming head."""
    naming, rebuilding = TASKS["ten-way"], TASKS["reconstruction"]
    generator = seeded("base")
    start = vit.initialise(generator, outputs=naming.outputs)
    second = vit.fresh_head(generator, outputs=rebuilding.outputs)
    start |= {f"rebuilding.{name}": tensor for name, tensor in second.items()}

    def loss(weights: vit.Weights, split: Split) -> Tensor:
        other = weights | {name: weights[f"rebuilding.{name}"] for name in second}
        return naming.loss(weights, split, generator) + rebuilding.loss(other, split, generator)

    trained = fit(start, loss, BASE, seed="base")
    return {name: tensor for name, tensor in trained.items() if not name.startswith("rebuilding.")}


def fit(start: vit.Weights, loss: Loss, recipe: Recipe, *, seed: str) -> vit.Weights:
    """`start` trained by AdamW on the training pictures, in an order that follows from `seed`."""
    weights = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    train, order = digits()[0], seeded(f"order {seed}")
    batches = len(train.digits) // BATCH
    optimiser = torch.optim.AdamW(weights.values(), lr=recipe.rate, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=recipe.epochs * batches, pct_start=WARM_UP
    )
    for _ in range(recipe.epochs):
        for chosen in torch.randperm(len(train.digits), generator=order)[: batches * BATCH].view(batches, BATCH):
            optimiser.zero_grad()
            torch.autograd.backward(loss(weights, Split(train.images[chosen], train.digits[chosen])))
            optimiser.step()
            schedule.step()
    return {name: tensor.detach() for name, tensor in weights.items()}


def _plain_loss(job: Job) -> Loss:
    task: Task = TASKS[job.task]
    noise = seeded(f"noise {job.stream}")
    return lambda weights, split: task.loss(weights, split, noise)
