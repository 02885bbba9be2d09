"""Parts of one model are no models: they are joined where they hold different layers, else refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from uws_core.collection import collect
from uws_core.errors import UwsError
from uws_core.nouns.models import ModelRef
from uws_core.sources.files.parts import families
from uws_core.sources.opening import open_source


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def said(folder: Path, **options: bool) -> tuple[tuple[str, ...], str]:
    """The models' labels, and all reasons."""
    try:
        found = collect(folder, **options)
    except UwsError as error:
        return (), str(error)
    return found.labels, "\n".join(f"{one.what}: {one.reason}" for one in found.left_out)


RANKS = {
    "Megatron folders": lambda rank: f"mp_rank_{rank:02d}/model",
    "NeMo": lambda rank: f"tp_rank_{rank:02d}_pp_rank_000/model",
    "torchtitan": lambda rank: f"model-tp{rank}",
    "verl": lambda rank: f"model_world_size_2_rank_{rank}",
    "DeepSeek": lambda rank: f"model{rank}-mp2",
    "of": lambda rank: f"model-{rank + 1}-of-2",
    "vLLM": lambda rank: f"model-rank-{rank}-part-0",
}


@pytest.mark.parametrize("kind", RANKS)
def test_slices_of_the_same_layers_are_refused_by_name(tmp_path: Path, kind: str):
    for model in range(2):
        for rank in range(2):
            path = tmp_path / f"m{model}" / f"{RANKS[kind](rank)}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"layers.0.wq.weight": some(4, 8, seed=rank)}, path)
    labels, reasons = said(tmp_path)
    assert labels == ()
    assert reasons.count("2 parts of one model") == 2
    assert "m1" in reasons


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin"])
def test_pickled_ranks_are_refused_by_name(tmp_path: Path, suffix: str):
    for model in range(2):
        (tmp_path / f"m{model}").mkdir()
        for rank in range(2):
            torch.save({"wq.weight": some(4, 8)}, tmp_path / f"m{model}" / f"consolidated.{rank:02d}.{suffix}")
    labels, reasons = said(tmp_path, pickled=True)
    assert labels == ()
    assert f"consolidated.00.{suffix} to consolidated.01.{suffix}" in reasons


def test_pipeline_stages_hold_different_layers_and_are_read_together(tmp_path: Path):
    for model in range(3):
        folder = tmp_path / f"m{model}"
        folder.mkdir()
        for rank in range(2):
            name = f"layers.{rank}.wq.weight"
            save_file({name: some(4, 8, seed=10 * model + rank)}, folder / f"model-pp-rank-{rank}.safetensors")
    found = collect(tmp_path)
    assert found.labels == ("m0", "m1", "m2")
    assert [layer.name for layer in found.layers] == ["layers.0.wq.weight", "layers.1.wq.weight"]
    assert torch.equal(open_source(found.refs[2]).read("layers.1.wq.weight"), some(4, 8, seed=21))


def test_shards_beside_the_file_that_joins_them_are_one_model(tmp_path: Path):
    for model in range(2):
        folder = tmp_path / f"m{model}"
        folder.mkdir()
        tensors = {f"layers.{i}.q.weight": some(4, 8, seed=10 * model + i) for i in range(2)}
        for i, (name, value) in enumerate(tensors.items()):
            save_file({name: value}, folder / f"model-{i + 1:05d}-of-00002.safetensors")
        save_file(tensors, folder / "consolidated.safetensors")
    labels, reasons = said(tmp_path)
    assert labels == ("m0", "m1")
    assert "consolidated.safetensors: not read" in reasons


def test_shards_among_models_are_named_and_the_models_stay(tmp_path: Path):
    for name in ("a", "b", "c-00001-of-00002", "c-00002-of-00002"):
        save_file({"q.weight": some(4, 8)}, tmp_path / f"{name}.safetensors")
    labels, reasons = said(tmp_path)
    assert labels == ("a", "b")
    assert "c-00001-of-00002.safetensors to c-00002-of-00002.safetensors" in reasons


@pytest.mark.parametrize(
    "names",
    [
        ["rank8", "rank16", "rank32"],
        ["lora_rank4", "lora_rank8"],
        ["rank1", "rank2", "rank4"],
        ["seed0", "seed1"],
        ["task-0", "task-1"],
        ["m0", "m1"],
        ["stage1", "stage2"],
        ["part1", "part2"],
        ["checkpoint-500", "checkpoint-1000"],
        ["epoch_0", "epoch_1"],
        ["rank0"],
        ["tpu0", "tpu1"],
    ],
)
def test_models_that_only_bear_numbers_stay_models(tmp_path: Path, names: list[str]):
    assert not families(names)
    for i, name in enumerate([*names, "other"]):
        save_file({"q.weight": some(4, 8, seed=i)}, tmp_path / f"{name}.safetensors")
    assert set(said(tmp_path)[0]) == {*names, "other"}


def test_numbered_parts_in_a_model_folder_are_parts(tmp_path: Path):
    for model in range(2):
        folder = tmp_path / f"m{model}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({}))
        for part in (1, 2):
            save_file({f"layers.{part}.q.weight": some(4, 8)}, folder / f"part{part}.safetensors")
    assert said(tmp_path)[0] == ("m0", "m1")
    source = open_source(ModelRef(str(tmp_path / "m0"), ""))
    assert len(source.layers()) == 2
