"""Merging whole models beside plain reading and writing and beside mergekit; adapters beside dense products.

`UWS_BENCH_MIB` sets the size of one model (128 by default; the aim is stated for 1024).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.bench.measure import apart, table, verdict
from uws_core.nouns.merging import MergeMethod, MergeRecipe
from uws_core.nouns.models import LayerKey
from uws_core.use.merge.adapters import merged_layer

pytestmark = pytest.mark.bench

COUNT, WIDTH, INNER, VOCABULARY = 8, 1024, 2816, 4096
MIB = int(os.environ.get("UWS_BENCH_MIB", "128"))


def llamas(place: Path) -> int:
    """A base and eight models near it in the layout of a Llama, bfloat16; returns the number of blocks."""
    block = 2 * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER + 2 * WIDTH)
    blocks = max(1, round((MIB * 2**20 - 4 * VOCABULARY * WIDTH) / block))
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "lm_head.weight": (VOCABULARY, WIDTH)}
    shapes["model.norm.weight"] = (WIDTH,)
    for i in range(blocks):
        own = f"model.layers.{i}"
        shapes |= {f"{own}.self_attn.{part}_proj.weight": (WIDTH, WIDTH) for part in "qkvo"}
        shapes |= {f"{own}.mlp.{part}_proj.weight": (INNER, WIDTH) for part in ("gate", "up")}
        shapes |= {f"{own}.mlp.down_proj.weight": (WIDTH, INNER)}
        shapes |= {f"{own}.{norm}_layernorm.weight": (WIDTH,) for norm in ("input", "post_attention")}
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER,
        "num_hidden_layers": blocks, "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    start = {name: torch.randn(shape) * 0.02 for name, shape in shapes.items()}
    for name in ("base", *(f"m{i}" for i in range(COUNT))):
        (place / name).mkdir(parents=True)
        step = 0.0 if name == "base" else 0.002
        state = {key: (value + step * torch.randn(value.shape)).bfloat16() for key, value in start.items()}
        save_file(state, place / name / "model.safetensors", metadata={"format": "pt"})
        (place / name / "config.json").write_text(json.dumps(config))
    return blocks


HEAD = """
import json, os, sys, time, torch
from pathlib import Path
from tests.bench.measure import Peak
torch.set_num_threads(2)
place, out = Path(sys.argv[1]), Path(sys.argv[2])
models = [place / f"m{i}" for i in range(8)]
"""
PLAIN = (
    HEAD
    + """
piece = bytearray(2**24)
with Peak() as peak:
    began = time.perf_counter()
    for model in [*models, place / "base"]:
        with (model / "model.safetensors").open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass
    size = (place / "base" / "model.safetensors").stat().st_size
    with out.open("wb") as file:
        while size > 0:
            size -= file.write(memoryview(piece)[:min(size, len(piece))])
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "peak_mib": peak.mib}))
"""
)
OURS = (
    HEAD
    + """
import uws_core as uws
from uws_core.nouns.merging import MergeRecipe
from uws_core.use.merge.plan import plan_merge
from uws_core.use.merge.writing import WriteOptions, written
recipe = MergeRecipe.from_dict(json.loads(sys.argv[3]))
collection = uws.collect([str(model) for model in models], base=str(place / "base"))
torch.ones(64, 64) @ torch.ones(64, 64)
with Peak() as peak:
    began = time.perf_counter()
    written(plan_merge(collection, recipe, budget=2**28), out, WriteOptions(), report=lambda *_: None)
    seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "peak_mib": peak.mib}))
"""
)
THEIRS = (
    HEAD
    + """
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
config = MergeConfiguration.model_validate(yaml.safe_load(Path(sys.argv[3]).read_text()))
options = MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False, lazy_unpickle=True)
with Peak() as peak:
    began = time.perf_counter()
    run_merge(config, str(out), options)
    seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "peak_mib": peak.mib}))
