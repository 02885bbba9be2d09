"""Masks, computed tables and buffers that are equal in all models are no layers; weights with such names stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.hub_fixtures import files, standin  # noqa: F401 - a fixture
from tests.hub_standin import HubStandIn
from tests.written import reason
from uws_core.analysis.flags import same_content
from uws_core.collection import collect
from uws_core.nouns.models import Collection
from uws_core.passes.gram import gram


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def collected(folder: Path, name: str, values: list[Tensor]) -> Collection:
    for i, value in enumerate(values):
        save_file({"h.0.q.weight": some(6, 4, seed=i), name: value.contiguous()}, folder / f"m{i}.safetensors")
    return collect(folder)


MASKS = {
    "GPT-2's causal mask": ("h.0.attn.bias", torch.tril(torch.ones(16, 16))[None, None]),
    "minGPT's mask": ("h.0.attn.tril", torch.tril(torch.ones(8, 8))),
    "Swin's shifted windows": ("layers.0.attn_mask", torch.tril(torch.full((4, 9, 9), -100.0))),
    "CLIP's mask of the text": ("text.attn_mask", torch.full((9, 9), float("-inf")).triu(1)),
    "ImageBind's mask": ("text.mask", torch.full((9, 9), float("-inf")).triu(1)[None]),
    "half-precision lowest numbers": ("decoder.causal_mask", torch.full((9, 9), -65504.0).triu(1).half()),
    "a mask of ones": ("encoder.mask", torch.ones(1, 7, 7)),
    "rotary tables": ("h.0.rotary_emb.cos_cached", some(32, 8)),
    "sinusoidal frequencies": ("freqs_cos", some(32, 8)),
    "ALiBi": ("alibi", some(8, 32)),
    "Swin v2's table of coordinates": ("layers.0.relative_coords_table", some(1, 13, 13, 2)),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_buffer_is_left_out_with_its_reason(tmp_path: Path, kind: str):
    name, value = MASKS[kind]
    found = collected(tmp_path, name, [value] * 3)
    assert [layer.name for layer in found.layers] == ["h.0.q.weight"]
    assert "mask" in reason(found.left_out, name) or "computes" in reason(found.left_out, name)
    gram(found, "h.0.q.weight")


@pytest.mark.parametrize("name", ["pos_embed", "prompt.encoding_gaussian_matrix", "h.0.attn.rel_index_table"])
def test_a_table_is_a_buffer_where_all_models_hold_the_same(tmp_path: Path, name: str):
    found = collected(tmp_path, name, [some(9, 5)] * 3)
    assert [layer.name for layer in found.layers] == ["h.0.q.weight"]
    assert "equal in all models" in reason(found.left_out, name)


@pytest.mark.parametrize("name", ["pos_embed", "h.0.attn.relative_position_bias_table", "h.0.attn.bias"])
def test_what_was_trained_under_such_a_name_is_a_layer(tmp_path: Path, name: str):
    found = collected(tmp_path, name, [some(9, 5, seed=i) for i in range(3)])
    assert {layer.name for layer in found.layers} == {"h.0.q.weight", name}


@pytest.mark.parametrize("value", [torch.ones(6, 6), torch.zeros(6, 6), torch.eye(6)])
@pytest.mark.parametrize("name", ["mask_token.weight", "h.0.k.weight", "embed.weight"])
def test_a_weight_stays_a_layer_whatever_it_holds(tmp_path: Path, name: str, value: Tensor):
    found = collected(tmp_path, name, [value] * 3)
    assert {layer.name for layer in found.layers} == {"h.0.q.weight", name}


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.int32, torch.uint8])
def test_whole_numbers_are_no_layer(tmp_path: Path, kind: torch.dtype):
    found = collected(tmp_path, "embeddings.position_ids", [torch.arange(12).reshape(3, 4).to(kind)] * 2)
    assert [layer.name for layer in found.layers] == ["h.0.q.weight"]
    assert reason(found.left_out, "embeddings.position_ids")


def test_copies_on_the_hub_under_other_commits_are_one_content(standin: HubStandIn):  # noqa: F811
    standin.add("lab/a", files(0))
    standin.add("lab/b", files(1))
    standin.add("other/copy", files(0) | {"README.md": b"mine"})
    for _ in range(2):
        found = collect(["lab/a", "lab/b", "other/copy"])
        digests = found.table["weights_sha256"]
        assert digests[0] == digests[2] != digests[1]
        (flag,) = same_content(found)
        assert set(flag.models) == {"a", "copy"}
