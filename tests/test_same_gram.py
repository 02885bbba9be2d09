"""How weights are written is no part of what they are: shards, order and type leave the Gram as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from uws_core.collection import collect
from uws_core.passes.gram import gram

SHAPES = {"h.0.q.weight": (7, 5), "h.0.conv.weight": (4, 3, 2, 2), "h.1.q.weight": (7, 5), "head.weight": (10, 6)}
TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def model(seed: int) -> dict[str, Tensor]:
    """Quarters up to 8, which each of the types holds as they are."""
    chance = torch.Generator().manual_seed(seed)
    return {name: torch.randint(-32, 33, shape, generator=chance) / 4 for name, shape in SHAPES.items()}


def written(folder: Path, tensors: dict[str, Tensor], homes: list[int]) -> None:
    """Each tensor in the shard that `homes` gives, with an index where there is more than one."""
    folder.mkdir(parents=True)
    if len(set(homes)) == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    count = len(set(homes))
    files = {home: f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i, home in enumerate(sorted(set(homes)))}
    where = {name: files[home] for name, home in zip(tensors, homes, strict=True)}
    for file in files.values():
        save_file({name: tensors[name] for name in tensors if where[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


# Every example writes and reads seven models.
@settings(max_examples=max(6, settings.default.max_examples // 7))
@given(
    st.lists(
        st.tuples(
            st.permutations(list(SHAPES)),
            st.lists(st.integers(0, 2), min_size=4, max_size=4),
            st.lists(st.sampled_from(TYPES), min_size=4, max_size=4),
        ),
        min_size=3,
        max_size=4,
    ),
    st.integers(0, 10**6),
)
def test_any_shards_order_and_type_give_the_same_gram(
    tmp_path_factory: pytest.TempPathFactory,
    ways: list[tuple[list[str], list[int], list[torch.dtype]]],
    seed: int,
):
    folder = tmp_path_factory.mktemp("ways")
    models = [model(seed + i) for i in range(len(ways))]
    for i, (order, homes, types) in enumerate(ways):
        written(folder / "plain" / f"m{i}", models[i], [0] * 4)
        values = {name: models[i][name].to(kind) for name, kind in zip(order, types, strict=True)}
        written(folder / "other" / f"m{i}", values, homes)
    plain, other = collect(folder / "plain"), collect(folder / "other")
    assert set(plain.layers) == set(other.layers)
    for name in SHAPES:
        flat = torch.stack([one[name].double().flatten() for one in models])
        expected = (flat - flat.mean(0)) @ (flat - flat.mean(0)).T
        for collection in (plain, other):
            found = torch.tensor(gram(collection, name).values)
            # Float32 products: 1e-6 of the largest eigenvalue.
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.trace()))
