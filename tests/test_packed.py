"""In a module of packed weights nothing but the understood scale is read; the rest is refused by the packer's name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from uws_core.collection import collect
from uws_core.errors import UnreadableFile
from uws_core.nouns.loader import Fate
from uws_core.nouns.models import ModelRef
from uws_core.passes.gram import gram
from uws_core.sources.base import Source
from uws_core.sources.formats.checkpoint import Checkpoint
from uws_core.sources.opening import open_source

EVEN = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole(dtype: torch.dtype, *shape: int, seed: int = 0) -> Tensor:
    limits = torch.iinfo(dtype)
    chance = np.random.default_rng(seed)
    return torch.from_numpy(chance.integers(limits.min, limits.max, shape)).to(dtype)


def opened(folder: Path, tensors: dict[str, Tensor], config: object = None) -> Source:
    folder.mkdir(exist_ok=True, parents=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or {}))
    return open_source(ModelRef(str(folder), ""))


def names(source: Source) -> list[str]:
    return [layer.name for layer in source.layers()]


# Packers whose weights are not unpacked: what they store, and the word that names them.
FOREIGN = {
    "GPTQ": {"qweight": whole(torch.int32, 8, 16), "qzeros": whole(torch.int32, 4, 2), "scales": some(4, 16).half(),
             "g_idx": whole(torch.int32, 64)},
    "AWQ": {"qweight": whole(torch.int32, 64, 2), "qzeros": whole(torch.int32, 4, 2), "scales": some(4, 16).half()},
    "bitsandbytes in 4 bits": {"weight": whole(torch.uint8, 512, 1), "weight.absmax": whole(torch.uint8, 16),
                               "weight.nested_absmax": some(1), "weight.quant_map": some(16),
                               "weight.quant_state.bitsandbytes__nf4": whole(torch.uint8, 80)},
    "bitsandbytes in 8 bits": {"weight": whole(torch.int8, 16, 64), "SCB": some(16)},
    "optimum-quanto": {"weight._data": whole(torch.int8, 16, 64), "weight._scale": some(16, 1),
                       "weight._shift": some(16, 4), "input_scale": some(1)},
    "AQLM": {"codes": whole(torch.int8, 16, 8, 1), "codebooks": some(1, 256, 1, 8), "scales": some(16, 1, 1, 1)},
    "QuIP#": {"Qidxs": whole(torch.int64, 16, 8), "SU": some(64), "SV": some(16), "codebook_id": some(1)},
    "EXL2": {"q_weight": whole(torch.int32, 8, 16), "q_scale": whole(torch.int32, 4, 2), "q_scale_max": some(4)},
    "VPTQ": {"centroids": some(1, 2048), "indices": whole(torch.int32, 1, 16, 8), "weight_scale": some(64)},
    "EETQ": {"weight": whole(torch.int8, 64, 16), "weight_scales": some(16, 2)},
    "SVDQuant": {"qweight": whole(torch.int8, 16, 32), "wscales": some(1, 16), "proj_down": some(64, 8),
                 "proj_up": some(16, 8), "smooth_factor": some(64)},
    "torchao": {"_weight_qdata": whole(torch.uint8, 16, 32), "_weight_scale": some(2, 16)},
    "HQQ": {"W_q": whole(torch.int32, 7, 16), "scale": some(64, 1), "zero": some(64, 1),
            "shape": torch.tensor([16, 64])},
    "MLX": {"weight": whole(torch.int32, 16, 8).view(torch.uint32), "scales": whole(torch.uint8, 16, 2)},
    "compressed-tensors": {"weight_packed": whole(torch.int32, 16, 6), "weight_scale": some(16, 4),
                           "weight_shape": torch.tensor([16, 64])},
    "not known here": {"weight": whole(torch.int16, 16, 64), "row_norms": some(16, 2), "rotation": some(64, 64)},
}  # fmt: skip


@pytest.mark.parametrize("packer", FOREIGN)
@pytest.mark.parametrize("module", ["model.layers.0.q", "q"])
def test_a_packer_that_is_not_unpacked_is_named_and_no_part_is_a_layer(tmp_path: Path, packer: str, module: str):
    parts = {f"{module}.{name}": value for name, value in FOREIGN[packer].items()}
    source = opened(tmp_path, parts | {"embed.weight": some(8, 4)})
    assert names(source) == ["embed.weight"]
    reasons = {note.what: note.reason for note in source.left_out}
    assert set(reasons) == set(parts)
    assert any(packer in reason and "use the checkpoint it was packed from" in reason for reason in reasons.values())
    assert source.report().counts[Fate.IGNORED] == len(parts)


def test_nothing_but_the_scale_is_read_with_a_weight_of_eight_bits(tmp_path: Path):
    stored = some(16, 64).to(torch.float8_e4m3fn)
    tensors = {
        "q.weight": stored,
        "q.weight_scale": torch.tensor(0.5),
        "q.svd_up": some(16, 4),
        "q.svd_down": some(4, 64),
    }
    source = opened(tmp_path, tensors)
    assert names(source) == ["q.weight"]
    assert torch.equal(source.read("q.weight"), stored.float() * 0.5)
    assert {note.what for note in source.left_out} == {"q.svd_up", "q.svd_down"}
    assert all("a companion of the packed weight q.weight" in note.reason for note in source.left_out)


def test_companions_in_a_module_of_their_own_are_no_layers(tmp_path: Path):
    tensors = {"q.indices": whole(torch.int32, 1, 16, 8), "q.centroids.weight": some(1, 4096)}
    tensors |= {"q.out.weight": some(3, 3), "k.weight": some(4, 4)}
    assert set(names(opened(tmp_path, tensors))) == {"k.weight", "q.out.weight"}


@pytest.mark.parametrize(
    "buffer", ["relative_position_index", "position_ids", "attention_mask", "num_batches_tracked", "bucket_steps"]
)
def test_integers_that_are_buffers_pack_nothing(tmp_path: Path, buffer: str):
    source = opened(tmp_path, {f"attn.{buffer}": whole(torch.int32, 9, 9), "attn.bias_table": some(17, 4)})
    assert names(source) == ["attn.bias_table"]


def fp4(packed: Tensor) -> Tensor:
    """An independent reading of two four-bit floats a byte."""
    flat = [EVEN[code] for byte in packed.flatten().tolist() for code in (byte % 16, byte // 16)]
    return torch.tensor(flat).reshape(*packed.shape[:-1], -1)


def test_nvfp4_of_modelopt(tmp_path: Path):
    packed, scale = whole(torch.uint8, 6, 32), (some(6, 4).abs() * 20).to(torch.float8_e4m3fn)
    parts = {
        "q.weight": packed,
        "q.weight_scale": scale,
        "q.weight_scale_2": torch.tensor(0.01),
        "q.input_scale": some(1),
    }
    source = opened(tmp_path, parts)
    meant = fp4(packed) * (scale.float() * torch.tensor(0.01)).repeat_interleave(16, 1)
    assert names(source) == ["q.weight"]
    assert torch.allclose(source.read("q.weight"), meant, rtol=1e-6)


def test_mxfp4_blocks_of_experts(tmp_path: Path):
    blocks, scales = whole(torch.uint8, 3, 4, 2, 16), 120 + whole(torch.uint8, 3, 4, 2) % 10
    bias = some(3, 4)
    parts = {"experts.down_proj_blocks": blocks, "experts.down_proj_scales": scales, "experts.down_proj_bias": bias}
    source = opened(tmp_path, parts)
    meant = (fp4(blocks) * torch.exp2(scales.float() - 127)[..., None]).reshape(12, 64)
    assert names(source) == ["experts.down_proj_blocks"]
    assert torch.equal(source.read("experts.down_proj_blocks"), meant)
    assert torch.equal(source.read("experts.down_proj_blocks", (5, 11)), meant[5:11])
    assert "experts.down_proj_bias" in {note.what for note in source.left_out}


def int4(seed: int, m: int = 16, p: int = 24) -> tuple[dict[str, Tensor], Tensor]:
    """A module that compressed-tensors packed, and what it means, by plain Python integers."""
    values = (whole(torch.int8, m, p, seed=seed) % 16).int()
    words = [[sum(int(row[8 * w + i]) << (4 * i) for i in range(8)) for w in range(p // 8)] for row in values]
    packed = torch.from_numpy(np.array(words, np.uint32).view(np.int32))
    scale = some(m, 3, seed=seed).abs()
    parts = {"weight_packed": packed, "weight_scale": scale, "weight_shape": torch.tensor([m, p])}
    return parts, (values - 8).float() * scale.repeat_interleave(p // 3, 1)


def test_packed_models_make_a_collection_with_the_plain_model_they_came_from(tmp_path: Path):
    meant = []
    for i in range(3):
        parts, value = int4(i)
        meant.append(value)
        opened(
            tmp_path / f"m{i}", {f"q.{name}": part for name, part in parts.items()} | {"k.weight": some(4, 4, seed=i)}
        )
    opened(tmp_path / "m3", {"q.weight": some(16, 24, seed=9), "k.weight": some(4, 4, seed=9)})
    meant.append(some(16, 24, seed=9))
    found = collect(tmp_path)
    assert {layer.name for layer in found.layers} == {"q.weight", "k.weight"}
    flat = torch.stack([value.double().flatten() for value in meant])
    assert np.allclose(gram(found, "q.weight").about("zero"), flat @ flat.T, atol=1e-3)


def test_a_packed_layer_costs_its_own_bytes_and_is_put_together_under_its_own_name(tmp_path: Path):
    parts, meant = int4(0)
    source = opened(tmp_path, {f"q.{name}": part for name, part in parts.items()} | {"k.weight": some(4, 4)})
    assert source.stored_bytes("q.weight") == 16 * 3 * 4 + 16 * 3 * 4
    assert sum(extent.nbytes for extent in source.extents("q.weight", (0, 4))) == 4 * 3 * 4 * 2
    assert isinstance(source, Checkpoint)
    assert source.entries() == 16 * 24 + 16
    assert source.stored_as("q.weight") == ("q.weight", (16, 24))
    state = source.state()
    assert set(state) == {"q.weight", "k.weight"}
    assert torch.equal(state["q.weight"], meant)
    assert torch.equal(source.put(state, {"q.weight": meant + 1})["q.weight"], meant + 1)
    assert set(source.untouched(["q.weight"])) == {"k.weight"}
    assert source.untouched_bytes(["q.weight"]) == 64


def test_another_stored_shape_in_one_layout_is_noticed(tmp_path: Path):
    parts, _ = int4(0)
    first = opened(tmp_path / "a", {f"q.{name}": part for name, part in parts.items()})
    parts["weight_shape"] = torch.tensor([16, 23])
    other = opened(tmp_path / "b", {f"q.{name}": part for name, part in parts.items()})
    assert first.read("q.weight").shape == (16, 24)
    with pytest.raises(UnreadableFile, match=r"weight_shape is \(16, 23\), expected \(16, 24\)"):
        other.read("q.weight")


def test_mlx_without_a_configuration_is_refused_where_bits_are_a_guess(tmp_path: Path):
    parts = {
        "q.weight": whole(torch.int32, 16, 16).view(torch.uint32),
        "q.scales": some(16, 2),
        "q.biases": some(16, 2),
    }
    assert names(opened(tmp_path, parts)) == []
    told = {"quantization": {"group_size": 64, "bits": 4}}
    source = opened(tmp_path, parts, told)
    assert [(layer.name, layer.shape) for layer in source.layers()] == [("q.weight", (16, 128))]
    other = {"quantization": {"group_size": 32, "bits": 8}}
    assert source.digest() != opened(tmp_path, parts, other).digest()
