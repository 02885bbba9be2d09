"""Compressed folders: written whole or not at all, rebuilt for the programs that load them, joined and left."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

import uws_core as uws
from uws_core.cli.main import main
from uws_core.errors import BudgetError, CollectionError, ExportError, LayerError, NotEnoughModels, UnreadableFile
from uws_core.nouns.models import LowRank
from uws_core.sources.opening import open_source
from uws_core.zoo import vit

pytestmark = pytest.mark.usefixtures("results_folder")


@pytest.fixture(scope="module")
def adapters():
    return uws.collect("demo:lora")


@pytest.fixture(scope="module")
def networks():
    return uws.collect("demo:finetuned")


@pytest.fixture(scope="module")
def four(adapters):
    """The built-in adapters with four directions a side."""
    return uws.compress(adapters, kept=4)


@pytest.fixture(scope="module")
def folder(four, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """They as a folder."""
    return four.write(tmp_path_factory.mktemp("compressed") / "four")


class Small(nn.Module):
    """Two linear layers, one of them square."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


def peft_adapters(place: Path, count: int = 4, **options: object) -> Path:
    """Adapters as PEFT itself writes them, each on its own random factors."""
    for number in range(count):
        config = LoraConfig(r=3, lora_alpha=6, target_modules=["first", "second"], **options)
        model = get_peft_model(Small(), config)
        generator = torch.Generator().manual_seed(number)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(place / f"a{number}")
    return place


class TestFigures:
    def test_bytes_on_disk_are_those_that_were_announced(self, four, folder):
        assert sum(load_bytes(path) for path in folder.rglob("*.safetensors")) == four.bytes

    def test_errors_are_those_of_the_rebuilt_updates(self, adapters, four, folder):
        draft, opened = four, uws.open_compressed(folder)
        for row in (0, 17):
            lost = total = 0.0
            for plan in draft.layers:
                part = open_source(adapters.refs[row]).read(plan.layer.name)
                assert isinstance(part, LowRank)
                update = part.scale * part.up @ part.down
                rebuilt = opened.layer(adapters.labels[row], plan.layer.name)
                lost += float((update - rebuilt).square().sum())
                total += float(update.square().sum())
            assert np.sqrt(lost / total) == pytest.approx(draft.errors[row], rel=1e-4)

    @pytest.mark.parametrize("method", ["in", "out", "two-sided"])
    def test_whole_networks_are_compressed_about_their_mean(self, networks, tmp_path, method):
        layers = ["blocks.0.attn.q.weight", "blocks.0.mlp.up.weight"]
        draft = uws.compress(networks, kept=6, method=method, layers=layers)
        opened = uws.open_compressed(draft.write(tmp_path / "c"))
        weights = np.stack([open_source(ref).read(layers[1]).numpy() for ref in networks.refs]).astype(np.float64)
        rebuilt = np.stack([opened.layer(label, layers[1]).numpy() for label in networks.labels])
        away = np.square(weights - weights.mean(axis=0)).sum(axis=(1, 2))
        lost = np.square(weights - rebuilt).sum(axis=(1, 2))
        np.testing.assert_allclose(np.sqrt(lost / away), draft.layer_errors[1], rtol=2e-3)

    def test_the_base_may_be_the_centre(self, networks, tmp_path):
        layer = "blocks.0.attn.q.weight"
        draft = uws.compress(networks, kept=6, about="base", layers=[layer])
        opened = uws.open_compressed(draft.write(tmp_path / "c"))
        base = open_source(networks.base).read(layer)
        weights = open_source(networks.refs[3]).read(layer)
        lost = (weights - opened.layer(networks.labels[3], layer)).square().sum()
        assert float((lost / (weights - base).square().sum()).sqrt()) == pytest.approx(draft.errors[3], rel=2e-3)

    def test_a_budget_is_kept_and_used(self, adapters):
        uniform = uws.compress(adapters, kept=8, layers=adapters.layers[::3])
        draft = uws.compress(adapters, budget=uniform.bytes, layers=adapters.layers[::3])
        assert draft.untouched_bytes == uniform.untouched_bytes
        own, even = draft.bytes - draft.untouched_bytes, uniform.bytes - uniform.untouched_bytes
        assert 0.95 * even < own <= even
        # Directions go to the layers where they help most.
        assert draft.errors.mean() < uniform.errors.mean()

    def test_an_error_is_kept(self, adapters):
        draft = uws.compress(adapters, error=0.7, layers=adapters.layers[::3])
        assert 0.6 < draft.worst <= 0.7

    def test_the_rivals_stand_beside_it(self, adapters):
        draft = uws.compress(adapters, kept=16)
        own, random = draft.rival("own SVD"), draft.rival("random basis")
        # The built-in adapters share little: their own SVD keeps more at the same bytes, and says so.
        assert own.worst < draft.worst < random.worst
        assert not draft.pays
        assert own.bytes <= draft.bytes - draft.untouched_bytes

    def test_sharing_pays_where_a_basis_is_shared(self, tmp_path):
        generator = torch.Generator().manual_seed(0)
        shared = torch.randn(3, 12, generator=generator), torch.randn(16, 3, generator=generator)
        for number in range(8):
            core = torch.randn(3, 3, generator=generator)
            tensors = {
                "base_model.model.q.lora_A.weight": core @ shared[0],
                "base_model.model.q.lora_B.weight": shared[1].clone(),
            }
            (tmp_path / f"m{number}").mkdir()
            save_file(tensors, tmp_path / f"m{number}" / "adapter_model.safetensors")
            config = {"peft_type": "LORA", "r": 3, "lora_alpha": 3, "target_modules": ["q"]}
            (tmp_path / f"m{number}" / "adapter_config.json").write_text(json.dumps(config))
        draft = uws.compress(uws.collect(tmp_path), kept=3)
        assert draft.pays
        assert draft.worst < 1e-3 < 0.1 < draft.rival("own SVD").worst


