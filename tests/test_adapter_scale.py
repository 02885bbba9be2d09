"""A scale that cannot be meant leaves out its own module or model, at the latest in the pass, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.written import pair, written
from uws_core.collection import collect
from uws_core.passes.factors import factors
from uws_core.passes.gram import gram
from uws_core.sources.files.blob import torch_dtypes
from uws_core.sources.files.header import NUMBERS
from uws_core.sources.opening import open_source


def adapter(seed: int, alpha: Tensor, modules: tuple[str, ...] = ("q", "k")) -> dict[str, Tensor]:
    found = {}
    for i, module in enumerate(modules):
        up, down = pair(seed + 10 * i)
        found |= {f"lora_unet_{module}.lora_down.weight": down, f"lora_unet_{module}.lora_up.weight": up}
        found[f"lora_unet_{module}.alpha"] = alpha if i == 0 else torch.tensor(2.0)
    return found


def centred(seeds: list[int]) -> np.ndarray:
    flat = np.array([(up.double() @ down.double()).numpy().ravel() for up, down in map(pair, seeds)])
    return flat - flat.mean(axis=0)


@pytest.mark.parametrize("alpha", [torch.nan, torch.inf, 3e38])
def test_an_alpha_that_is_no_number_or_too_large_leaves_one_model_out_of_the_pass(tmp_path: Path, alpha: float):
    for i in range(4):
        written(tmp_path / f"{i}", adapter(i, torch.tensor(alpha if i == 1 else 2.0)))
    found = collect(tmp_path)
    kept = gram(found, "unet.q.weight")
    assert kept.usable.tolist() == [True, False, True, True]
    expected = centred([0, 2, 3])
    np.testing.assert_allclose(kept.about("mean"), expected @ expected.T, rtol=1e-5, atol=1e-4)
    why = "too large for single precision" if alpha == 3e38 else f"its scale is {alpha}"
    assert [why in note.reason for note in kept.left_out] == [True]
    assert kept.left_out[0].what == "1, unet.q"
    assert open_source(found.refs[1]).report().scales
    assert gram(found, "unet.k.weight").usable.all()


@pytest.mark.parametrize("alpha", [torch.nan, torch.inf])
def test_other_passes_find_it_too(tmp_path: Path, alpha: float):
    for i in range(3):
        written(tmp_path / f"{i}", adapter(i, torch.tensor(alpha if i == 1 else 2.0)))
    for about in ("zero", "mean"):
        assert factors(collect(tmp_path), "unet.q.weight", about=about, kept=2).usable.tolist() == [True, False, True]


@pytest.mark.parametrize("alpha", [torch.ones(2), torch.ones(2, 2), torch.tensor(True), torch.ones(0)])
def test_an_alpha_of_another_shape_or_type_leaves_its_module_out_when_opened(tmp_path: Path, alpha: Tensor):
    for i in range(3):
        written(tmp_path / f"{i}", adapter(i, alpha if i == 1 else torch.tensor(2.0)))
    found = collect(tmp_path)
    assert [layer.name for layer in found.layers if not layer.factor] == ["unet.k.weight"]
    assert gram(found, "unet.k.weight").usable.all()
    reasons = [note.reason for note in found.left_out if note.what == "lora_unet_q.alpha"]
    assert "a single number was expected" in reasons[0]


@pytest.mark.parametrize("alpha", [torch.tensor(4), torch.tensor([4.0]), torch.tensor(4.0, dtype=torch.bfloat16)])
def test_an_alpha_may_be_any_single_number(tmp_path: Path, alpha: Tensor):
    scales = {one.layer: one.scale for one in open_source(written(tmp_path, adapter(0, alpha))).report().scales}
    assert scales == {"unet.q.weight": 2.0, "unet.k.weight": 1.0}


def test_the_types_of_a_number_are_those_that_can_be_read():
    assert frozenset(torch_dtypes()) == NUMBERS
