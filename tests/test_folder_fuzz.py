"""Random folders of valid and half-valid files: only known errors, and only layers that the writer meant as weights."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import uws_core as uws
from uws_core.errors import UwsError
from uws_core.sources.opening import open_source

SOAK_SECONDS = 300
MODULES = ("layers.0.q", "layers.0.up", "layers.1.q", "layers.1.up")
SHAPES = {"q": (8, 8), "up": (12, 8)}

# What a writer gives: tensors, the configuration beside them, the header's metadata, and the layers it means.
Written = tuple[dict[str, Tensor], object, dict[str, str], set[str]]


def some(chance: random.Random, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(chance.randrange(2**31)))


def shape_of(module: str) -> tuple[int, int]:
    return SHAPES[module.rpartition(".")[2]]


def checkpoint(chance: random.Random) -> Written:
    prefix = chance.choice(["", "", "model.", "bert.", "_orig_mod.", "module.model.", "model.language_model."])
    kind = chance.choice([torch.float32, torch.float16, torch.bfloat16, torch.float64])
    tensors = {f"{prefix}{m}.weight": some(chance, *shape_of(m)).to(kind) for m in MODULES}
    plain = prefix.removeprefix("_orig_mod.").removeprefix("module.")
    return tensors, None, {}, {f"{plain}{m}.weight" for m in MODULES}


def float8(chance: random.Random) -> Written:
    tensors = {}
    for module in MODULES:
        tensors[f"{module}.weight"] = some(chance, *shape_of(module)).to(torch.float8_e4m3fn)
        if chance.random() < 0.8:
            tensors[f"{module}.weight_scale"] = some(chance, chance.choice([1, shape_of(module)[0], 3]))
    return tensors, None, {}, {f"{m}.weight" for m in MODULES}


def packed(chance: random.Random) -> Written:
    tensors: dict[str, Tensor] = {}
    for module in MODULES:
        m, p = shape_of(module)
        integers = torch.randint(-9, 9, (m, max(1, p // 8)), dtype=torch.int32)
        ends = chance.choice([("weight_packed", "weight_scale", "weight_shape"), ("qweight", "scales", "qzeros"),
                              ("weight", "scales", "biases"), ("W_q", "scale", "zero")])  # fmt: skip
        tensors[f"{module}.{ends[0]}"] = integers
        tensors[f"{module}.{ends[1]}"] = some(chance, m, 1)
        third = torch.tensor([m, p]) if ends[2] == "weight_shape" else some(chance, m, 1)
        tensors[f"{module}.{ends[2]}"] = third
    return tensors, None, {}, {f"{m}.weight" for m in MODULES}


def pairs(chance: random.Random, name: Callable[[str, str], str], *, inputs_first: bool = False) -> dict[str, Tensor]:
    tensors, r = {}, chance.choice([1, 2, 4])
    for module in MODULES:
        m, p = shape_of(module)
        down, up = some(chance, r, p), some(chance, m, r)
        tensors[name(module, "down")] = down.T if inputs_first else down
        tensors[name(module, "up")] = up.T if inputs_first else up
    return tensors


def peft(chance: random.Random) -> Written:
    sides = {"down": "lora_A", "up": "lora_B"}
    tensors = pairs(chance, lambda module, side: f"base_model.model.{module}.{sides[side]}.weight")
    config = {"peft_type": chance.choice(["LORA", "LORA", "VERA"]), "r": chance.choice([1, 2, 4]), "lora_alpha": 8,
              chance.choice(["use_rslora", "use_dora", "fan_in_fan_out", "use_new"]): True}  # fmt: skip
    meant = {f"{m}.weight" for m in MODULES}
    if chance.random() < 0.3:
        tensors["base_model.model.head.weight"] = some(chance, 5, 8)
        config["modules_to_save"] = chance.choice([["head"], None])
        meant |= {"head.weight"}
    return tensors, chance.choice([config, config, None]), {}, meant


def kohya(chance: random.Random) -> Written:
    tensors = pairs(chance, lambda module, side: f"lora_unet_{module.replace('.', '_')}.lora_{side}.weight")
    if chance.random() < 0.7:
        tensors |= {f"lora_unet_{m.replace('.', '_')}.alpha": torch.tensor(2.0) for m in MODULES}
    header = chance.choice([{}, {"ss_network_alpha": "1"}, {"ss_network_alpha": "Dynamic"}])
    return tensors, None, header, {f"unet.{m}.weight" for m in MODULES}


def mlx(chance: random.Random) -> Written:
    sides = {"down": "lora_a", "up": "lora_b"}
    tensors = pairs(chance, lambda module, side: f"{module}.{sides[side]}", inputs_first=True)
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": chance.choice([20.0, None])}}
    return tensors, config, {}, {f"{m}.weight" for m in MODULES}


def no_lora(chance: random.Random) -> Written:
    part = chance.choice(["oft_blocks", "hada_w1_a", "lambda_layer", "on_input", "lora_E", "vera_lambda_b", "lokr_w1"])
    return {f"lora_unet_{m.replace('.', '_')}.{part}": some(chance, 4, 4) for m in MODULES}, None, {}, set()


WRITERS = (checkpoint, checkpoint, float8, packed, peft, kohya, mlx, no_lora)


def add_buffers(chance: random.Random, tensors: dict[str, Tensor]) -> None:
    """What stands beside weights and is none: vectors, scalars, integers, parts that nobody knows."""
    for name, value in (
        ("norm.bias", some(chance, 8)), ("layers.0.position_ids", torch.arange(6)[None]), ("step", torch.tensor(3)),
        ("layers.0.mask", torch.ones(4, 4, dtype=torch.bool)), ("layers.0.empty", torch.zeros(0, 4)),
    ):  # fmt: skip
        if chance.random() < 0.3:
            tensors[name] = value


def damage(chance: random.Random, path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(
        chance.choice([
            raw[: chance.randrange(len(raw))], raw + b"more", b"", b"version https://git-lfs.github.com/spec/v1\n",
            b"<!DOCTYPE html>", bytes([chance.randrange(256) for _ in range(40)]), raw[:8] + b"[" + raw[9:],
        ])
    )  # fmt: skip


def clutter(chance: random.Random, folder: Path) -> None:
    names = ["model.gguf", "pytorch_model.bin", "x.npz", "x.pth.tar", "x.part", "README.md", "x.SAFETENSORS",
             "opt.distcp", "models.csv", "model.safetensors.index.json",
             "adapter_config.json", "config.json", ".hidden"]  # fmt: skip
    texts = [b"", b"{}", b"[1]", b"model,task\nm0,1\n", b'{"weight_map": {"a": "./b.safetensors"}}', b"\xff\xfe"]
    for _ in range(chance.randrange(4)):
        path = folder / chance.choice(names)
        if not path.exists():
            path.write_bytes(chance.choice(texts))
    if chance.random() < 0.2:
        (folder / f"link{len(list(folder.iterdir()))}.safetensors").symlink_to(folder / "nowhere")


def write_folder(chance: random.Random, root: Path) -> set[str]:
    """A folder of a few models, most by one writer; returns every layer that a writer meant."""
    meant: set[str] = set()
    usual = chance.choice(WRITERS)
    for i in range(chance.randrange(2, 7)):
        tensors, config, header, names = (usual if chance.random() < 0.8 else chance.choice(WRITERS))(chance)
        meant |= names
        add_buffers(chance, tensors)
        folder = root
        if config is not None or chance.random() < 0.5:
            folder = root / f"m{i}"
            folder.mkdir()
            if config is not None:
                (folder / "adapter_config.json").write_text(json.dumps(config))
        name = chance.choice(["model", "adapter_model", "adapters", "weights", f"m{i}"]) if folder != root else f"m{i}"
        path = folder / f"{name}.safetensors"
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        save_file(tensors, path, metadata=header or None)
        if chance.random() < 0.15:
            damage(chance, path)
        clutter(chance, folder)
    clutter(chance, root)
    return meant


def check(seed: int, root: Path) -> bool:
    """Whether a collection came out; fails with the seed where something else than a known error or layer did."""
    root.mkdir()
    chance = random.Random(seed)
    meant = write_folder(chance, root)
    try:
        collection, words = uws.collect(root), "opened"
    except UwsError as error:
        collection, words = None, str(error)
    assert words, f"seed {seed}: an error without words"
    if collection is None:
        return False
    layers = {layer.name for layer in collection.layers if not layer.factor}
    assert layers <= meant, f"seed {seed}: {sorted(layers - meant)} were never meant as weights"
    assert all(item.what and item.reason for item in collection.left_out), f"seed {seed}"
    for ref in collection.refs:
        report = open_source(ref).report()
        assert len(report.keys) == len({key.key for key in report.keys}), f"seed {seed}: a key has two fates"
    for layer in collection.layers[:2]:
        with suppress(UwsError):
            uws.gram(collection, layer)
    return True


def test_random_folders_end_in_known_errors_or_meant_layers(tmp_path: Path):
    opened = sum(check(seed, tmp_path / str(seed)) for seed in range(60))
    # Most folders must open, or nothing is tried.
    assert opened > 10


@pytest.mark.slow
@pytest.mark.timeout(4 * SOAK_SECONDS)
def test_random_folders_for_five_minutes(tmp_path: Path):
    begun, seed = time.monotonic(), 1000
    while time.monotonic() - begun < SOAK_SECONDS:
        check(seed, tmp_path / str(seed))
        seed += 1
    print(f"{seed - 1000} folders")
