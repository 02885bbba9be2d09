"""Packed weights are read as the library that packed them unpacks them; each test writes with that library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from uws_core.nouns.models import ModelRef
from uws_core.sources.opening import open_source

pytestmark = pytest.mark.filterwarnings("ignore")


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def expect_layer(folder: Path, tensors: dict[str, Tensor], meant: Tensor, config: object = None) -> None:
    """The only layer is `a.q.weight`, whole and by rows of any cut, and equals what the library unpacks."""
    folder.mkdir(exist_ok=True)
    stored = {f"a.q.{name}": value.contiguous() for name, value in tensors.items() if value is not None}
    save_file(stored, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or {}))
    source = open_source(ModelRef(str(folder), ""))
    assert [(layer.name, layer.shape) for layer in source.layers()] == [("a.q.weight", tuple(meant.shape))]
    found = source.read("a.q.weight")
    # The library rounds to the type of its scales.
    assert torch.equal(found.to(meant.dtype), meant)
    for start, stop in [(0, 1), (3, 7), (5, 5), (2, meant.shape[0])]:
        assert torch.equal(source.read("a.q.weight", (start, stop)), found[start:stop])
    into = torch.empty(found.shape, dtype=torch.float64)
    assert source.read("a.q.weight", into=into) is into
    assert torch.equal(into, found.double())


class TestCompressedTensors:
    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("compressed_tensors")

    def packed(self, kind: str, tensors: dict[str, Tensor], **weights: object) -> tuple[dict[str, Tensor], Tensor]:
        from compressed_tensors import compressors
        from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

        scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights))
        compressor = getattr(compressors, kind)
        stored = compressor.compress(dict(tensors), scheme)
        return stored, compressor.decompress(dict(stored), scheme)["weight"]

    @pytest.mark.parametrize("bits", [2, 4, 8])
    @pytest.mark.parametrize("symmetric", [True, False])
    @pytest.mark.parametrize("group", [16, None])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_integers(self, tmp_path: Path, bits: int, symmetric: bool, group: int | None, dtype: torch.dtype):
        weight, groups = some(12, 64), 64 // group if group else 1
        scale = (some(12, groups, seed=1).abs() / 4 + 0.1).to(dtype)
        zero = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (12, groups), dtype=torch.int8)
        tensors = {"weight": weight.to(dtype), "weight_scale": scale}
        tensors |= {} if symmetric else {"weight_zero_point": zero}
        options = {"num_bits": bits, "symmetric": symmetric, "strategy": "group" if group else "channel"}
        stored, meant = self.packed("PackedQuantizationCompressor", tensors, **options, group_size=group)
        expect_layer(tmp_path, stored, meant)

    def test_columns_that_do_not_fill_a_word(self, tmp_path: Path):
        tensors = {"weight": some(9, 21), "weight_scale": some(9, 1, seed=1).abs() + 0.1}
        stored, meant = self.packed("PackedQuantizationCompressor", tensors, num_bits=4, strategy="channel")
        expect_layer(tmp_path, stored, meant)

    def test_integers_of_eight_bits_as_they_stand(self, tmp_path: Path):
        tensors = {"weight": some(12, 64), "weight_scale": some(12, 1, seed=1).abs() / 40}
        stored, meant = self.packed("IntQuantizationCompressor", tensors, num_bits=8, strategy="channel")
        assert stored["weight"].dtype == torch.int8
        expect_layer(tmp_path, stored, meant)

    def test_nvfp4(self, tmp_path: Path):
        tensors = {"weight": some(12, 64), "weight_scale": some(12, 4, seed=1).abs() * 50 + 5}
        tensors |= {"weight_global_scale": torch.tensor([40.0])}
        options = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
        stored, meant = self.packed("NVFP4PackedCompressor", tensors, **options)
        expect_layer(tmp_path, stored, meant)

    def test_mxfp4(self, tmp_path: Path):
        tensors = {"weight": some(12, 64), "weight_scale": torch.exp2(torch.randint(-3, 3, (12, 2)).float())}
        options = {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}
        stored, meant = self.packed("MXFP4PackedCompressor", tensors, **options)
        expect_layer(tmp_path, stored, meant)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("group", [16, 32, None])
def test_hqq(tmp_path: Path, bits: int, group: int | None):
    hqq = pytest.importorskip("hqq.core.quantize")
    linear = nn.Linear(64, 24, bias=True)
    options = hqq.BaseQuantizeConfig(nbits=bits, group_size=group, axis=1)
    packed = hqq.HQQLinear(linear, options, compute_dtype=torch.float32, device="cpu")
    expect_layer(tmp_path, packed.state_dict(), packed.dequantize())


class TestTorchao:
    @pytest.mark.parametrize("kind", ["Int8WeightOnlyConfig", "Float8WeightOnlyConfig"])
    def test_as_its_safetensors_support_writes_it(self, tmp_path: Path, kind: str):
        quantization = pytest.importorskip("torchao.quantization")
        support = pytest.importorskip("torchao.prototype.safetensors.safetensors_support")
        model = nn.Sequential(nn.Linear(64, 24, bias=False))
        config = getattr(quantization, kind)
        quantization.quantize_(model, config(version=2) if kind.startswith("Int8") else config())
        weight = model[0].weight
        stored, _ = support.flatten_tensor_state_dict(model.state_dict())
        expect_layer(tmp_path, {name.partition(".")[2]: value for name, value in stored.items()}, weight.dequantize())


class TestMlx:
    @pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
    @pytest.mark.parametrize("group", [32, 64])
    @pytest.mark.parametrize("own", [True, False])
    def test_words_of_32_bits(self, tmp_path: Path, bits: int, group: int, own: bool):
        mx = pytest.importorskip("mlx.core")
        parts = mx.quantize(mx.array(some(12, 128).numpy()), group_size=group, bits=bits)
        meant = torch.from_numpy(np.array(mx.dequantize(*parts, group_size=group, bits=bits)))
        tmp_path.mkdir(exist_ok=True)
        names = ("a.q.weight", "a.q.scales", "a.q.biases")
        mx.save_safetensors(str(tmp_path / "model.safetensors"), dict(zip(names, parts, strict=True)))
        told = {"group_size": group, "bits": bits}
        config = {"quantization": {"group_size": 64, "bits": 5, "a.q": told} if own else told}
        (tmp_path / "config.json").write_text(json.dumps(config))
        source = open_source(ModelRef(str(tmp_path), ""))
        assert [(layer.name, layer.shape) for layer in source.layers()] == [("a.q.weight", (12, 128))]
        assert torch.allclose(source.read("a.q.weight"), meant, rtol=1e-6, atol=1e-6)
        assert torch.equal(source.read("a.q.weight", (3, 7)), source.read("a.q.weight")[3:7])
