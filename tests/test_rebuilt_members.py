"""Rebuilt members in the programs that load them compute what basis times coefficients says; their known errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

import uws_core as uws
from tests.test_compress import Small, peft_adapters
from tests.test_tinylora import network
from tests.vit_module import Vit
from uws_core.analysis import joint_basis
from uws_core.nouns.models import Collection
from uws_core.passes.updates import thin_updates
from uws_core.zoo import vit

pytestmark = pytest.mark.usefixtures("results_folder")
IMAGES = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))


# One member of each of the ten tasks, each with another seed than the one before.
SOME = (0, 5, 10, 15, 16, 21, 26, 31, 32, 37)


def of(collection: Collection) -> list[str]:
    """The names of these members."""
    return [collection.labels[number] for number in SOME]


def products(folder: Path) -> dict[str, Tensor]:
    """Every layer of every member (n, m, p) from the two files of a folder, multiplied out plainly."""
    basis, members = load_file(folder / "basis.safetensors"), load_file(folder / "members.safetensors")
    layers = {}
    for name, cores in members.items():
        left, right = basis[f"{name}/left"], basis[f"{name}/right"]
        if cores.shape[1] == left.shape[1] + right.shape[1]:
            # Cores of low rank as their two factors, one below the other.
            cores = cores[:, : left.shape[1]] @ cores[:, left.shape[1] :].mT
        layers[name] = (left @ cores if left.shape[1] else cores) @ right.T + basis.get(f"{name}/center", 0)
    return layers


def test_peft_computes_every_rebuilt_adapter(tmp_path):
    adapters = uws.collect("demo:lora")
    folder = uws.compress(adapters, kept=12).write(tmp_path / "c")
    updates, base = products(folder), load_file(adapters.base.repo)
    for number, rebuilt in zip(SOME, uws.rebuild(folder, tmp_path / "r", members=of(adapters)), strict=True):
        model = network(adapters, adapters.labels[number])
        own = load_file(Path(adapters.refs[number].repo) / "adapter_model.safetensors")
        expected = base | {name: base[name] + update[number] for name, update in updates.items()}
        expected |= {name: own[f"base_model.model.{name}"] for name in ("head.weight", "head.bias")}
        with torch.no_grad():
            computed = PeftModel.from_pretrained(model, rebuilt)(IMAGES)
        torch.testing.assert_close(computed, vit.forward(expected, IMAGES), rtol=1e-4, atol=1e-5)


def test_torch_computes_every_rebuilt_network(tmp_path):
    networks = uws.collect("demo:finetuned")
    folder = uws.compress(networks, kept=4).write(tmp_path / "c")
    layers = products(folder)
    for number, rebuilt in zip(SOME, uws.rebuild(folder, tmp_path / "r", members=of(networks)), strict=True):
        original = load_file(networks.refs[number].repo)
        expected = original | {name: layer[number].reshape(original[name].shape) for name, layer in layers.items()}
        computed = Vit(load_file(rebuilt / "model.safetensors"))(IMAGES)
        torch.testing.assert_close(computed, vit.forward(expected, IMAGES), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(computed, vit.forward(original, IMAGES), rtol=1e-3, atol=1e-3)


def test_peft_reads_ranks_5_and_3_padded_to_8_without_error(tmp_path):
    place = peft_adapters(tmp_path / "adapters", rank_pattern={"second": 5}, alpha_pattern={"second": 2})
    folder = uws.compress(uws.collect(place), kept=20).write(tmp_path / "c")
    (rebuilt,) = uws.rebuild(folder, tmp_path / "r", members=["a1"], target="vllm")
    tensors = load_file(rebuilt / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {8}
    loaded, original = (
        PeftModel.from_pretrained(Small(), path).base_model.model for path in (rebuilt, tmp_path / "adapters" / "a1")
    )
    for name, rank in (("first", 3), ("second", 5)):
        module = loaded.get_submodule(name)
        assert module.scaling == {"default": 1.0}
        assert not module.lora_A["default"].weight[rank:].any()
        assert not module.lora_B["default"].weight[:, rank:].any()
        whole, own = (network.get_submodule(name).get_delta_weight("default") for network in (loaded, original))
        torch.testing.assert_close(whole, own, rtol=0, atol=2e-6 * float(own.abs().max()))
    assert json.loads((rebuilt / "adapter_config.json").read_text())["lora_alpha"] == 8


def means(adapters: Collection) -> dict[str, list[float]]:
    """Mean relative errors over layers and adapters of each one's own SVD, ranks 1 to 3, and of the joint basis."""
    rows = range(len(adapters))
    layers = [thin_updates(adapters, key, rows) for key in adapters.layers if not key.factor]
    own = np.mean([joint_basis.own_svd_errors(layer, [1, 2, 3]).mean(axis=1) for layer in layers], axis=0)
    joint = [np.mean([joint_basis.two_sided(layer, k).relative_errors for layer in layers]) for k in (8, 16, 24)]
    return {"own SVD": list(own), "joint": list(map(float, joint))}


def test_the_errors_of_the_built_in_adapters():
    # Other adapters of the same recipe had .590, .344, .165 and .798, .583, .392.
    found = means(uws.collect("demo:lora"))
    assert found["own SVD"] == pytest.approx([0.596, 0.350, 0.168], abs=1e-3)
    assert found["joint"] == pytest.approx([0.798, 0.571, 0.361], abs=1e-3)
