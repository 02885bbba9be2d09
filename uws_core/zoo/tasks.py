"""Ten tasks that differ in kind, on 1797 handwritten digits of 8 x 8 pixels.

The digits are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI Machine
Learning Repository, CC BY 4.0); `data/digits.txt` holds the attribution.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from uws_core.zoo import vit

DATA = Path(__file__).parent / "data"
# Grey levels of the digits run from 0 to 16.
WHITE = 16
# Pictures 0..1346 of a fixed shuffle train, the other 450 test.
TRAINING = 1347
# Standard deviation of the pixel noise of the noisy task, where white is 1.
NOISE = 0.3
# The share of patches hidden in reconstruction, and the value, impossible for a pixel, that hides them.
HIDDEN_SHARE = 0.5
HIDDEN_PIXEL = -1.0

Picture = Callable[[Tensor, torch.Generator], Tensor]
Label = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Split:
    """Pictures (b, 8, 8) float32 in 0..1 and their digits (b,) int64."""

    images: Tensor
    digits: Tensor


@dataclass(frozen=True)
class Task:
    """A task: a transformation of the pictures, the expected answer, and the score.

    `kind` is what varies: `labels`, `inputs`, or `reconstruction` (then `label` is not used).
    """

    name: str
    kind: str
    outputs: int
    picture: Picture
    label: Label

    @property
    def reconstructs(self) -> bool:
        """True where the network predicts the pixels of hidden patches instead of a class."""
        return self.kind == "reconstruction"

    @property
    def metric(self) -> str:
        """The name of the score on unseen pictures; 1 is perfect for both."""
        return "R2" if self.reconstructs else "accuracy"

    def loss(self, weights: vit.Weights, split: Split, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the class, or mean squared error over the hidden pixels; one number."""
        inputs = self.picture(split.images, generator)
        return self.loss_of(vit.forward(weights, inputs, per_token=self.reconstructs), inputs, split)

    def loss_of(self, answers: Tensor, inputs: Tensor, split: Split) -> Tensor:
        """The loss of a network's answers to `inputs`, which are the task's picture of `split`."""
        if self.reconstructs:
            hidden, wanted = _hidden_pixels(inputs, split.images)
            return functional.mse_loss(answers[hidden], wanted)
        return functional.cross_entropy(answers, self.label(split.digits))

    @torch.no_grad()
    def score(self, weights: vit.Weights, split: Split) -> float:
        """Share of right answers, or 1 - error / variance over hidden pixels; noise and masks are always the same."""
        inputs = self.picture(split.images, seeded(f"score {self.name}"))
        return self.score_of(vit.forward(weights, inputs, per_token=self.reconstructs), inputs, split)

    def score_of(self, answers: Tensor, inputs: Tensor, split: Split) -> float:
        """The score of a network's answers to `inputs`, which are the task's picture of `split`."""
        if self.reconstructs:
            hidden, wanted = _hidden_pixels(inputs, split.images)
            return 1 - float((answers[hidden] - wanted).square().mean() / wanted.var(unbiased=False))
        return float((answers.argmax(1) == self.label(split.digits)).float().mean())


def seeded(name: str) -> torch.Generator:
    """A generator whose stream depends on `name` alone, on any machine."""
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


@cache
def digits() -> tuple[Split, Split]:
    """The training and the test pictures: a fixed shuffle of the 1797, cut after `TRAINING`."""
    stored = load_file(DATA / "digits.safetensors")
    order = torch.randperm(len(stored["digits"]), generator=seeded("split"))
    images, labels = stored["images"][order].float() / WHITE, stored["digits"][order].long()
    return Split(images[:TRAINING], labels[:TRAINING]), Split(images[TRAINING:], labels[TRAINING:])


def _as_it_is(images: Tensor, _: torch.Generator) -> Tensor:
    return images


def _inverted(images: Tensor, _: torch.Generator) -> Tensor:
    return 1 - images


def _rotated(images: Tensor, _: torch.Generator) -> Tensor:
    return images.rot90(1, (1, 2))


def _left_half(images: Tensor, _: torch.Generator) -> Tensor:
    return images * (torch.arange(vit.SIDE) < vit.SIDE // 2)


def _shuffled(images: Tensor, _: torch.Generator) -> Tensor:
    order = torch.randperm(vit.SIDE**2, generator=seeded("pixel shuffle"))
    return images.flatten(1)[:, order].view_as(images)


def _noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + NOISE * torch.randn(images.shape, generator=generator)


def _masked(images: Tensor, generator: torch.Generator) -> Tensor:
    side = vit.SIDE // vit.PATCH
    hidden = torch.rand((len(images), side, side), generator=generator) < HIDDEN_SHARE
    pixels = hidden.repeat_interleave(vit.PATCH, 1).repeat_interleave(vit.PATCH, 2)
    return images.masked_fill(pixels, HIDDEN_PIXEL)


def _hidden_pixels(inputs: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """A mask of hidden tokens (b, 16), and their true pixels (hidden, 4)."""
    hidden = (vit.patches(inputs) == HIDDEN_PIXEL).all(-1)
    return hidden, vit.patches(images)[hidden]


def _digit(digits: Tensor) -> Tensor:
    return digits


def _odd(digits: Tensor) -> Tensor:
    return digits % 2


def _at_least_five(digits: Tensor) -> Tensor:
    return (digits >= 5).long()


def _prime(digits: Tensor) -> Tensor:
    return torch.isin(digits, torch.tensor([2, 3, 5, 7])).long()


# The heads differ in shape (10, 2 and 4 rows), so a comparison of all tasks leaves the heads out, and says so.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("ten-way", "labels", 10, _as_it_is, _digit),
        Task("parity", "labels", 2, _as_it_is, _odd),
        Task("at-least-five", "labels", 2, _as_it_is, _at_least_five),
        Task("prime", "labels", 2, _as_it_is, _prime),
        Task("inverted", "inputs", 10, _inverted, _digit),
        Task("rotated", "inputs", 10, _rotated, _digit),
        Task("left-half", "inputs", 10, _left_half, _digit),
        Task("shuffled", "inputs", 10, _shuffled, _digit),
        Task("noisy", "inputs", 10, _noisy, _digit),
        Task("reconstruction", "reconstruction", vit.PATCH**2, _masked, _digit),
    )
}
