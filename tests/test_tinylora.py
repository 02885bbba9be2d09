"""TinyLoRA: stock PEFT loads a compressed folder's basis, holds its members, trains in it, and what it saves joins."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import uws_core as uws
from tests.toy_adapters import Toy, inputs, merged, planted
from tests.vit_module import Vit
from uws_core.cli.main import main
from uws_core.errors import BudgetError, CollectionError, ExportError, LayerError, UnreadableFile
from uws_core.use.tinylora import export_tinylora, join_tinylora, tinylora_to_lora

pytestmark = pytest.mark.usefixtures("results_folder")


@pytest.fixture(scope="module")
def adapters():
    return uws.collect("demo:lora")


@pytest.fixture(scope="module")
def folder(adapters, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in adapters with six directions a side."""
    return uws.compress(adapters, kept=6).write(tmp_path_factory.mktemp("tinylora") / "six")


@pytest.fixture
def toy(tmp_path) -> Path:
    """The planted adapters, compressed without loss."""
    return uws.compress(uws.collect(planted(tmp_path / "adapters")), kept=3).write(tmp_path / "toy")


def network(adapters, member: str) -> Vit:
    """The base of the built-in adapters with a head of the size that a member has."""
    own = load_file(Path(adapters.refs[adapters.labels.index(member)].repo) / "adapter_model.safetensors")
    head = {name: own[f"base_model.model.head.{name.partition('.')[2]}"] for name in ("head.weight", "head.bias")}
    return Vit(load_file(adapters.base.repo) | {name: torch.zeros_like(tensor) for name, tensor in head.items()})


def trainable(model: nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and "head" not in name)


def trained(base: nn.Module, folder: Path, place: Path, *, steps: int = 3) -> tuple[PeftModel, list[float]]:
    """The folder as stock PEFT trains and saves it; the losses of each step."""
    model = PeftModel.from_pretrained(base, folder, is_trainable=True)
    x, wanted = inputs(16), torch.randn(16, 16, generator=torch.Generator().manual_seed(4))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(steps):
        loss = (model(x) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.save_pretrained(place)
    return model, losses


class TestStockPeft:
    @pytest.mark.parametrize("member", ["parity-0", "reconstruction-3", "ten-way-1"])
    def test_it_rebuilds_members(self, adapters, folder, tmp_path, member):
        written = export_tinylora(folder, tmp_path / "tiny", trains="mixture", start=member)
        loaded = PeftModel.from_pretrained(network(adapters, member), written)
        opened = uws.open_compressed(folder)
        for plan in opened.plans:
            layer = loaded.base_model.model.get_submodule(plan.layer.name.removesuffix(".weight"))
            torch.testing.assert_close(
                layer.get_delta_weight("default"), opened.layer(member, plan.layer.name), rtol=0, atol=5e-7
            )
        (plain,) = uws.rebuild(folder, tmp_path / "plain", members=[member])
        x = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(5))
        wanted = PeftModel.from_pretrained(network(adapters, member), plain)(x)
        torch.testing.assert_close(loaded(x), wanted, rtol=1e-5, atol=1e-5)

    def test_trained_numbers_are_those_of_the_cores_or_of_the_members(self, adapters, folder, tmp_path):
        base = network(adapters, "parity-0")
        # Eighteen layers of six directions a side, arXiv 2405.17604's r^2: 18 x 36.
        cores = PeftModel.from_pretrained(
            copy.deepcopy(base), export_tinylora(folder, tmp_path / "core"), is_trainable=True
        )
        assert trainable(cores) == 648
        # Without a start the head is the base's, if the base is there to give it.
        assert not any("modules_to_save" in name for name, _ in cores.named_modules())
        mixture = PeftModel.from_pretrained(
            copy.deepcopy(base),
            export_tinylora(folder, tmp_path / "mix", trains="mixture", model=base),
            is_trainable=True,
        )
        assert trainable(mixture) == 40
        head = mixture.base_model.model.head.modules_to_save["default"]
        torch.testing.assert_close(head.weight.detach(), base.head.weight)
        assert head.weight.requires_grad

    @pytest.mark.filterwarnings("ignore")
    def test_untrained_it_is_the_base_and_with_a_start_the_member(self, tmp_path, toy):
        x = inputs(5)
        for trains in ("core", "mixture"):
            plain = PeftModel.from_pretrained(Toy(), export_tinylora(toy, tmp_path / trains, trains=trains))
            torch.testing.assert_close(plain(x), Toy()(x), rtol=0, atol=0)
            begun = PeftModel.from_pretrained(
                Toy(), export_tinylora(toy, tmp_path / f"{trains}-m4", trains=trains, start="m4")
            )
            wanted = merged(tmp_path / "adapters", "m4", Toy())(x)
            torch.testing.assert_close(begun(x), wanted, rtol=1e-5, atol=1e-5)


