"""The built-in collections as they lie on disk, for the tests that look into them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors.torch import load_file

from uws_core.zoo import lora, vit
from uws_core.zoo.demo import DATA, DEMOS


@contextmanager
def one_thread() -> Iterator[None]:
    """The network is so small that threads cost more than they bring, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def table(name: str) -> list[dict[str, str]]:
    with (DEMOS[name].folder / "models.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def whole_weights(name: str, model: str) -> vit.Weights:
    """A model's own weights, an adapter's added to the base."""
    if name == "lora":
        return lora.merge(base(), lora.load(DATA / "lora" / model))
    return load_file(DATA / name / f"{model}.safetensors")


def base() -> vit.Weights:
    return load_file(DATA / "base.safetensors")
