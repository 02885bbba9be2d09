"""One training: AdamW with a warm-up, a curve, and a state to go on from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from uws_core.errors import TrainingError
from uws_core.use.adapt.log import TrainingLog
from uws_core.use.adapt.options import Loss, Report

# Share of the steps in which the rate rises, and points of a curve.
WARM_UP = 0.15
_POINTS = 40


@dataclass(frozen=True)
class Training:
    """What one training is: its name in the log, seed, largest rate, steps, and how often its state is kept."""

    name: str
    seed: int
    rate: float
    steps: int
    keep_every: int

    def rate_at(self, step: int) -> float:
        """The rate of a step: up in a straight line, then down along a cosine."""
        rise = max(round(WARM_UP * self.steps), 1)
        if step < rise:
            return self.rate * (step + 1) / rise
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(self.steps - rise, 1)))


@dataclass(frozen=True)
class Ended:
    """How a training ended: seconds of this process, the steps it went on from, and whether its loss is no number."""

    seconds: float
    resumed_at: tuple[int, ...]
    diverged: bool


def train(
    model: nn.Module,
    trained: Mapping[str, nn.Parameter],
    training: Training,
    *,
    loss: Loss,
    batch: Callable[[int, int], Any],
    log: TrainingLog | None,
    report: Report,
) -> Ended:
    """Trains the given parameters of a model in place, from the kept state of this training if the log has one.

    Without weight decay, so that a coefficient is pulled nowhere. Dropout draws alike for every row and after a
    restart, and running statistics of norms stay as they are. `report` is called at every step and may raise, which
    keeps the state first.

    Raises:
        TrainingError: the loss is no number before anything was trained.
        Cancelled: from `report`.
    """
    # Fused: of a step of the built-in networks a third is the optimiser's own loop otherwise.
    optimiser = torch.optim.AdamW(trained.values(), lr=training.rate, weight_decay=0.0, fused=True)
    step, resumed = _resumed(log, training, trained, optimiser)
    model.train()
    for module in model.modules():
        # Every row would train running statistics on for the next, and no adapter has them.
        if isinstance(getattr(module, "running_mean", None), Tensor):
            module.eval()
    # Sums stay on the device; only at the points of the curve are they read.
    began, total, since = time.monotonic(), torch.zeros((), dtype=torch.float64), 0
    every = max(training.steps // _POINTS, 1)
    graphics = {parameter.device for parameter in trained.values() if parameter.is_cuda}
    try:
        with torch.random.fork_rng([device.index for device in graphics]):
            while step < training.steps:
                report(step / training.steps, f"{training.name}, step {step}")
                for group in optimiser.param_groups:
                    group["lr"] = training.rate_at(step)
                optimiser.zero_grad(set_to_none=True)
                torch.manual_seed(training.seed * 1_000_003 + step)
                value = loss(model, batch(training.seed, step))
                if step == 0:
                    checked_loss(value)
                torch.autograd.backward(value)
                optimiser.step()
                total, since, step = total.to(value.device) + value.detach().double(), since + 1, step + 1
                if since == every or step == training.steps:
                    mean = float(total) / since
                    if not math.isfinite(mean):
                        return Ended(time.monotonic() - began, resumed, diverged=True)
                    if log is not None:
                        log.curve(training.name, step, mean)
                    total, since = torch.zeros((), dtype=torch.float64), 0
                if log is not None and step % training.keep_every == 0 and step < training.steps:
                    _keep(log, training, trained, optimiser, step, resumed)
    except BaseException:
        if log is not None and step:
            _keep(log, training, trained, optimiser, step, resumed)
        raise
    finite = all(bool(torch.isfinite(parameter).all()) for parameter in trained.values())
    return Ended(time.monotonic() - began, resumed, diverged=not finite)


def checked_loss(value: Tensor) -> Tensor:
    """The same loss, if it can be trained with.

    Raises:
        TrainingError: several numbers, NaN or infinite, or no gradient.
    """
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise TrainingError(f"loss(model, batch) gave {found}; expected one number, such as the mean over the batch")
    if not bool(torch.isfinite(value.detach())):
        raise TrainingError(
            f"The loss is {float(value.detach())} before anything was trained: the data, the model or the loss have "
            "NaN or infinite numbers. Look at the first batch and at loss(model, batch)"
        )
    if not value.requires_grad:
        raise TrainingError(
            "loss(model, batch) does not depend on the trained layers; it must run the model it is given, with "
            "gradients"
        )
    return value


def _keep(
    log: TrainingLog,
    training: Training,
    trained: Mapping[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    step: int,
    resumed: tuple[int, ...],
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in trained.items():
        tensors[f"{name}|value"] = parameter.detach().cpu()
        state = optimiser.state.get(parameter, {})
        tensors |= {f"{name}|{part}": state[part].cpu() for part in ("exp_avg", "exp_avg_sq") if part in state}
    log.keep(tensors, {"run": training.name, "step": step, "steps": training.steps, "resumed_at": resumed})


def _resumed(
    log: TrainingLog | None,
    training: Training,
    trained: Mapping[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
) -> tuple[int, tuple[int, ...]]:
    """The step to go on from, with parameters and moments as they were then."""
    kept = log.kept(training.name) if log is not None else None
    if kept is None or kept[1].get("steps") != training.steps:
        return 0, ()
    tensors, state = kept
    if any(f"{name}|exp_avg" not in tensors for name in trained):
        return 0, ()
    step = int(state["step"])
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(tensors[f"{name}|value"])
            optimiser.state[parameter] = {
                # The fused optimiser counts on the parameter's own device.
                "step": torch.tensor(float(step), device=parameter.device),
                "exp_avg": tensors[f"{name}|exp_avg"].to(parameter.device),
                "exp_avg_sq": tensors[f"{name}|exp_avg_sq"].to(parameter.device),
            }
    return step, (*(int(before) for before in state["resumed_at"]), step)