class TestAndBack:
    @pytest.mark.parametrize("trains", ["core", "mixture"])
    @pytest.mark.parametrize("start", [None, "m1"])
    def test_what_peft_trained_joins_as_a_member(self, tmp_path, toy, trains, start):
        tiny = export_tinylora(toy, tmp_path / "tiny", trains=trains, start=start, model=Toy())
        model, losses = trained(Toy(), tiny, tmp_path / "trained")
        assert losses[-1] < losses[0]
        joined = join_tinylora(toy, tmp_path / "trained", name="new")
        # It was trained in this basis, so nothing is lost.
        assert joined.error < 1e-3
        opened, x = uws.open_compressed(toy), inputs(4)
        for path in ("first", "second"):
            delta = model.base_model.model.get_submodule(path).get_delta_weight("default")
            torch.testing.assert_close(opened.layer("new", f"{path}.weight"), delta.detach(), rtol=1e-5, atol=1e-5)
        served = uws.serving.attach(Toy(), toy)
        with served.using("new"):
            torch.testing.assert_close(served.model(x), model(x).detach(), rtol=1e-5, atol=1e-5)

    def test_the_vectors_of_two_layers_are_not_exchanged(self, tmp_path):
        """The model's order is not that of the names: PEFT numbers `second` first here."""

        class Turned(Toy):
            def __init__(self) -> None:
                super().__init__()
                first = self.first
                del self.first
                self.first = first

        assert [name for name, _ in Turned().named_children()][-1] == "first"
        place = planted(tmp_path / "adapters")
        toy = uws.compress(uws.collect(place), kept=3).write(tmp_path / "toy")
        model, _ = trained(Turned(), export_tinylora(toy, tmp_path / "tiny", model=Turned()), tmp_path / "trained")
        join_tinylora(toy, tmp_path / "trained", name="new")
        for path in ("first", "second"):
            delta = model.base_model.model.get_submodule(path).get_delta_weight("default").detach()
            stored = uws.open_compressed(toy).layer("new", f"{path}.weight")
            torch.testing.assert_close(stored, delta, rtol=1e-5, atol=1e-5)
        # Without the order the folder is trained all the same, and comes back with the model at hand.
        model, _ = trained(Turned(), export_tinylora(toy, tmp_path / "unordered"), tmp_path / "again")
        with pytest.raises(CollectionError, match=r"order of the model's modules.*give the base as model="):
            join_tinylora(toy, tmp_path / "again")
        join_tinylora(toy, tmp_path / "again", name="other", model=Turned())
        delta = model.base_model.model.first.get_delta_weight("default").detach()
        torch.testing.assert_close(uws.open_compressed(toy).layer("other", "first.weight"), delta, rtol=1e-5, atol=1e-5)

    def test_layers_of_different_sizes_and_diagonal_cores(self, tmp_path):
        place = planted(tmp_path / "adapters", diagonal=True)
        models = uws.collect(place)
        toy = uws.compress(models, kept=3, method="diagonal").write(tmp_path / "toy")
        tiny = export_tinylora(toy, tmp_path / "tiny", model=Toy())
        model, _ = trained(Toy(), tiny, tmp_path / "trained")
        assert trainable(model) == 2 * 3
        assert join_tinylora(toy, tmp_path / "trained", name="new").error < 1e-3
        delta = model.base_model.model.second.get_delta_weight("default").detach()
        torch.testing.assert_close(uws.open_compressed(toy).layer("new", "second.weight"), delta, rtol=1e-4, atol=1e-5)

    def test_conv1d_layers_of_gpt2(self, tmp_path):
        transformers = pytest.importorskip("transformers")
        from peft import LoraConfig, get_peft_model

        config = transformers.GPT2Config(n_embd=12, n_layer=2, n_head=2, vocab_size=32, n_positions=16)
        torch.manual_seed(0)
        base = transformers.GPT2LMHeadModel(config).eval()
        for number in range(3):
            lora = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
            model = get_peft_model(copy.deepcopy(base), lora)
            generator = torch.Generator().manual_seed(number)
            for name, value in model.named_parameters():
                if "lora_" in name:
                    value.data = torch.randn(value.shape, generator=generator) / 4
            model.save_pretrained(tmp_path / "adapters" / f"a{number}")
        written = uws.compress(uws.collect(tmp_path / "adapters"), kept=6).write(tmp_path / "c")
        tiny = export_tinylora(written, tmp_path / "tiny", start="a1", model=base)
        loaded = PeftModel.from_pretrained(copy.deepcopy(base), tiny)
        tokens = torch.randint(0, 32, (2, 5), generator=torch.Generator().manual_seed(0))
        wanted = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "adapters" / "a1")(tokens).logits
        torch.testing.assert_close(loaded(tokens).logits, wanted, rtol=1e-4, atol=1e-4)
        loaded.save_pretrained(tmp_path / "saved")
        assert join_tinylora(written, tmp_path / "saved").error < 1e-3
        layer = "transformer.h.1.attn.c_attn.weight"
        opened = uws.open_compressed(written)
        torch.testing.assert_close(opened.layer("saved", layer), opened.layer("a1", layer), rtol=1e-4, atol=1e-5)

    def test_heads_come_along(self, adapters, folder, tmp_path):
        tiny = export_tinylora(folder, tmp_path / "tiny", trains="mixture", start="parity-2")
        plain = tinylora_to_lora(tiny, tmp_path / "plain")
        own = load_file(Path(adapters.refs[adapters.labels.index("parity-2")].repo) / "adapter_model.safetensors")
        tensors = load_file(plain / "adapter_model.safetensors")
        name = "base_model.model.head.weight"
        torch.testing.assert_close(tensors[name], own[name], rtol=0, atol=0)
        assert json.loads((plain / "adapter_config.json").read_text())["modules_to_save"] == ["head"]