def load_bytes(path: Path) -> int:
    return sum(tensor.nbytes for tensor in load_file(path).values())


class TestRebuild:
    def test_a_lossless_folder_gives_the_original_adapter(self, adapters, tmp_path):
        written = uws.compress(adapters, kept=80).write(tmp_path / "c")
        (rebuilt,) = uws.rebuild(written, tmp_path / "r", members=[adapters.labels[5]])
        original = load_file(Path(adapters.refs[5].repo) / "adapter_model.safetensors")
        tensors = load_file(rebuilt / "adapter_model.safetensors")
        assert set(tensors) == set(original)
        config = json.loads((rebuilt / "adapter_config.json").read_text())
        assert config["lora_alpha"] == config["r"] == 4
        for name in (name for name in original if "lora_A" in name):
            up = name.replace("lora_A", "lora_B")
            torch.testing.assert_close(
                tensors[up] @ tensors[name], 2 * original[up] @ original[name], atol=1e-6, rtol=0
            )
        torch.testing.assert_close(
            tensors["base_model.model.head.weight"], original["base_model.model.head.weight"], rtol=0, atol=0
        )

    def test_peft_loads_what_comes_back_and_computes_with_it(self, tmp_path):
        models = uws.collect(peft_adapters(tmp_path / "adapters"))
        opened = uws.open_compressed(uws.compress(models, kept=4).write(tmp_path / "c"))
        (rebuilt,) = uws.rebuild(opened, tmp_path / "r", members=["a2"])
        loaded = PeftModel.from_pretrained(Small(), rebuilt)
        expected, x = Small(), torch.randn(5, 12, generator=torch.Generator().manual_seed(9))
        expected.first.weight.data += opened.layer("a2", "first.weight")
        expected.second.weight.data += opened.layer("a2", "second.weight")
        # Outputs are near 100; float32 products of rank-3 factors differ from those of the full matrix by 3e-5.
        torch.testing.assert_close(loaded(x), expected(x), atol=1e-4, rtol=1e-4)

    def test_mixed_ranks_and_rank_stabilised_scales_come_back_alike_for_every_loader(self, tmp_path):
        models = uws.collect(
            peft_adapters(
                tmp_path / "adapters", rank_pattern={"second": 5}, alpha_pattern={"second": 2}, use_rslora=True
            )
        )
        opened = uws.open_compressed(uws.compress(models, kept=20).write(tmp_path / "c"))
        (rebuilt,) = uws.rebuild(opened, tmp_path / "r", members=["a1"])
        tensors = load_file(rebuilt / "adapter_model.safetensors")
        assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {5}
        config = json.loads((rebuilt / "adapter_config.json").read_text())
        assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (5, 5, False)
        assert not config.get("rank_pattern")
        original = PeftModel.from_pretrained(Small(), tmp_path / "adapters" / "a1")
        x = torch.randn(5, 12, generator=torch.Generator().manual_seed(9))
        torch.testing.assert_close(PeftModel.from_pretrained(Small(), rebuilt)(x), original(x), atol=1e-4, rtol=1e-4)

    def test_a_diagonal_core_wider_than_the_rank_comes_back_whole(self, tmp_path):
        models = uws.collect(peft_adapters(tmp_path / "adapters"))
        opened = uws.open_compressed(uws.compress(models, kept=7, method="diagonal").write(tmp_path / "c"))
        (rebuilt,) = uws.rebuild(opened, tmp_path / "r", members=["a1"])
        loaded = PeftModel.from_pretrained(Small(), rebuilt)
        expected, x = Small(), torch.randn(5, 12, generator=torch.Generator().manual_seed(9))
        expected.first.weight.data += opened.layer("a1", "first.weight")
        expected.second.weight.data += opened.layer("a1", "second.weight")
        torch.testing.assert_close(loaded(x), expected(x), atol=1e-4, rtol=1e-4)

    def test_vllm_gets_a_rank_it_serves(self, tmp_path):
        models = uws.collect(peft_adapters(tmp_path / "adapters"))
        written = uws.compress(models, kept=4).write(tmp_path / "c")
        (rebuilt,) = uws.rebuild(written, tmp_path / "r", members=["a0"], target="vllm", dtype="bfloat16")
        tensors = load_file(rebuilt / "adapter_model.safetensors")
        assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {8}
        assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}

    @pytest.mark.parametrize("target", ["vllm", "llama.cpp"])
    def test_a_target_that_cannot_hold_a_head_refuses_by_name(self, adapters, folder, tmp_path, target):
        with pytest.raises(CollectionError, match=rf"{target}.*cannot load.*head"):
            uws.rebuild(folder, tmp_path, members=[adapters.labels[0]], target=target)
        assert not list(tmp_path.iterdir())

    def test_a_whole_network_comes_back_and_still_works(self, networks, tmp_path):
        written = uws.compress(networks, kept=64, members=range(8)).write(tmp_path / "c")
        (rebuilt,) = uws.rebuild(written, tmp_path / "r", members=[networks.labels[3]])
        original, tensors = load_file(networks.refs[3].repo), load_file(rebuilt / "model.safetensors")
        assert {name: t.shape for name, t in tensors.items()} == {name: t.shape for name, t in original.items()}
        x = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(vit.forward(tensors, x), vit.forward(original, x), atol=1e-4, rtol=1e-4)

    def test_names_from_outside_stay_inside(self, folder, tmp_path):
        opened = uws.open_compressed(folder)
        opened.index["members"][0]["name"] = "../../escape"
        rebuilt = uws.rebuild(opened, tmp_path / "r", members=["../../escape"])[0]
        assert rebuilt.resolve().is_relative_to((tmp_path / "r").resolve())


