"""Weights of eight bits are read times the scale beside them, whatever it is called, or it is said that none was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from uws_core.nouns.loader import Fate
from uws_core.nouns.models import ModelRef
from uws_core.sources.opening import open_source


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def at(folder: Path, tensors: dict[str, Tensor]) -> ModelRef:
    save_file(tensors, folder / "model.safetensors")
    return ModelRef(str(folder / "model.safetensors"), "")


class TestFloat8:
    def quantised(
        self, value: Tensor, scale: Tensor, dtype: torch.dtype = torch.float8_e4m3fn
    ) -> tuple[Tensor, Tensor]:
        """The eight-bit weight, and what it means."""
        stored = (value / scale).to(dtype)
        return stored, stored.float() * scale

    @pytest.mark.parametrize("end", ["weight_scale", "weight_scale_inv", "scale_weight"])
    @pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
    def test_one_scale_or_one_a_row(self, tmp_path: Path, end: str, dtype: torch.dtype):
        tensors, meant = {}, {}
        for name, scale in {"a": torch.tensor(0.5), "b": torch.rand(5, 1) + 0.1, "c": torch.tensor([0.25])}.items():
            tensors[f"{name}.weight"], meant[f"{name}.weight"] = self.quantised(some(5, 4), scale, dtype)
            tensors[f"{name}.{end}"] = scale.to(torch.bfloat16 if name == "a" else torch.float32)
        source = open_source(at(tmp_path, tensors))
        for name, value in meant.items():
            assert torch.equal(source.read(name), value)
            assert torch.equal(source.read(name, (1, 3)), value[1:3])
            into = torch.empty(5, 4, dtype=torch.float64)
            assert source.read(name, into=into) is into
            assert torch.equal(into, value.double())
        assert not source.left_out
        assert source.report().counts[Fate.USED] == 6
        assert source.stored_bytes("b.weight") == 5 * 4 + 5 * 4

    def test_one_scale_a_block(self, tmp_path: Path):
        scale = torch.rand(3, 2) + 0.1
        spread = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[:300, :200]
        stored, meant = self.quantised(some(300, 200), spread)
        source = open_source(at(tmp_path, {"a.weight": stored, "a.weight_scale_inv": scale}))
        assert torch.equal(source.read("a.weight"), meant)
        for start, stop in [(0, 1), (100, 140), (128, 256), (255, 300), (7, 7)]:
            assert torch.equal(source.read("a.weight", (start, stop)), meant[start:stop])

    def test_where_no_weight_has_a_scale_the_bits_are_the_weight_and_it_is_said(self, tmp_path: Path):
        stored = some(5, 4).to(torch.float8_e4m3fn)
        source = open_source(at(tmp_path, {"a.weight": stored, "b.weight": some(2, 2)}))
        assert torch.equal(source.read("a.weight"), stored.float())
        assert [note.what for note in source.left_out] == ["a.weight"]
        assert "compared as they stand" in source.left_out[0].reason
        assert source.report().counts[Fate.USED] == 2
        assert source.left_out[0].reason in {one.why for one in source.report().keys}

    def test_where_others_have_a_scale_a_weight_without_one_is_left_out(self, tmp_path: Path):
        stored = some(5, 4).to(torch.float8_e4m3fn)
        tensors = {"a.weight": stored, "b.weight": stored.clone(), "b.weight_scale": torch.tensor(2.0)}
        source = open_source(at(tmp_path, tensors))
        assert [layer.name for layer in source.layers()] == ["b.weight"]
        assert "no scale that is known" in source.left_out[0].reason

    @pytest.mark.parametrize("end", ["weight.scale", "scale", "weight_scales", "scale_inv"])
    def test_more_names_of_a_scale(self, tmp_path: Path, end: str):
        stored, meant = self.quantised(some(5, 4), torch.rand(5, 1) + 0.1)
        tensors = {"a.weight": stored, f"a.{end}": meant[:, :1] / stored.float()[:, :1]}
        source = open_source(at(tmp_path, tensors))
        assert [layer.name for layer in source.layers()] == ["a.weight"]
        torch.testing.assert_close(source.read("a.weight"), meant)
        assert not source.left_out

    @pytest.mark.parametrize(
        ("end", "shape"),
        [
            ("scale_inv", (3, 2, 1)),
            ("scale", (3, 1, 90)),
            ("scale", (3, 200, 1)),
            ("scale", (3,)),
            ("scale", (3, 1, 1)),
        ],
    )
    def test_stacks_of_experts_have_a_scale_a_block_or_a_side(self, tmp_path: Path, end: str, shape: tuple[int, ...]):
        scale = torch.rand(shape, generator=torch.Generator().manual_seed(1)) + 0.5
        spread = scale.view(3, 1, 1) if shape == (3,) else scale
        if shape == (3, 2, 1):
            spread = scale.repeat_interleave(128, 1)[:, :200]
        stored, meant = self.quantised(some(3, 200, 90), spread)
        source = open_source(at(tmp_path, {"experts.gate_up_proj": stored, f"experts.gate_up_proj_{end}": scale}))
        assert [layer.name for layer in source.layers()] == ["experts.gate_up_proj"]
        assert torch.equal(source.read("experts.gate_up_proj"), meant.flatten(0, 1))
        assert torch.equal(source.read("experts.gate_up_proj", (1, 3)), meant.flatten(0, 1)[1:3])
        # Within a matrix, and across two.
        for start, stop in [(130, 199), (150, 410), (200, 400), (599, 600)]:
            assert torch.equal(source.read("experts.gate_up_proj", (start, stop)), meant.flatten(0, 1)[start:stop])
        assert not source.left_out

    @pytest.mark.parametrize(
        ("kind", "name", "shape"),
        [
            (torch.float8_e4m3fn, "a.weight_scale", (3, 2)),
            (torch.float8_e4m3fn, "a.weight_scale_inv", (2, 3)),
            (torch.float8_e4m3fn, "a.weight_scale", (1, 3, 2)),
            (torch.float8_e4m3fn, "a.weight_scale", (7, 5, 1)),
            (torch.int8, "a.weight_scale", (5, 3)),
            (torch.uint8, "a.scale", (5, 2)),
        ],
    )
    def test_a_scale_is_never_a_layer(self, tmp_path: Path, kind: torch.dtype, name: str, shape: tuple[int, ...]):
        tensors = {"a.weight": some(5, 4).to(kind), name: torch.ones(shape), "b.weight": some(2, 2)}
        source = open_source(at(tmp_path, tensors))
        assert [layer.name for layer in source.layers()] == ["b.weight"]
        assert {note.what: "a.weight" in note.reason for note in source.left_out}[name]
        assert {note.what for note in source.left_out} == {"a.weight", name}

    def test_of_two_scales_neither_is_guessed(self, tmp_path: Path):
        scales = {"a.weight_scale": torch.tensor(2.0), "a.scale_weight": torch.tensor(3.0)}
        source = open_source(at(tmp_path, scales | {"a.weight": some(5, 4).to(torch.float8_e4m3fn)}))
        assert not source.layers()
        assert any("2 scales lie beside it" in note.reason for note in source.left_out)

    def test_the_scales_of_gptq_are_no_layers(self, tmp_path: Path):
        tensors = {"a.qweight": torch.ones(4, 4, dtype=torch.int32), "a.scales": some(2, 4), "b.weight": some(2, 2)}
        assert [layer.name for layer in open_source(at(tmp_path, tensors)).layers()] == ["b.weight"]

    def test_a_scale_that_does_not_fit_is_told(self, tmp_path: Path):
        tensors = {"a.weight": some(5, 4).to(torch.float8_e4m3fn), "a.weight_scale": torch.ones(3)}
        source = open_source(at(tmp_path, tensors | {"b.weight": some(2, 2)}))
        assert [layer.name for layer in source.layers()] == ["b.weight"]
        assert "neither one number" in next(note.reason for note in source.left_out if note.what == "a.weight")
        assert {note.what for note in source.left_out} == {"a.weight", "a.weight_scale"}

    def test_quantised_integers_are_left_out(self, tmp_path: Path):
        tensors = {"a.qweight": torch.ones(4, 4, dtype=torch.int32), "b.weight": some(2, 2)}
        assert "I32" in open_source(at(tmp_path, tensors)).left_out[0].reason