def test_the_commands_export_and_join(tmp_path, toy, capsys):
    assert main(["rebuild", str(toy), "--for", "tinylora", "--into", str(tmp_path / "tiny")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "tiny")]
    assert main(["rebuild", str(toy), "--for", "tinylora", "--member", "m2", "--into", str(tmp_path / "m2")]) == 0
    assert main(["join", str(toy), str(tmp_path / "m2"), "--name", "back"]) == 0
    said = capsys.readouterr().out
    assert "back loses 0%" in said
    opened = uws.open_compressed(toy)
    torch.testing.assert_close(
        opened.layer("back", "first.weight"), opened.layer("m2", "first.weight"), rtol=1e-4, atol=1e-6
    )


class TestBadInput:
    def test_whole_weights(self, tmp_path):
        networks = uws.collect("demo:finetuned")
        written = uws.compress(networks, kept=2, layers=["blocks.0.attn.q.weight"]).write(tmp_path / "c")
        with pytest.raises(CollectionError, match="holds whole weights"):
            export_tinylora(written, tmp_path / "t")

    def test_more_directions_than_a_side(self, tmp_path):
        written = uws.compress(uws.collect(planted(tmp_path / "adapters")), kept=16).write(tmp_path / "c")
        with pytest.raises(CollectionError, match=r"first is 16 x 12 with 16 x 12 directions.*kept=12"):
            export_tinylora(written, tmp_path / "t")

    def test_matrices_that_fill_the_disk(self, monkeypatch, tmp_path, toy):
        monkeypatch.setattr("uws_core.use.tinylora._MOST_BYTES", 500)
        with pytest.raises(BudgetError, match=r"k\^4 numbers a layer.*fewer directions"):
            export_tinylora(toy, tmp_path / "t")

    def test_an_unknown_member_or_way(self, tmp_path, toy):
        with pytest.raises(CollectionError, match="no member 'nobody'"):
            export_tinylora(toy, tmp_path / "t", start="nobody")
        with pytest.raises(CollectionError, match="trains is one of core, mixture"):
            export_tinylora(toy, tmp_path / "t", trains="all")

    def test_a_model_without_the_layers_and_a_folder_that_exists(self, tmp_path, toy):
        with pytest.raises(LayerError, match="lacks 2 of 2 layers, such as first"):
            export_tinylora(toy, tmp_path / "t", model=nn.Linear(2, 2))
        with pytest.raises(ExportError, match="exists"):
            export_tinylora(toy, tmp_path)

    def test_what_is_no_tinylora_or_damaged(self, tmp_path, toy):
        with pytest.raises(CollectionError, match="is LORA, not TINYLORA"):
            join_tinylora(toy, tmp_path / "adapters" / "m0")
        with pytest.raises(UnreadableFile, match="no readable adapter_config"):
            join_tinylora(toy, tmp_path)
        tiny = export_tinylora(toy, tmp_path / "t", start="m0")
        bare = Path(shutil.copytree(tiny, tmp_path / "bare"))
        tensors = load_file(bare / "adapter_model.safetensors")
        save_file({n: t for n, t in tensors.items() if "tinylora_P" not in n}, bare / "adapter_model.safetensors")
        with pytest.raises(CollectionError, match="save_projection=True"):
            join_tinylora(toy, bare)
        (tiny / "adapter_model.safetensors").write_bytes(b"no tensors")
        with pytest.raises(UnreadableFile, match="cannot be read"):
            join_tinylora(toy, tiny)

    def test_another_basis_does_not_fit(self, tmp_path, toy):
        tiny = export_tinylora(toy, tmp_path / "t", trains="mixture", start="m0")
        tensors = load_file(tiny / "adapter_model.safetensors")
        noise = torch.Generator().manual_seed(0)
        other: dict[str, Tensor] = {
            name: torch.randn(tensor.shape, generator=noise) if name.endswith("tinylora_A") else tensor
            for name, tensor in tensors.items()
        }
        save_file(other, tiny / "adapter_model.safetensors")
        assert not join_tinylora(toy, tiny).fits