class TestAsACollection:
    def test_adapters_open_as_rebuilt_updates_in_every_page(self, adapters, folder):
        small = uws.collect(folder)
        assert small.labels == tuple(f"four:{label}" for label in adapters.labels)
        assert {layer.name for layer in small.layers} == {plan.layer.name for plan in uws.open_compressed(folder).plans}
        layer = "blocks.1.attn.q.weight"
        opened = uws.open_compressed(folder)
        flat = np.stack([opened.layer(label, layer).double().numpy().ravel() for label in adapters.labels])
        away = flat - flat.mean(axis=0)
        np.testing.assert_allclose(uws.gram(small, layer).values, away @ away.T, atol=1e-5 * (away**2).sum(1).max())
        # Four directions a side hold at most 16 numbers a model.
        spectrum = uws.spectrum(uws.gram(small, layer))
        assert spectrum.cumulative[15] == pytest.approx(1, abs=1e-5)

    def test_compressed_and_original_stand_side_by_side(self, adapters, folder):
        both = uws.collect([adapters.refs[0], uws.collect(folder).refs[0]])
        layer = "blocks.0.attn.q.weight"
        assert len(both) == 2
        values = uws.gram(both, layer).about("zero")
        norms = np.sqrt(np.diag(values))
        # What a projection keeps is at right angles to what it drops, so cosine = |kept| / |update|.
        assert values[0, 1] / norms.prod() == pytest.approx(norms[1] / norms[0], rel=1e-4)
        assert norms[1] < 0.9 * norms[0]

    def test_a_member_that_joins_leaves_the_others_as_they_were(self, adapters, folder, tmp_path):
        own = Path(shutil.copytree(folder, tmp_path / "four"))
        before = uws.collect(own)
        uws.join(own, adapters.refs[0].repo, name="again")
        after = uws.collect(own)
        assert [ref.commit for ref in after.refs if ref.adapter != "again"] == [ref.commit for ref in before.refs]