"""
)
METHODS = {
    "mean": {"method": "mean"},
    "task arithmetic": {"method": "task-arithmetic", "scale": 0.3},
    "TIES": {"method": "ties", "density": 0.5},
    "DARE": {"method": "dare", "density": 0.5},
}


def test_eight_models_against_plain_reading_and_mergekit(tmp_path: Path) -> None:
    blocks = llamas(tmp_path / "models")
    places = str(tmp_path / "models")
    rows, ratios = [], {}
    for name, options in METHODS.items():
        plain = apart(PLAIN, places, str(tmp_path / "plain"))
        ours_at = tmp_path / f"ours-{options['method']}"
        ours = apart(OURS, places, str(ours_at), json.dumps(options | {"convention": "mergekit"}))
        ratios[name] = ours["seconds"] / plain["seconds"]
        rows.append((name, "read and write", plain["seconds"], 1.0, plain["peak_mib"], ""))
        rows.append((name, "uws", ours["seconds"], ratios[name], ours["peak_mib"], ""))
        recipe = ours_at / "recipe.yaml"
        for title, kinds in (("mergekit", {}), ("mergekit float32", {"dtype": "float32", "out_dtype": "bfloat16"})):
            # mergekit computes in the files' own type unless it is told another.
            content = yaml.safe_load(recipe.read_text())
            content = {key: value for key, value in content.items() if key not in ("dtype", "out_dtype")} | kinds
            (tmp_path / "asked.yaml").write_text(yaml.safe_dump(content))
            out = tmp_path / f"theirs-{options['method']}-{len(kinds)}"
            theirs = apart(THEIRS, places, str(out), str(tmp_path / "asked.yaml"))
            ratio = theirs["seconds"] / plain["seconds"]
            difference = "" if name == "DARE" else f"{_difference(ours_at, out):.1e}"
            rows.append((name, title, theirs["seconds"], ratio, theirs["peak_mib"], difference))
    title = f"{COUNT} models and a base of {MIB} MiB, bfloat16, {blocks} blocks"
    table(title, ("method", "route", "seconds", "times plain", "peak MiB", "largest difference"), rows)
    for name, limit in (("mean", 1.5), ("task arithmetic", 1.5), ("DARE", 3), ("TIES", 3)):
        print(f"{name} / plain:", verdict(ratios[name], limit))
    assert all(row[4] < 256 + 300 for row in rows if row[1] == "uws")


def _difference(ours: Path, theirs: Path) -> float:
    one = load_file(ours / "model.safetensors")
    other = {name: t for path in theirs.glob("*.safetensors") for name, t in load_file(path).items()}
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


@pytest.mark.parametrize("method", ["tsv", "core"])
def test_fifty_adapters_against_dense_products(method: str) -> None:
    torch.set_num_threads(2)
    side, rank, count = 4096, 16, 50
    generator = np.random.default_rng(0)
    ups = [generator.standard_normal((side, rank)) for _ in range(count)]
    downs = [generator.standard_normal((rank, side)) for _ in range(count)]
    key, labels = LayerKey("layer", (side, side)), [f"m{i}" for i in range(count)]
    recipe = MergeRecipe(method=MergeMethod.of(method), rank=rank, convention="paper")
    began = time.perf_counter()
    merged_layer(recipe, key, ups, downs, labels)
    thin = time.perf_counter() - began
    # One of the fifty decompositions that the dense form of either method begins with, in float32.
    product = torch.from_numpy(ups[0] @ downs[0]).float()
    began = time.perf_counter()
    torch.linalg.svd(product, full_matrices=False)
    one = time.perf_counter() - began
    table(
        f"{method}: {count} adapters of rank {rank}, {side} x {side}",
        ("route", "seconds"),
        [("thin factors", thin), ("one dense SVD", one), (f"{count} dense SVDs, from one", count * one)],
    )
    print(f"times faster: {count * one / thin:.0f} (aim 20)")
    assert count * one / thin > 20
