"""Random folders of valid and half-valid files: nothing but errors of this package and reasons; no part is a layer."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from uws_core.collection import collect
from uws_core.errors import UwsError
from uws_core.passes.gram import gram

pytestmark = pytest.mark.filterwarnings("ignore")

State = dict[str, Tensor]
PREFIXES = ("", "model.", "module.", "_orig_mod.", "transformer.", "bert.", "base.")
# The modules that the writer means as weights; everything else it writes is a companion or a buffer.
MODULES = ("layers.0.q", "layers.0.up", "layers.1.q", "embed")


class Writer:
    """Writes one random folder; `meant` are the modules whose weights it means to be compared."""

    def __init__(self, seed: int, root: Path) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.torch = torch.Generator().manual_seed(seed)
        self.root = root
        self.shapes = {name: (self.chance.choice([4, 8, 16]), self.chance.choice([16, 32, 64])) for name in MODULES}

    def some(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.torch)

    def whole(self, dtype: torch.dtype, *shape: int) -> Tensor:
        limits = torch.iinfo(dtype)
        values = torch.randint(max(limits.min, -(2**31)), min(limits.max, 2**31 - 1), shape, generator=self.torch)
        return values.to(dtype)

    def write(self) -> None:
        for i in range(self.chance.randint(1, 6)):
            kinds: list[Callable[[str], None]] = [self.plain] * 4 + [
                self.shards, self.ranks, self.adapter, self.broken, self.foreign, self.link, self.cached, self.empty,
            ]  # fmt: skip
            self.chance.choice(kinds)(f"m{i}")

    def state(self) -> State:
        """The tensors of one model; four in five are laid out as the others of this folder."""
        chance = self.chance
        if chance.random() < 0.8:
            self.chance = random.Random(self.seed)
        prefix = self.chance.choice(PREFIXES)
        state: State = {}
        for name in MODULES:
            state |= {f"{prefix}{key}": value for key, value in self.module(name).items()}
        self.chance = chance
        if self.chance.random() < 0.5:
            state |= {prefix + key: value for key, value in self.buffers().items()}
        if self.chance.random() < 0.1:
            state.pop(self.chance.choice(list(state)))
        return state

    def module(self, name: str) -> State:
        m, p = self.shapes[name]
        weight = self.some(m, p)
        stored = self.chance.choice(["float32", "float32", "float32", "bfloat16", "float16", "float8", "packed"])
        if stored == "packed":
            return {f"{name}.{leaf}": value for leaf, value in self.packed(m, p).items()}
        dtype = torch.float8_e4m3fn if stored == "float8" else getattr(torch, stored)
        state = {f"{name}.weight": weight.to(dtype), f"{name}.bias": self.some(m)}
        if stored == "float8" and self.chance.random() < 0.7:
            state[f"{name}.weight_scale"] = self.some(*self.chance.choice([(1,), (m, 1), (3, 5)]))
        return state

    def packed(self, m: int, p: int) -> State:
        u8, i8, i32 = torch.uint8, torch.int8, torch.int32
        parts: State = self.chance.choice(
            [
                {"weight_packed": self.whole(i32, m, p // 8), "weight_scale": self.some(m, p // 16),
                 "weight_shape": torch.tensor([m, p])},
                {"weight_packed": self.whole(u8, m, p // 2), "weight_scale": self.whole(u8, m, max(p // 32, 1))},
                {"weight": self.whole(i32, m, p // 8).view(torch.uint32), "scales": self.some(m, p // 16),
                 "biases": self.some(m, p // 16)},
                {"W_q": self.whole(u8, m * p // 32, 16), "scale": self.some(m * p // 16, 1),
                 "zero": self.some(m * p // 16, 1), "shape": torch.tensor([m, p])},
                {"_weight_qdata": self.whole(i8, m, p), "_weight_scale": self.some(m, 1)},
                {"weight": self.whole(i8, m, p), "weight_scale": self.some(m, 1)},
                {"weight": self.whole(u8, m * p // 2, 1), "weight.absmax": self.some(m)},
                {"weight._data": self.whole(i8, m, p), "weight._scale": self.some(m, 2)},
                {"qweight": self.whole(i32, p // 8, m), "qzeros": self.whole(i32, 2, 2), "scales": self.some(2, m)},
                {"codes": self.whole(i8, m, p // 8, 1), "codebooks": self.some(1, 256, 1, 8)},
                {"weight": self.whole(torch.int16, m, p), "lora_a": self.some(2, p), "rotation": self.some(p, p)},
            ]
        )  # fmt: skip
        # Half of a packed module, or something of another shape.
        if self.chance.random() < 0.3:
            parts.pop(self.chance.choice(list(parts)[1:]))
        if self.chance.random() < 0.2:
            parts[self.chance.choice(list(parts)[1:] or ["scale"])] = self.some(3, 7)
        return parts

    def buffers(self) -> State:
        return {
            "layers.0.attn.mask": torch.full((9, 9), float("-inf")).triu(1),
            "layers.1.attn.bias": torch.tril(torch.ones(8, 8))[None, None],
            "rotary.cos_cached": self.some(32, 8),
            "position_ids": torch.arange(12)[None],
            "steps": torch.tensor(3),
        }

    def plain(self, name: str) -> None:
        state = self.state()
        if self.chance.random() < 0.3:
            (self.root / name).mkdir()
            self.save(state, self.root / name / "model.safetensors")
            config = self.chance.choice(["{}", "[1]", "{bad", '{"quantization": {"bits": 4, "group_size": 64}}', "7"])
            (self.root / name / "config.json").write_text(config)
        else:
            self.save(state, self.root / f"{name}.safetensors")

    def save(self, state: State, path: Path) -> None:
        save_file({key: value.contiguous().clone() for key, value in state.items()}, path)

    def split(self, name: str, naming: Callable[[int], str]) -> None:
        folder = self.root / name
        folder.mkdir()
        items = list(self.state().items())
        for part in range(2):
            self.save(dict(items[part::2]) or {"x": self.some(1)}, folder / naming(part))
        if self.chance.random() < 0.2:
            (folder / naming(1)).unlink()

    def shards(self, name: str) -> None:
        self.split(name, lambda part: f"model-{part + 1:05d}-of-00002.safetensors")
        if self.chance.random() < 0.3:
            weight_map = {"layers.0.q.weight": self.chance.choice(["../x.safetensors", "gone.safetensors", 3])}
            (self.root / name / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    def ranks(self, name: str) -> None:
        kind = self.chance.choice(["rank{}", "model-rank-{}-part-0", "consolidated.0{}", "model{}-mp2"])
        self.split(name, lambda part: kind.format(part) + ".safetensors")

    def adapter(self, name: str) -> None:
        (self.root / name).mkdir()
        state = {}
        for module in MODULES:
            m, p = self.shapes[module]
            state[f"base_model.model.{module}.lora_A.weight"] = self.some(2, p)
            state[f"base_model.model.{module}.lora_B.weight"] = self.some(m, 2)
        if self.chance.random() < 0.3:
            state["base_model.model.embed.lora_odd.weight"] = self.some(2, 2)
        self.save(state, self.root / name / "adapter_model.safetensors")
        config = self.chance.choice([{"r": 2, "lora_alpha": 4, "peft_type": "LORA"}, {"peft_type": "ODD"}, {}, None])
        if config is not None:
            (self.root / name / "adapter_config.json").write_text(json.dumps(config))

    def broken(self, name: str) -> None:
        path = self.root / f"{name}.safetensors"
        self.save(self.state(), path)
        whole = bytearray(path.read_bytes())
        kind = self.chance.randrange(5)
        if kind == 0:
            whole = whole[: self.chance.randrange(len(whole))]
        elif kind == 1:
            for _ in range(self.chance.randint(1, 20)):
                whole[self.chance.randrange(min(len(whole), 600))] = self.chance.randrange(256)
        elif kind == 2:
            whole = bytearray(self.chance.randbytes(self.chance.randrange(300)))
        elif kind == 3:
            whole = bytearray(b"version https://git-lfs.github.com/spec/v1\nsize 5\n")
        else:
            whole = bytearray(b"<html>sign in</html>")
        path.write_bytes(whole)

    def foreign(self, name: str) -> None:
        ends = [
            "bin",
            "pt",
            "gguf",
            "pth.tar",
            "npz",
            "zip",
            "SAFETENSORS",
            "safetensors.part",
            "distcp",
            "md",
            "",
            "pkl",
        ]
        (self.root / f"{name}.{self.chance.choice(ends)}").write_bytes(self.chance.randbytes(20))

    def link(self, name: str) -> None:
        targets = ["nowhere", ".", "..", f"{name}.safetensors", "m0.safetensors", "m0"]
        (self.root / f"{name}.safetensors").symlink_to(self.chance.choice(targets))

    def cached(self, name: str) -> None:
        snapshot = self.root / f"models--org--{name}" / "snapshots" / ("c" * 40)
        snapshot.mkdir(parents=True)
        if self.chance.random() < 0.7:
            self.save(self.state(), snapshot / "model.safetensors")
        else:
            (snapshot / "model.safetensors").symlink_to("../../blobs/gone")

    def empty(self, name: str) -> None:
        (self.root / name / "deeper").mkdir(parents=True)


def is_meant(name: str) -> bool:
    """Whether a layer is a weight that the writer meant."""
    module = name.removesuffix(":A").removesuffix(":B").removesuffix(".weight")
    return any(module.endswith(meant) for meant in MODULES)


def check(seed: int, root: Path) -> bool:
    """Opens one random folder and computes on it; whether a collection came out."""
    root.mkdir()
    Writer(seed, root).write()
    pickled = seed % 3 == 0
    try:
        found = collect(root, pickled=pickled)
    except UwsError:
        return False
    odd = [layer.name for layer in found.layers if not is_meant(layer.name)]
    assert not odd, f"seed {seed}: {odd} are layers"
    assert all(one.what and one.reason for one in found.left_out), seed
    with contextlib.suppress(UwsError):
        values = gram(found, found.layers[seed % len(found.layers)]).values
        assert np.isfinite(values).all(), seed
    return True


def run(tmp_path: Path, seconds: float, start: int, most: int = 10**9) -> None:
    end, seed, opened = time.monotonic() + seconds, start, 0
    while time.monotonic() < end and seed < start + most:
        try:
            opened += check(seed, tmp_path / str(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        seed += 1
    # Both outcomes are met, so that the test looks at something.
    assert 0 < opened < seed - start


def test_random_folders_for_two_seconds(tmp_path: Path):
    run(tmp_path, 60, start=0, most=100)


@pytest.mark.slow
def test_random_folders_for_five_minutes(tmp_path: Path):
    run(tmp_path, 300, start=10_000)