class TestJoinAndLeave:
    def test_a_member_that_left_and_joins_again_is_as_before(self, adapters, folder, tmp_path):
        own = Path(shutil.copytree(folder, tmp_path / "c"))
        label, layer = adapters.labels[7], "blocks.1.attn.q.weight"
        before = uws.open_compressed(own)
        error, matrix = before.index["members"][7]["error"], before.layer(label, layer)
        last = before.layer(adapters.labels[39], layer)
        uws.leave(own, label)
        without = uws.open_compressed(own)
        assert label not in without.members
        assert len(without.members) == len(adapters) - 1
        joined = uws.join(own, adapters.refs[7].repo, name=label)
        after = uws.open_compressed(own)
        assert joined.error == pytest.approx(error, rel=1e-5)
        assert joined.fits
        torch.testing.assert_close(after.layer(label, layer), matrix, atol=1e-6, rtol=1e-5)
        assert after.index["revision"] == before.index["revision"] + 2
        torch.testing.assert_close(after.layer(adapters.labels[39], layer), last)

    def test_a_stranger_does_not_fit(self, adapters, folder, tmp_path):
        own = Path(shutil.copytree(folder, tmp_path / "c"))
        stranger = Path(shutil.copytree(adapters.refs[0].repo, tmp_path / "stranger"))
        generator = torch.Generator().manual_seed(0)
        tensors = load_file(stranger / "adapter_model.safetensors")
        random = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in tensors.items()}
        save_file(random, stranger / "adapter_model.safetensors")
        joined = uws.join(own, stranger)
        assert not joined.fits
        assert joined.error == pytest.approx(joined.chance, abs=0.02)
        assert "does not fit" in str(joined)

    def test_another_architecture_is_refused(self, folder, tmp_path):
        own = Path(shutil.copytree(folder, tmp_path / "c"))
        other = peft_adapters(tmp_path / "adapters", 1) / "a0"
        with pytest.raises(CollectionError, match="does not have it"):
            uws.join(own, other)
        assert uws.open_compressed(own).members == uws.open_compressed(folder).members

    def test_whole_networks_join_too(self, networks, tmp_path):
        layers = ["blocks.0.attn.q.weight"]
        draft = uws.compress(networks, kept=6, layers=layers)
        written = draft.write(tmp_path / "c")
        joined = uws.join(written, networks.refs[2].repo, name="again")
        assert joined.error == pytest.approx(draft.errors[2], rel=1e-3)


