"""Merged folders: what is in them, how far they lie from everything, what stops a merge, what a killed one leaves."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

import uws_core as uws
from tests.test_merge_second_opinion import peft_adapters, updates
from tests.vit_module import Vit
from uws_core.cli.main import main
from uws_core.errors import BudgetError, Cancelled, CollectionError, ExportError, LayerError, NotEnoughModels
from uws_core.nouns.merging import MergeMethod, MergeRecipe
from uws_core.use.merge.plan import plan_merge
from uws_core.use.merge.writing import WriteOptions, written
from uws_core.zoo import vit
from uws_core.zoo.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("results_folder")
SHAPES = {"blocks.0.q.weight": (48, 32), "blocks.1.q.weight": (48, 32), "norm.bias": (48,), "embed.weight": (60, 32)}


def network(
    path: Path, seed: int, *, kind: torch.dtype = torch.float32, step: float = 0.1, **more: torch.Tensor
) -> Path:
    """A small network a step from one base, in a file or in a folder with its configuration."""
    start, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=start) for name, shape in SHAPES.items()}
    tensors = {name: (t + step * torch.randn(t.shape, generator=own)).to(kind) for name, t in tensors.items()}
    tensors |= {"steps": torch.tensor([7])} | more
    path.mkdir(parents=True)
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"model_type": "toy", "torch_dtype": "float32"}))
    (path / "tokenizer.json").write_text("{}")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("networks")
    network(place / "base", 0, step=0.0)
    for number in range(4):
        network(place / f"m{number}", number + 1)
    return place


@pytest.fixture(scope="module")
def networks(place):
    return uws.collect([str(place / f"m{i}") for i in range(4)], base=str(place / "base"))


def states(place: Path, count: int = 4) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    return load_file(place / "base" / "model.safetensors"), [
        load_file(place / f"m{i}" / "model.safetensors") for i in range(count)
    ]


@pytest.fixture(scope="module")
def adapters():
    return uws.collect("demo:lora")


class TestDistances:
    """What is announced is what lies in the written file, entry by entry."""

    @pytest.mark.parametrize("method", [m for m in MergeMethod if m is not MergeMethod.SLERP])
    def test_whole_weights(self, networks, place, tmp_path, method):
        draft = uws.merge(networks, method=method, scale=0.7, weights=(0.4, 0.3, 0.2, 0.3))
        tensors = load_file(draft.write(tmp_path / "w") / "model.safetensors")
        base, members = states(place)
        for layer in draft.layers:
            name = layer.layer.name
            merged = (tensors[name] - base[name]).double()
            taus = torch.stack([member[name] - base[name] for member in members]).double()
            assert layer.norm == pytest.approx(float(merged.norm()), rel=1e-4)
            assert layer.to_mean == pytest.approx(float((merged - taus.mean(0)).norm()), rel=1e-4, abs=1e-4)
            np.testing.assert_allclose(layer.to_members, [float((merged - tau).norm()) for tau in taus], rtol=1e-4)
            kept = [float((merged * tau).sum() / tau.square().sum()) for tau in taus]
            np.testing.assert_allclose(layer.survives, kept, atol=1e-4)

    @pytest.mark.parametrize("method", [m for m in MergeMethod if m is not MergeMethod.SLERP])
    def test_adapters(self, tmp_path, method):
        adapters = peft_adapters(tmp_path / "adapters", 4)
        draft = uws.merge(uws.collect(adapters), method=method, scale=0.7, rank=6)
        folder = draft.write(tmp_path / "w")
        merged, singles = updates(folder), [updates(adapters / f"a{i}") for i in range(4)]
        for layer in draft.layers:
            module = layer.layer.name.removesuffix(".weight")
            found = merged[module].double()
            taus = torch.stack([one[module] for one in singles]).double()
            assert np.linalg.matrix_rank(found.numpy(), tol=1e-4) <= layer.rank <= 6
            assert layer.norm == pytest.approx(float(found.norm()), rel=1e-4)
            assert layer.to_mean == pytest.approx(float((found - taus.mean(0)).norm()), rel=1e-4)
            np.testing.assert_allclose(layer.to_members, [float((found - tau).norm()) for tau in taus], rtol=1e-4)

    def test_a_cut_to_a_rank_loses_what_it_says(self, tmp_path):
        collection = uws.collect(peft_adapters(tmp_path / "adapters", 4))
        whole, cut = uws.merge(collection), uws.merge(collection, rank=3)
        assert whole.whole.lost2 == pytest.approx(0, abs=1e-9)
        for full, less in zip(whole.layers, cut.layers, strict=True):
            assert less.norm2 + less.lost2 == pytest.approx(full.norm2)
            assert less.to_mean2 == pytest.approx(less.lost2)
            assert 0.05 < less.lost < 0.95

    def test_copies_have_no_distance_without_a_base(self, place):
        import shutil

        for number in range(2):
            shutil.copytree(place / "m0", place / f"copy{number}", dirs_exist_ok=True)
        draft = uws.merge(uws.collect([str(place / f"copy{i}") for i in range(2)]))
        assert draft.about == "zero"
        assert draft.whole.to_mean == 0
        assert draft.whole.to_members.max() < 1e-4 * draft.whole.norm

    def test_streamed_is_held(self, networks, tmp_path):
        # A budget of a few rows of all models: thresholds by two more passes, the same bits.
        for method in ("ties", "breadcrumbs", "sce", "dare", "della", "karcher", "mean"):
            for convention in ("paper", "mergekit"):
                files = [
                    uws.merge(networks, method=method, convention=convention, seed=3, budget=budget).write(
                        tmp_path / f"{method}-{convention}-{budget}"
                    )
                    for budget in (2**28, 2**14)
                ]
                one, other = (load_file(file / "model.safetensors") for file in files)
                for name, tensor in one.items():
                    torch.testing.assert_close(tensor, other[name], rtol=1e-5, atol=1e-7, msg=f"{method} {name}")

    def test_ties_in_the_reading_of_its_paper_trims_over_all_tensors(self, place, tmp_path):
        loud = network(place / "loud", 9, step=0.1)
        tensors = load_file(loud / "model.safetensors")
        base, _ = states(place)
        tensors["blocks.0.q.weight"] = base["blocks.0.q.weight"] + 1e-3
        save_file(tensors, loud / "model.safetensors")
        collection = uws.collect([str(loud), str(place / "m1")], base=str(place / "base"))
        found = {}
        for convention in ("paper", "mergekit"):
            draft = uws.merge(collection, method="ties", density=0.3, convention=convention)
            found[convention] = load_file(draft.write(tmp_path / convention) / "model.safetensors")
        quiet = "blocks.0.q.weight"
        # The quiet tensor of the loud model loses all its entries to its other tensors; by itself it keeps 30 %.
        only = {name: (one[quiet] - base[quiet] - 1e-3).abs() < 1e-4 for name, one in found.items()}
        assert int(only["paper"].sum()) == 0
        assert int(only["mergekit"].sum()) > 100


class TestFolder:
    def test_what_is_no_layer_follows_the_rule(self, networks, place, tmp_path):
        folder = uws.merge(networks, scale=0.5).write(tmp_path / "w")
        tensors, (base, members) = load_file(folder / "model.safetensors"), states(place)
        bias = base["norm.bias"] + 0.5 * torch.stack([m["norm.bias"] - base["norm.bias"] for m in members]).mean(0)
        torch.testing.assert_close(tensors["norm.bias"], bias)
        assert tensors["steps"].tolist() == [7]
        assert sorted(path.name for path in folder.iterdir()) == [
            "config.json", "merge.json", "model.safetensors", "recipe.yaml", "tokenizer.json",
        ]  # fmt: skip
        said = json.loads((folder / "merge.json").read_text())
        assert [one["commit"] for one in said["members"]] == [ref.commit for ref in networks.refs]
        assert "Copied from the base, not being alike in all models: steps" in said["notes"]

    def test_shards_with_an_index_load_in_transformers_manner(self, networks, tmp_path):
        one = uws.merge(networks).write(tmp_path / "one")
        many = uws.merge(networks).write(tmp_path / "many", shard_bytes=8000)
        index = json.loads((many / "model.safetensors.index.json").read_text())
        whole = load_file(one / "model.safetensors")
        assert set(index["weight_map"]) == set(whole)
        assert len(set(index["weight_map"].values())) > 2
        assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())
        for name, file in index["weight_map"].items():
            torch.testing.assert_close(load_file(many / file)[name], whole[name], rtol=0, atol=0)
        # A folder that can be opened again beside its members.
        again = uws.collect([str(many), *(ref.repo for ref in networks.refs)])
        assert len(again) == 5

    def test_types_are_kept_or_as_asked(self, place, tmp_path):
        for number in range(2):
            network(tmp_path / f"half{number}", number, kind=torch.bfloat16)
        collection = uws.collect([str(tmp_path / f"half{i}") for i in range(2)])
        kept = load_file(uws.merge(collection).write(tmp_path / "kept") / "model.safetensors")
        assert kept["embed.weight"].dtype == torch.bfloat16
        folder = uws.merge(collection, dtype="float16").write(tmp_path / "half")
        assert load_file(folder / "model.safetensors")["embed.weight"].dtype == torch.float16
        assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "float16"

    def test_embeddings_of_other_lengths_are_the_bases(self, place, tmp_path):
        longer = network(tmp_path / "longer", 8)
        tensors = load_file(longer / "model.safetensors")
        tensors["embed.weight"] = torch.cat([tensors["embed.weight"], torch.zeros(4, 32)])
        save_file(tensors, longer / "model.safetensors")
        collection = uws.collect([str(longer), str(place / "m1")], base=str(place / "base"))
        draft = uws.merge(collection)
        assert any("embed.weight" in note for note in draft.notes)
        found = load_file(draft.write(tmp_path / "w") / "model.safetensors")
        torch.testing.assert_close(found["embed.weight"], states(place)[0]["embed.weight"], rtol=0, atol=0)

    def test_layers_that_are_not_chosen_stay_the_bases(self, networks, place, tmp_path):
        folder = uws.merge(networks, layers=["blocks.1.q.weight"]).write(tmp_path / "w")
        found, (base, _) = load_file(folder / "model.safetensors"), states(place)
        torch.testing.assert_close(found["blocks.0.q.weight"], base["blocks.0.q.weight"], rtol=0, atol=0)
        assert not torch.equal(found["blocks.1.q.weight"], base["blocks.1.q.weight"])

    def test_a_merge_of_the_built_in_networks_still_works(self, tmp_path):
        collection = uws.collect("demo:finetuned")
        members = [label for label in collection.labels if label.startswith("parity")]
        folder = uws.merge(collection, members=members, method="ties", density=0.8).write(tmp_path / "w")
        merged, own = load_file(folder / "model.safetensors"), load_file(collection.refs[0].repo)
        row = {"model": "merge", "task": "parity"}
        heads = load_file(collection.refs[collection.labels.index(members[0])].repo)
        with_head = merged | {name: heads[name] for name in ("head.weight", "head.bias")}
        assert set(with_head) == set(own)
        assert evaluate(with_head, row) > 0.8
        assert vit.forward(with_head, torch.rand(2, 8, 8)).shape[0] == 2


class TestAdapterFolder:
    def test_a_merge_of_the_built_in_adapters_loads_in_peft(self, adapters, tmp_path):
        members = [label for label in adapters.labels if label.startswith("parity")]
        folder = uws.merge(adapters, members=members, method="tsv", rank=8).write(tmp_path / "w")
        tensors = load_file(folder / "adapter_model.safetensors")
        base = load_file(adapters.base.repo)
        base |= {name: tensors[f"base_model.model.{name}"] for name in ("head.weight", "head.bias")}
        loaded = PeftModel.from_pretrained(Vit(base), folder)
        expected = dict(base)
        for name in vit.block_matrices():
            module = f"base_model.model.{name.removesuffix('.weight')}"
            expected[name] = base[name] + tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]
        pictures = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(loaded(pictures), vit.forward(expected, pictures), atol=1e-4, rtol=1e-4)
        assert evaluate(expected, {"model": "merge", "task": "parity"}) > 0.8
        # The head that all four trained whole is their mean.
        heads = [load_file(Path(ref.repo) / "adapter_model.safetensors") for ref in adapters.refs]
        own = [heads[adapters.labels.index(m)]["base_model.model.head.bias"] for m in members]
        torch.testing.assert_close(tensors["base_model.model.head.bias"], torch.stack(own).mean(0))
        assert loaded.peft_config["default"].lora_alpha == 8

    @pytest.mark.parametrize(("target", "rank"), [("vllm", 8), ("llama.cpp", 6), ("peft", 6)])
    def test_every_target_gets_a_rank_it_serves(self, tmp_path, target, rank):
        collection = uws.collect(peft_adapters(tmp_path / "adapters"))
        folder = uws.merge(collection, rank=6, dtype="bfloat16").write(tmp_path / "w", target=target)
        tensors = load_file(folder / "adapter_model.safetensors")
        assert {t.shape[0] for name, t in tensors.items() if "lora_A" in name} == {rank}
        assert {t.dtype for t in tensors.values()} == {torch.bfloat16}
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (rank, rank, False)

    def test_heads_are_averaged_taken_or_left_out(self, adapters, tmp_path):
        members = [label for label in adapters.labels if label.startswith("parity")]
        name = "base_model.model.head.weight"
        with pytest.raises(CollectionError, match=r"vllm cannot load.*head.*drop"):
            uws.merge(adapters, members=members).write(tmp_path / "a", target="vllm")
        assert not list(tmp_path.iterdir())
        dropped = uws.merge(adapters, members=members, beside="drop").write(tmp_path / "b", target="vllm")
        assert name not in load_file(dropped / "adapter_model.safetensors")
        taken = uws.merge(adapters, members=members, beside=members[2]).write(tmp_path / "c")
        row = adapters.labels.index(members[2])
        own = load_file(Path(adapters.refs[row].repo) / "adapter_model.safetensors")
        torch.testing.assert_close(load_file(taken / "adapter_model.safetensors")[name], own[name])

    def test_ranks_that_add_up_past_the_layer(self, adapters):
        draft = uws.merge(adapters)
        assert {layer.rank for layer in draft.layers} == {32}
        assert draft.whole.lost == pytest.approx(0, abs=1e-12)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "error", "reason"),
        [
            ({"members": [0]}, NotEnoughModels, "at least 2 models; 1"),
            ({"members": [0, 0]}, CollectionError, "named twice"),
            ({"members": [9]}, CollectionError, "rows 0 to 3"),
            ({"members": ["nobody", "m1"]}, CollectionError, "no model 'nobody'"),
            ({"method": "magic"}, CollectionError, "no merge method; there are mean"),
            ({"method": "slerp"}, NotEnoughModels, "joins 2 models; 4"),
            ({"method": "linear", "weights": (1, -1, 1, -1)}, CollectionError, "sum to zero"),
            ({"method": "task-arithmetic", "weights": (0, 0, 0, 0)}, CollectionError, "sum to zero"),
            ({"weights": (1, 2)}, CollectionError, "2 weights for 4 models"),
            ({"method": "linear", "weights": (1, 2, 3, float("nan"))}, CollectionError, "finite"),
            ({"scale": 1e6}, CollectionError, "between -100 and 100"),
            ({"scale": float("inf")}, CollectionError, "between -100 and 100"),
            ({"method": "ties", "density": 1.5}, CollectionError, "density lies between 0 and 1"),
            ({"method": "della", "density": 0.1}, CollectionError, "DELLA keeps entries"),
            ({"method": "tsv", "rank": 100}, CollectionError, "above 48|above 32"),
            ({"method": "tsv", "rank": 0}, CollectionError, "at least 1"),
            ({"convention": "mine"}, CollectionError, "paper, mergekit, peft"),
            ({"dtype": "int4"}, CollectionError, "auto, float32"),
            ({"method": "iso-c", "budget": 20_000}, BudgetError, "decomposes whole matrices"),
            ({"layers": ["nothing"]}, LayerError, "none called nothing"),
        ],
    )  # fmt: skip
    def test_is_refused_with_a_way_out(self, networks, options, error, reason):
        with pytest.raises(error, match=reason):
            uws.merge(networks, **options)

    def test_no_base_where_one_is_needed(self, place):
        collection = uws.collect([str(place / f"m{i}") for i in range(2)])
        with pytest.raises(LayerError, match="merges updates, and the base"):
            uws.merge(collection, method="ties")
        with pytest.raises(LayerError, match=r"scale of 0\.5"):
            uws.merge(collection, scale=0.5)

    @pytest.mark.parametrize("method", ["mean", "ties", "iso-c"])
    def test_a_model_with_nan_is_named_and_nothing_is_left(self, place, tmp_path, method):
        bad = network(tmp_path / "bad", 5)
        tensors = load_file(bad / "model.safetensors")
        tensors["blocks.1.q.weight"][3, 3] = torch.nan
        save_file(tensors, bad / "model.safetensors")
        collection = uws.collect([str(bad), str(place / "m1")], base=str(place / "base"))
        with pytest.raises(LayerError, match=r"blocks\.1\.q\.weight: weights of bad"):
            uws.merge(collection, method=method)
        plan = plan_merge(collection, MergeRecipe(method=MergeMethod.of(method)), budget=2**28)
        with pytest.raises(LayerError):
            written(plan, tmp_path / "out", WriteOptions(), report=lambda *_: None)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad"]

    def test_adapters_with_nan(self, tmp_path):
        adapters = peft_adapters(tmp_path / "adapters")
        file = adapters / "a1" / "adapter_model.safetensors"
        tensors = load_file(file)
        next(iter(tensors.values()))[0, 0] = torch.nan
        save_file(tensors, file)
        with pytest.raises(LayerError, match="a1 are NaN"):
            uws.merge(uws.collect(adapters))

    def test_a_rank_above_what_the_layers_have(self, tmp_path):
        collection = uws.collect(peft_adapters(tmp_path / "adapters"))
        with pytest.raises(CollectionError, match="rank 17 is above 16"):
            uws.merge(collection, rank=17)

    def test_a_folder_that_exists_and_one_that_cannot_be_made(self, networks, tmp_path):
        draft = uws.merge(networks)
        with pytest.raises(ExportError, match="exists"):
            draft.write(tmp_path)
        (tmp_path / "file").write_text("")
        with pytest.raises(ExportError, match="cannot be written"):
            draft.write(tmp_path / "file" / "w")

    def test_a_full_disk_leaves_nothing(self, networks, tmp_path, monkeypatch):
        from uws_core.use import tensor_file

        real, count = tensor_file.TensorFile.write_part, iter(range(99))

        def full(self, name, values):
            if next(count) == 2:
                raise OSError(28, "No space left on device")
            real(self, name, values)

        monkeypatch.setattr(tensor_file.TensorFile, "write_part", full)
        with pytest.raises(ExportError, match=r"No space left.*nothing was left"):
            uws.merge(networks).write(tmp_path / "w")
        assert not list(tmp_path.iterdir())

    def test_adapters_that_the_disk_does_not_take_leave_nothing(self, tmp_path):
        draft = uws.merge(uws.collect(peft_adapters(tmp_path / "adapters")))
        (tmp_path / "out").mkdir()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        try:
            with pytest.raises(ExportError, match=r"too large.*nothing was left"):
                draft.write(tmp_path / "out" / "w")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not list((tmp_path / "out").iterdir())

    def test_a_disk_without_room_is_noticed_before(self, networks, tmp_path, monkeypatch):
        from collections import namedtuple

        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr("uws_core.use.merge.writing.shutil.disk_usage", lambda _: usage(0, 0, 100))
        with pytest.raises(ExportError, match="more, the disk has 100 bytes free"):
            uws.merge(networks).write(tmp_path / "w")
        assert not list(tmp_path.iterdir())


class TestGoingOn:
    def test_a_stopped_writer_goes_on_where_it_was(self, networks, tmp_path):
        draft = uws.merge(networks, method="ties")
        expected = draft.write(tmp_path / "whole", shard_bytes=9000)
        names: list[str] = []

        def stop(fraction, message):
            names.append(message)
            if len(names) == 3:
                raise Cancelled("stopped")

        with pytest.raises(Cancelled):
            draft.write(tmp_path / "w", shard_bytes=9000, report=stop)
        assert not (tmp_path / "w").exists()
        again: list[str] = []
        written_folder = draft.write(tmp_path / "w", shard_bytes=9000, report=lambda _, message: again.append(message))
        # Each tensor was merged once, by one of the two.
        assert sorted(names + again) == sorted(f"{name} merged" for name in (*SHAPES, "steps"))
        for path in expected.iterdir():
            assert path.read_bytes() == (written_folder / path.name).read_bytes(), path.name

    def test_another_recipe_begins_anew(self, networks, tmp_path):
        def stop(fraction, message):
            raise Cancelled("stopped")

        with pytest.raises(Cancelled):
            uws.merge(networks, method="ties").write(tmp_path / "w", report=stop)
        folder = uws.merge(networks).write(tmp_path / "w")
        one = uws.merge(networks).write(tmp_path / "one")
        assert (folder / "model.safetensors").read_bytes() == (one / "model.safetensors").read_bytes()

    def test_a_killed_writer_leaves_nothing_half_written(self, networks, place, tmp_path):
        code = f"""
