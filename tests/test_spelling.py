"""Layers that are only spelled otherwise are compared, the renaming is listed, and nothing is matched by guesswork."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import uws_core as uws
from uws_core.errors import OutsideRoot
from uws_core.nouns.models import Collection, LayerKey, ModelRef
from uws_core.sources.formats.tensor_names import LayerNames, nearest, path_of
from uws_core.sources.opening import open_source
from uws_core.sources.spelling import spelled_alike

BLOCKS = 3


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def checkpoint(prefix: str, seed: int) -> dict[str, Tensor]:
    shapes = {"q.weight": (8, 16), "up.weight": (12, 8)}
    names = [(f"layers.{i}.{name}", shape) for i in range(BLOCKS) for name, shape in shapes.items()]
    return {f"{prefix}{name}": some(*shape, seed=seed * 100 + i) for i, (name, shape) in enumerate(names)}


def folder_of(root: Path, spellings: list[Callable[[str], str]]) -> Path:
    for i, spelling in enumerate(spellings):
        save_file({spelling(name): value for name, value in checkpoint("", i).items()}, root / f"m{i}.safetensors")
    return root


def truth(layer: str, n: int) -> np.ndarray:
    rows = torch.stack([checkpoint("", i)[layer].flatten().double() for i in range(n)])
    return (rows @ rows.T).numpy()


def renamings(collection: Collection) -> list[str]:
    return [item.reason for item in collection.left_out if "other names" in item.reason]


PREFIXES = [
    ("language_model.model.", "model.language_model."),
    ("model.", ""),
    ("", "bert."),
    ("transformer.", ""),
    ("module.model.", "model."),
    ("_orig_mod.", ""),
    ("roberta.", "bert."),
    ("text_encoder.text_model.", "text_encoder."),
    ("pretrained_model.model.", "model."),
    ("policy.actor.", ""),
]


@pytest.mark.parametrize(("usual", "other"), PREFIXES)
@pytest.mark.parametrize("first", [True, False])
def test_a_model_under_another_prefix_is_compared(tmp_path: Path, usual: str, other: str, first: bool):
    spellings = [other if i == (0 if first else 3) else usual for i in range(4)]
    collection = uws.collect(folder_of(tmp_path, [lambda name, p=prefix: p + name for prefix in spellings]))
    assert len(collection) == 4
    assert len(collection.layers) == 2 * BLOCKS
    for layer in collection.layers:
        plain = layer.name[layer.name.index("layers.") :]
        assert np.allclose(uws.gram(collection, layer).about("zero"), truth(plain, 4), rtol=1e-5, atol=1e-3)
    # Wrappers that every reader takes away are no other spelling.
    wrapped = "_orig_mod." in usual + other or usual.startswith("module.")
    assert len(renamings(collection)) == (0 if wrapped else 1)


def test_a_task_head_does_not_stop_the_body(tmp_path: Path):
    for i in range(4):
        head = {"score.weight": some(3, 8, seed=i)} if i == 3 else {"lm_head.weight": some(9, 8, seed=i)}
        save_file(checkpoint("transformer." if i < 3 else "", i) | head, tmp_path / f"m{i}.safetensors")
    collection = uws.collect(tmp_path)
    assert len(collection) == 4
    assert {layer.name for layer in collection.layers} == {f"transformer.{name}" for name in checkpoint("", 0)}


ADAPTERS = [
    ("base_model.model.thinker.model.", "thinker.base_model.model.model.", ".lora_A.weight", ".lora_B.weight"),
    ("base_model.model.model.", "base_model.model.", ".lora_A.weight", ".lora_B.weight"),
    ("unet.", "", ".lora_A.weight", ".lora_B.weight"),
]


@pytest.mark.parametrize(("usual", "other", "down", "up"), ADAPTERS)
def test_adapters_under_another_prefix(tmp_path: Path, usual: str, other: str, down: str, up: str):
    dense = []
    for i in range(4):
        a, b = some(2, 16, seed=i), some(8, 2, seed=i + 50)
        dense.append((b @ a).flatten().double())
        prefix = usual if i < 3 else other
        tensors = {f"{prefix}layers.{j}.q{end}": value.clone() for j in range(3) for end, value in ((down, a), (up, b))}
        save_file(tensors, tmp_path / f"m{i}.safetensors")
    collection = uws.collect(tmp_path)
    assert len(collection) == 4
    rows = torch.stack(dense)
    updates = [layer for layer in collection.layers if not layer.factor]
    assert len(updates) == 3
    for layer in updates:
        assert np.allclose(uws.gram(collection, layer).about("zero"), (rows @ rows.T).numpy(), rtol=1e-4, atol=1e-3)
    assert {layer.factor for layer in collection.layers} == {"", "A", "B"}


def test_kohyas_underscores_and_dots_of_names_that_no_table_holds(tmp_path: Path):
    for i in range(4):
        a, b = some(2, 16, seed=i), some(8, 2, seed=i)
        if i < 3:
            stems = [f"lora_unet_odd_block_{j}_my_proj" for j in range(3)]
            parts = {"lora_down.weight": a, "lora_up.weight": b}
        else:
            stems = [f"unet.odd_block.{j}.my_proj" for j in range(3)]
            parts = {"lora_A.weight": a, "lora_B.weight": b}
        tensors = {f"{stem}.{part}": value.clone() for stem in stems for part, value in parts.items()}
        save_file(tensors, tmp_path / f"m{i}.safetensors")
    collection = uws.collect(tmp_path)
    assert len(collection) == 4
    assert len([layer for layer in collection.layers if not layer.factor]) == 3


def test_a_base_under_another_prefix_is_the_base(tmp_path: Path):
    (tmp_path / "models").mkdir()
    folder_of(tmp_path / "models", [lambda name: f"model.language_model.{name}"] * 3)
    save_file(checkpoint("language_model.model.", 9), tmp_path / "base.safetensors")
    collection = uws.collect(tmp_path / "models", base=tmp_path / "base.safetensors")
    assert len(collection.base_layers) == 2 * BLOCKS


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        # Two towers of one shape under words that are no names of whole models.
        (lambda name: f"encoder.{name}", lambda name: f"decoder.{name}"),
        (lambda name: name, lambda name: name.replace("q.weight", "k.weight").replace("up.weight", "down.weight")),
    ],
)
def test_other_layers_of_the_same_shape_are_not_taken_for_these(
    tmp_path: Path, usual: Callable[[str], str], other: Callable[[str], str]
):
    collection = uws.collect(folder_of(tmp_path, [usual, usual, usual, other]))
    assert len(collection) == 3
    assert renamings(collection) == []


def test_an_unclear_name_is_no_name():
    names = ["model.layers.0.q.weight", "transformer.layers.0.q.weight", "vision.layers.1.q.weight"]
    assert nearest("layers.0.q.weight", names) is None
    assert nearest("lm.layers.0.q.weight", names) is None
    assert nearest("layers.1.q.weight", names) == "vision.layers.1.q.weight"
    assert nearest("model.layers.0.q.weight", names) == "model.layers.0.q.weight"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("model.language_model.layers.0.q.weight", "language_model.model.layers.0.q.weight"),
        ("bert.encoder.layer.0.q.weight", "roberta.encoder.layer.0.q.weight"),
        ("unet.odd_block.0.my_proj.weight", "unet.odd.block.0.my.proj.weight"),
        (unicodedata.normalize("NFC", "modèle.0.é.weight"), unicodedata.normalize("NFD", "modèle.0.é.weight")),
    ],
)
def test_paths_of_one_layer_are_equal(one: str, other: str):
    assert path_of(one) == path_of(other)


def test_words_behind_a_number_or_alone_are_names():
    assert path_of("blocks.0.model.weight") != path_of("blocks.0.weight")
    assert path_of("model.weight") == "model_weight"
    assert path_of("weight") == "weight"


def test_names_know_other_spellings_and_nothing_else():
    names = LayerNames(["h.0.a.weight"], ["h.0.a.weight", "h.0.b.weight"])
    assert "transformer.h.0.a.weight" in names
    assert "transformer.h.0.b.weight" not in names
    assert names == {"h.0.a.weight"}


def test_one_tower_is_neither_of_two():
    two = [LayerKey(f"{tower}.layers.{i}.q", (2, 2)) for tower in ("vision", "text") for i in range(2)]
    one = [LayerKey(f"layers.{i}.q", (2, 2)) for i in range(2)]
    found, notes = spelled_alike({"a": two, "b": two, "c": one})
    assert found["c"] == one
    assert notes == ()


def test_two_layers_never_become_one():
    usual = [LayerKey("model.a.weight", (2, 2)), LayerKey("model.b.weight", (2, 2))]
    other = [LayerKey("a.weight", (2, 2)), LayerKey("b.weight", (2, 3))]
    models: Mapping[str, list[LayerKey]] = {"x": usual, "y": usual, "z": other}
    found, notes = spelled_alike(models)
    assert [layer.name for layer in found["z"]] == ["model.a.weight", "b.weight"]
    assert [note.what for note in notes] == ["z"]


class TestNamesOfFiles:
    """Accents in one character or two, and `./` before a file, name the same file."""

    def test_an_index_with_a_dot_before_its_files(self, tmp_path: Path):
        parts = {"q.weight": "model-00001-of-00002.safetensors", "k.weight": "model-00002-of-00002.safetensors"}
        for name, file in parts.items():
            save_file({name: some(4, 4)}, tmp_path / file)
        index = {"weight_map": {name: f"./{file}" for name, file in parts.items()}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        assert {layer.name for layer in open_source(ModelRef(str(tmp_path), "")).layers()} == set(parts)

    @pytest.mark.parametrize(
        "file", ["./../x.safetensors", "../x.safetensors", "a/./../x.safetensors", "./a/x.safetensors"]
    )
    def test_no_dot_leads_out_of_the_folder(self, tmp_path: Path, file: str):
        (tmp_path / "m").mkdir()
        save_file({"q.weight": some(4, 4)}, tmp_path / "x.safetensors")
        (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"q.weight": file}}))
        with pytest.raises(OutsideRoot):
            open_source(ModelRef(str(tmp_path / "m"), ""))

    @pytest.mark.parametrize(("on_disk", "in_text"), [("NFD", "NFC"), ("NFC", "NFD")])
    def test_accents_of_shards_and_of_the_table(self, tmp_path: Path, on_disk: str, in_text: str):
        def spelled(name: str, form: str) -> str:
            return unicodedata.normalize(form, name)

        for i in range(2):
            folder = tmp_path / spelled(f"modèle{i}", on_disk)
            folder.mkdir()
            save_file({"q.weight": some(4, 4, seed=i)}, folder / spelled("poids-é.safetensors", on_disk))
            index = {"weight_map": {"q.weight": spelled("poids-é.safetensors", in_text)}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        rows = "".join(f"{spelled(f'modèle{i}', in_text)},{i}\n" for i in range(2))
        (tmp_path / "models.csv").write_text("model,task\n" + rows, encoding="utf-8")
        collection = uws.collect(tmp_path)
        assert collection.table["task"] == (0, 1)
        assert not [item for item in collection.left_out if "models.csv" in item.what]