class TestBadInput:
    def test_a_budget_below_what_travels_untouched(self, adapters):
        with pytest.raises(BudgetError, match="untouched takes"):
            uws.compress(adapters, budget=100)

    def test_a_budget_below_one_direction_a_layer(self, adapters):
        untouched = uws.compress(adapters, kept=1).untouched_bytes
        with pytest.raises(BudgetError, match="One direction a layer"):
            uws.compress(adapters, budget=untouched + 100)

    def test_no_size_or_two(self, adapters):
        for choice in ({}, {"kept": 2, "error": 0.5}):
            with pytest.raises(BudgetError, match="exactly one"):
                uws.compress(adapters, **choice)

    def test_one_model(self, adapters):
        with pytest.raises(NotEnoughModels, match="at least two"):
            uws.compress(adapters, kept=2, members=[0])

    def test_a_model_with_nan_is_named(self, tmp_path):
        place = peft_adapters(tmp_path / "adapters")
        file = place / "a1" / "adapter_model.safetensors"
        tensors = load_file(file)
        next(iter(tensors.values()))[0, 0] = torch.nan
        save_file(tensors, file)
        with pytest.raises(LayerError, match=r"a1.*NaN"):
            uws.compress(uws.collect(place), kept=2)

    def test_an_existing_folder_is_not_touched(self, four, tmp_path):
        (tmp_path / "c").mkdir()
        with pytest.raises(ExportError, match="exists"):
            four.write(tmp_path / "c")

    @pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "newer", "fewer"])
    def test_a_damaged_or_foreign_folder_is_refused(self, folder, tmp_path, damage):
        own = Path(shutil.copytree(folder, tmp_path / "c"))
        index = json.loads((own / "subspace.json").read_text())
        if damage == "missing":
            (own / "basis.safetensors").unlink()
        elif damage == "truncated":
            (own / "members.safetensors").write_bytes((own / "members.safetensors").read_bytes()[:5000])
        elif damage == "foreign":
            (own / "subspace.json").write_text("[]")
        elif damage == "newer":
            (own / "subspace.json").write_text(json.dumps(index | {"version": 99}))
        else:
            (own / "subspace.json").write_text(json.dumps(index | {"members": index["members"][:-1]}))
        with pytest.raises(UnreadableFile, match="no compressed collection, or is damaged"):
            uws.open_compressed(own)

    def test_an_unknown_member(self, folder, tmp_path):
        with pytest.raises(CollectionError, match="no member nobody"):
            uws.rebuild(folder, tmp_path, members=["nobody"])


def test_the_same_models_give_the_same_bytes(adapters, folder, tmp_path):
    again = uws.compress(adapters, kept=4).write(tmp_path / "again")
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path.name


def test_a_full_disk_leaves_nothing_and_the_next_try_writes_the_same(four, folder, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, before[1]))
    try:
        with pytest.raises(ExportError, match=r"cannot be written \(.*too large.*nothing was left"):
            four.write(tmp_path / "w")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
    again = four.write(tmp_path / "w")
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path.name


def test_the_commands_compress_rebuild_and_join(adapters, tmp_path, capsys):
    assert main(["compress", "demo:lora", "--size", "0.3MB", "--to", str(tmp_path / "c"), "--json", "--quiet"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["bytes"] <= 300_000
    assert {rival["way"] for rival in row["rivals"]} >= {"own SVD", "random basis", "mean only", "rounding"}
    assert main(["rebuild", str(tmp_path / "c"), "--member", adapters.labels[0], "--into", str(tmp_path / "r")]) == 0
    assert (tmp_path / "r" / adapters.labels[0] / "adapter_model.safetensors").is_file()
    capsys.readouterr()
    assert main(["join", str(tmp_path / "c"), adapters.refs[0].repo, "--name", "twin"]) == 0
    assert "twin loses" in capsys.readouterr().out
    assert main(["compress", "demo:lora", "--kept", "4", "--dry-run", "--to", str(tmp_path / "d"), "--quiet"]) == 0
    assert "Sharing does not pay" in capsys.readouterr().out
    assert not (tmp_path / "d").exists()