import sys, time, uws_core as uws
from uws_core.use.merge import network
def slow(self, one, **options):
    time.sleep(0.3)
    return real(self, one, **options)
collection = uws.collect({[ref.repo for ref in networks.refs]!r}, base={networks.base.repo!r})
draft = uws.merge(collection)
real, network.Network.pieces = network.Network.pieces, slow
print("go", flush=True)
draft.write({str(tmp_path / "w")!r})
"""
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        log = tmp_path / ".w.part" / "tensors.done"
        while not (log.exists() and log.read_text().count("\n") >= 2):
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "w").exists()
        done: list[str] = []
        folder = uws.merge(networks).write(tmp_path / "w", report=lambda _, message: done.append(message))
        assert 0 < len(done) < 5
        one = uws.merge(networks).write(tmp_path / "one")
        assert (folder / "model.safetensors").read_bytes() == (one / "model.safetensors").read_bytes()
        assert not (tmp_path / ".w.part").exists()


class TestCommand:
    def run(self, capsys, *words: str) -> tuple[int, str, str]:
        code = main(["merge", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    def test_distances_first_and_a_folder_on_request(self, place, tmp_path, capsys):
        models = [str(place / f"m{i}") for i in range(3)]
        words = [*models, "--base", str(place / "base"), "--quiet", "--method", "ties", "--scale", "0.5"]
        code, out, err = self.run(capsys, *words, "--out", str(tmp_path / "w"), "--dry-run")
        assert code == 0
        assert "ties at scale 0.5 lies" in out
        assert "to read" in err
        assert not list(tmp_path.iterdir())
        code, out, err = self.run(capsys, *words, "--weights", "1,2,1", "--out", str(tmp_path / "w"), "--json")
        row = json.loads(out)
        assert row["folder"] == str(tmp_path / "w")
        assert row["recipe"]["weights"] == [1.0, 2.0, 1.0]
        assert [one["weight"] for one in row["models"]] == [1, 2, 1]
        assert json.loads((tmp_path / "w" / "merge.json").read_text())["whole"]["norm"] == pytest.approx(row["norm"])

    def test_a_recipe_in_place_of_models(self, place, tmp_path, capsys):
        models = [str(place / f"m{i}") for i in range(3)]
        words = [*models, "--base", str(place / "base"), "--quiet", "--method", "task_arithmetic", "--scale", "0.3"]
        self.run(capsys, *words, "--out", str(tmp_path / "a"))
        code, _, err = self.run(
            capsys, "--recipe", str(tmp_path / "a/recipe.yaml"), "--out", str(tmp_path / "b"), "--quiet"
        )
        assert code == 0, err
        one, other = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
        for name, tensor in one.items():
            torch.testing.assert_close(tensor, other[name], rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            ([], "Name models, or a recipe"),
            (["demo:lora", "--recipe", "x.yaml"], "and not both"),
            (["--recipe", "nowhere.yaml"], "no recipe that can be read"),
            (["demo:lora", "--method", "magic"], "no merge method"),
            (["demo:lora", "--models", "parity-0"], "at least 2"),
            (["demo:lora", "--models", "parity-0", "parity-1", "--weights=1,-1", "--method=linear"], "sum to zero"),
        ],
    )  # fmt: skip
    def test_a_mistake_is_answered(self, capsys, words, reason):
        code, _, err = self.run(capsys, *words, "--quiet")
        assert code == 1
        assert reason in err
