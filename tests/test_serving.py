"""Serving: the members of a compressed folder from one model, each equal to the adapter that PEFT loads."""

from __future__ import annotations

import copy
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch._dynamo.testing
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import uws_core as uws
from tests.toy_adapters import Toy, inputs, merged, planted
from tests.vit_module import Vit
from uws_core.errors import CollectionError, LayerError
from uws_core.use.rebuild import state
from uws_core.zoo import vit

pytestmark = pytest.mark.usefixtures("results_folder")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
# float32: single members take the same products in another order than PEFT.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def adapters():
    return uws.collect("demo:lora")


@pytest.fixture(scope="module")
def folder(adapters, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in adapters with four directions a side."""
    return uws.compress(adapters, kept=4).write(tmp_path_factory.mktemp("serving") / "four")


@pytest.fixture(scope="module")
def base(adapters) -> dict[str, Tensor]:
    return load_file(adapters.base.repo)


@pytest.fixture(scope="module")
def by_peft(folder, base, tmp_path_factory) -> dict[str, tuple[Tensor, Tensor]]:
    """Every member rebuilt and loaded by PEFT: what its head reads, and its outputs."""
    rebuilt = uws.rebuild(folder, tmp_path_factory.mktemp("rebuilt"))
    outputs = {}
    for name, place in zip(uws.open_compressed(folder).members, rebuilt, strict=True):
        head = load_file(place / "adapter_model.safetensors")["base_model.model.head.weight"]
        network = Vit(base | {"head.weight": head, "head.bias": torch.zeros(head.shape[0])})
        loaded = PeftModel.from_pretrained(network, place)
        with torch.no_grad():
            outputs[name] = loaded.base_model.model.features(images()), loaded(images())
    return outputs


def images(count: int = 3) -> Tensor:
    return torch.rand(count, vit.SIDE, vit.SIDE, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def toy(tmp_path) -> Path:
    """The planted adapters, compressed without loss."""
    return uws.compress(uws.collect(planted(tmp_path / "adapters")), kept=3).write(tmp_path / "toy")


class TestDemoLora:
    def test_the_module_is_the_built_in_network(self, base):
        torch.testing.assert_close(Vit(base)(images()), vit.forward(base, images()), **CLOSE)

    @pytest.mark.parametrize("device", DEVICES)
    def test_every_member_equals_the_adapter_that_peft_loads(self, folder, base, by_peft, device):
        served = uws.serving.attach(Vit(base).to(device), folder)
        assert served.members == tuple(by_peft)
        for name, (features, outputs) in by_peft.items():
            with served.using(name):
                torch.testing.assert_close(served.model.features(images().to(device)).cpu(), features, **CLOSE)
                torch.testing.assert_close(served.model(images().to(device)).cpu(), outputs, **CLOSE)

    @pytest.mark.parametrize("device", DEVICES)
    def test_one_member_a_row(self, folder, base, by_peft, device):
        names = [*by_peft][::-1]
        served = uws.serving.attach(Vit(base).to(device), folder)
        rows = images(1).expand(len(names) + 1, -1, -1).to(device)
        with served.using([*names, None]):
            features = served.model.features(rows).cpu()
        wanted = [by_peft[name][0][0] for name in names]
        torch.testing.assert_close(features, torch.stack([*wanted, Vit(base).features(images(1))[0]]), **CLOSE)

    @pytest.mark.parametrize("device", DEVICES)
    def test_every_member_with_its_own_head_in_a_mixed_batch(self, folder, base, by_peft, device):
        served = uws.serving.attach(Vit(base).to(device), folder)
        by_shape: dict[torch.Size, list[str]] = {}
        for name, (_, outputs) in by_peft.items():
            by_shape.setdefault(outputs.shape[1:], []).append(name)
        assert len(by_shape) > 1
        for names in by_shape.values():
            # Each member twice, so that its rows are not neighbours.
            names = [*names, *names[::-1]]
            pictures = images(len(names)).to(device)
            with served.using(names):
                mixed = served.model(pictures)
            for row, name in enumerate(names):
                with served.using(name):
                    torch.testing.assert_close(mixed[row : row + 1], served.model(pictures[row : row + 1]), **CLOSE)
            with served.using(names[:3]):
                wanted = torch.stack([by_peft[name][1][row] for row, name in enumerate(names[:3])])
                torch.testing.assert_close(served.model(images().to(device)).cpu(), wanted, **CLOSE)

    def test_heads_of_different_shapes_say_what_to_do(self, folder, base):
        served = uws.serving.attach(Vit(base), folder)
        with served.using(["prime-0", "reconstruction-0"]), pytest.raises(CollectionError, match="different shapes"):
            served.model(images(2))

    @pytest.mark.parametrize("device", DEVICES)
    def test_eight_threads_at_once(self, folder, base, by_peft, device):
        served = uws.serving.attach(Vit(base).to(device), folder)
        start, pictures = threading.Barrier(8), images().to(device)

        def visitor(number: int) -> int:
            start.wait()
            names = [*by_peft][number::8]
            for _ in range(4):
                for name in names:
                    with served.using(name):
                        torch.testing.assert_close(served.model(pictures).cpu(), by_peft[name][1], **CLOSE)
                with served.using(names[:3]):
                    wanted = torch.stack([by_peft[name][0][row] for row, name in enumerate(names[:3])])
                    torch.testing.assert_close(served.model.features(pictures).cpu(), wanted, **CLOSE)
            return len(names)

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(visitor, range(8))) == len(by_peft)


@pytest.mark.parametrize("device", DEVICES)
class TestPlanted:
    def test_members_are_the_adapters_they_were_made_from(self, tmp_path, toy, device):
        served = uws.serving.attach(Toy().to(device), toy)
        for shape in ((5,), (2, 7), (2, 3, 4), ()):
            x = inputs(*shape)
            for name in ("m0", "m4"):
                wanted = merged(tmp_path / "adapters", name, Toy())(x)
                with served.using(name):
                    torch.testing.assert_close(served.model(x.to(device)).cpu(), wanted, **CLOSE)
            if shape:
                names = ["m1", None, "m5", "m1", "m2"][: shape[0]]
                models = [Toy() if name is None else merged(tmp_path / "adapters", name, Toy()) for name in names]
                with served.using(names):
                    y = served.model(x.to(device)).cpu()
                wanted = torch.stack([model(row) for model, row in zip(models, x, strict=True)])
                torch.testing.assert_close(y, wanted, **CLOSE)

    def test_diagonal_cores(self, tmp_path, device):
        place = planted(tmp_path / "adapters", diagonal=True)
        written = uws.compress(uws.collect(place), kept=3, method="diagonal").write(tmp_path / "c")
        opened = uws.open_compressed(written)
        served, x = uws.serving.attach(Toy().to(device), written), inputs(2, 4)
        names = ["m3", "m0"]
        models = [Toy() for _ in names]
        for name, model in zip(names, models, strict=True):
            for path in ("first", "second"):
                model.get_submodule(path).weight.data += opened.layer(name, f"{path}.weight")
        with served.using(names):
            mixed = served.model(x.to(device)).cpu()
        with served.using("m3"):
            single = served.model(x.to(device)).cpu()
        torch.testing.assert_close(mixed, torch.stack([m(row) for m, row in zip(models, x, strict=True)]), **CLOSE)
        torch.testing.assert_close(single, models[0](x), **CLOSE)

    def test_nothing_is_held_but_one_basis_and_the_cores(self, tmp_path, toy, device):
        served = uws.serving.attach(Toy().to(device), toy)
        basis = 3 * (16 + 12) + 3 * (16 + 16)
        # Seven rows of cores: six members and the base.
        assert served.bytes_held == 4 * (basis + 7 * 2 * 9)

    def test_compiled_as_one_graph_that_serves_every_member(self, tmp_path, toy, device):
        served, x = uws.serving.attach(Toy().to(device), toy), inputs(3, 2).to(device)
        counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
        compiled = torch.compile(served.model, fullgraph=True, backend=counter)
        for names in ("m0", "m3", ["m1", "m1", "m5"], ["m2", None, "m0"]):
            with served.using(names):
                torch.testing.assert_close(compiled(x), served.model(x), **CLOSE)
        assert counter.frame_count == 1

    def test_a_bfloat16_model(self, tmp_path, toy, device):
        model, x = Toy().to(device, torch.bfloat16), inputs(4).to(device, torch.bfloat16)
        served = uws.serving.attach(model, toy, check_base=False)
        with served.using("m2"):
            y = served.model(x)
        assert y.dtype == torch.bfloat16
        wanted = merged(tmp_path / "adapters", "m2", Toy())(x.float().cpu())
        torch.testing.assert_close(y.float().cpu(), wanted, rtol=0.05, atol=0.2)


class TestOneModelInMemory:
    def test_switching_and_serving_form_nothing_of_the_size_of_a_weight(self, tmp_path):
        width, rows = 256, 4
        place = planted(tmp_path / "adapters", width=width)
        written = uws.compress(uws.collect(place), kept=3).write(tmp_path / "c")
        served, x = uws.serving.attach(Toy(width), written), inputs(rows)
        with Sizes() as sizes:
            for names in ("m0", "m1", ["m0", "m1", "m2", None]):
                with served.using(names):
                    served.model(x)
        assert sizes.largest == rows * width

    def test_detached_it_is_as_before(self, toy):
        model, x = Toy(), inputs(4)
        before, parts, y = dict(model.state_dict()), dict(model.named_modules()), model(x)
        with uws.serving.attach(model, toy) as served:
            with served.using(None):
                torch.testing.assert_close(model(x), y, rtol=0, atol=0)
            with served.using("m0"):
                assert not torch.allclose(model(x), y, atol=1e-3)
        assert dict(model.named_modules()) == parts
        assert model.state_dict().keys() == before.keys()
        torch.testing.assert_close(model(x), y, rtol=0, atol=0)
        uws.serving.attach(model, toy).detach()

    def test_a_layer_that_hangs_in_two_places_is_replaced_in_both(self, tmp_path, toy):
        model = Toy()
        model.twin = model.second
        served = uws.serving.attach(model, toy)
        x = torch.randn(2, 16, generator=torch.Generator().manual_seed(2))
        with served.using("m1"):
            torch.testing.assert_close(model.twin(x), model.second(x), rtol=0, atol=0)
        assert served.detach().twin is model.second

    def test_two_served_models_choose_apart(self, tmp_path, toy):
        first, second = uws.serving.attach(Toy(), toy), uws.serving.attach(Toy(), toy)
        x = inputs(2)
        with first.using("m0"), second.using("m1"):
            with first.using("m2"):
                inner = first.model(x)
            outer, other = first.model(x), second.model(x)
        for name, y in (("m2", inner), ("m0", outer), ("m1", other)):
            torch.testing.assert_close(y, merged(tmp_path / "adapters", name, Toy())(x), **CLOSE)


class Sizes(TorchDispatchMode):
    """Records the largest tensor with memory of its own that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in given:
                self.largest = max(self.largest, made.numel())
        return result


class TestJoin:
    def test_members_join_and_leave_while_others_are_served(self, tmp_path, toy):
        newcomers = [tmp_path / "adapters" / "m2", tmp_path / "adapters" / "m5"]
        served, x = uws.serving.attach(Toy(), toy), inputs(3)
        wanted = {f"m{i}": merged(tmp_path / "adapters", f"m{i}", Toy())(x) for i in range(6)}
        stop, calls = threading.Event(), [0]

        def visitor() -> None:
            while not stop.is_set():
                with served.using("m1"):
                    torch.testing.assert_close(served.model(x), wanted["m1"], **CLOSE)
                calls[0] += 1

        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(visitor) for _ in range(2)]
            for number in range(6):
                uws.join(toy, newcomers[number % 2], name=f"new{number}")
                assert served.refresh() == (f"new{number}",)
                with served.using([f"new{number}", "m1", None]):
                    y = served.model(x)
                torch.testing.assert_close(y[0], wanted[newcomers[number % 2].name][0], **CLOSE)
                torch.testing.assert_close(y[1], wanted["m1"][1], **CLOSE)
            stop.set()
            for one in running:
                one.result()
        assert calls[0] > 10
        uws.leave(toy, "m0")
        assert served.refresh() == ()
        with pytest.raises(CollectionError, match="no member 'm0'"):
            served.using("m0")
        with served.using("new5"):
            torch.testing.assert_close(served.model(x), wanted["m5"], **CLOSE)

    def test_a_newcomer_brings_its_own_bias_and_norm(self, tmp_path, toy):
        place = Path(shutil.copytree(tmp_path / "adapters" / "m3", tmp_path / "own"))
        tensors = load_file(place / "adapter_model.safetensors")
        own = {"scaled.norm.weight": torch.full((16,), 2.0), "second.bias": torch.arange(16.0)}
        save_file(
            tensors | {f"base_model.model.{name}": tensor for name, tensor in own.items()},
            place / "adapter_model.safetensors",
        )
        config = json.loads((place / "adapter_config.json").read_text())
        config |= {"modules_to_save": ["scaled.norm"], "bias": "all"}
        (place / "adapter_config.json").write_text(json.dumps(config))
        served, x = uws.serving.attach(Toy(), toy), inputs(3)
        uws.join(toy, place, name="own")
        served.refresh()
        model = merged(tmp_path, "own", Toy())
        model.load_state_dict(model.state_dict() | own)
        with served.using(["own", "m3", None]):
            mixed = served.model(x)
        torch.testing.assert_close(mixed[0], model(x)[0], **CLOSE)
        torch.testing.assert_close(mixed[1], merged(tmp_path / "adapters", "m3", Toy())(x)[1], **CLOSE)
        torch.testing.assert_close(mixed[2], Toy()(x)[2], **CLOSE)
        again = uws.serving.attach(Toy(), toy)
        with again.using(["own", "m3", None]):
            torch.testing.assert_close(again.model(x), mixed, rtol=0, atol=0)

    def test_another_basis_is_not_taken_in(self, tmp_path, toy):
        served = uws.serving.attach(Toy(), toy)
        shutil.rmtree(toy)
        uws.compress(uws.collect(tmp_path / "adapters"), kept=2).write(toy)
        uws.join(toy, tmp_path / "adapters" / "m2", name="new")
        with pytest.raises(CollectionError, match="another basis now"):
            served.refresh()
        with served.using("m1"):
            served.model(inputs(2))


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> Path:
    """Whole toy networks: the toy with random changes of every tensor."""
    place = tmp_path_factory.mktemp("toys")
    generator = torch.Generator().manual_seed(3)
    for number in range(5):
        state = {name: t + 0.1 * torch.randn(t.shape, generator=generator) for name, t in Toy().state_dict().items()}
        (place / f"w{number}").mkdir()
        save_file(state, place / f"w{number}" / "model.safetensors")
    (place / "base").mkdir()
    save_file(Toy().state_dict(), place / "base" / "model.safetensors")
    return place


class TestWholeWeights:
    @pytest.mark.parametrize("method", ["in", "out", "two-sided"])
    @pytest.mark.parametrize("about", ["mean", "base"])
    def test_every_method_serves_what_it_rebuilds(self, toys, tmp_path, method, about):
        models = uws.collect([toys / f"w{i}" for i in range(5)], **({"base": toys / "base"} if about == "base" else {}))
        written = uws.compress(models, kept=3, method=method, about=about).write(tmp_path / "c")
        opened, x = uws.open_compressed(written), inputs(2, 3)
        served = uws.serving.attach(Toy(), written)
        names, wanted = list(opened.members)[1:3], []
        for name in names:
            model = Toy()
            model.load_state_dict(state(opened, name))
            wanted.append(model(x))
        with served.using(names):
            torch.testing.assert_close(served.model(x), torch.stack([w[i] for i, w in enumerate(wanted)]), **CLOSE)
        with served.using(names[1]):
            torch.testing.assert_close(served.model(x), wanted[1], **CLOSE)
        if about == "mean":
            with pytest.raises(CollectionError, match="no base to serve"):
                served.using(None)

    def test_the_built_in_networks_without_their_own_parts(self, tmp_path):
        networks = uws.collect("demo:finetuned")
        layers = [f"blocks.{i}.mlp.up.weight" for i in range(vit.DEPTH)]
        opened = uws.open_compressed(uws.compress(networks, kept=6, layers=layers).write(tmp_path / "c"))
        weights = load_file(networks.base.repo)
        with pytest.raises(CollectionError, match=r"own .*no module in it.*own=False|own .*lacks.*own=False"):
            uws.serving.attach(Vit(weights), opened)
        served = uws.serving.attach(Vit(weights), opened, own=False)
        for name in opened.members[::13]:
            model = Vit(weights | {layer: opened.layer(name, layer) for layer in layers})
            with served.using(name):
                torch.testing.assert_close(served.model(images()), model(images()), **CLOSE)


class TestTransformers:
    def test_conv1d_layers_of_gpt2(self, tmp_path):
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(n_embd=12, n_layer=2, n_head=2, vocab_size=32, n_positions=16)
        torch.manual_seed(0)
        network = transformers.GPT2LMHeadModel(config).eval()
        chance = torch.Generator().manual_seed(0)
        for number in range(4):
            lora = LoraConfig(r=2, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
            model = get_peft_model(copy.deepcopy(network), lora)
            for name, value in model.named_parameters():
                if "lora_" in name:
                    value.data = torch.randn(value.shape, generator=chance) / 4
            model.save_pretrained(tmp_path / "adapters" / f"a{number}")
        written = uws.compress(uws.collect(tmp_path / "adapters"), kept=6).write(tmp_path / "c")
        served = uws.serving.attach(copy.deepcopy(network), written)
        tokens = torch.randint(0, 32, (3, 5), generator=chance)
        names = ["a2", "a0", "a3"]
        rebuilt = uws.rebuild(written, tmp_path / "r", members=names)
        wanted = [PeftModel.from_pretrained(copy.deepcopy(network), place)(tokens).logits for place in rebuilt]
        with served.using(names):
            mixed = served.model(tokens).logits
        torch.testing.assert_close(mixed, torch.stack([w[i] for i, w in enumerate(wanted)]), **CLOSE)
        with served.using("a3"):
            torch.testing.assert_close(served.model(tokens).logits, wanted[2], **CLOSE)
            assert served.model.generate(tokens, max_new_tokens=3, do_sample=False).shape == (3, 8)


class TestBadInput:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: nn.Sequential(nn.Linear(12, 16)), r"2 of 2 layers.*first is not there \(the model has 0\)"),
            (lambda: Toy(20), r"first is 20 x 12 in the model, 16 x 12 in the folder"),
            (lambda: replaced(Toy(), "second", nn.Embedding(16, 16)), "second is a Embedding, no linear layer"),
            (lambda: replaced(Toy(), "second", Toy().first), "second is 16 x 12 in the model"),
            (lambda: "gpt2", "from a torch module, found a str; load the model first"),
            (lambda: get_peft_model(Toy(), LoraConfig(target_modules=["first"])), r"PEFT's wrapper.*model.unload\(\)"),
        ],
    )
    def test_a_model_without_the_layers(self, toy, make, message):
        with pytest.raises(LayerError, match=message):
            uws.serving.attach(make(), toy)

    def test_a_layer_inside_pytorchs_attention(self, tmp_path):
        class Attends(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attn = nn.MultiheadAttention(8, 2)

        for number in range(2):
            tensors = {
                "base_model.model.attn.out_proj.lora_A.weight": torch.randn(2, 8),
                "base_model.model.attn.out_proj.lora_B.weight": torch.randn(8, 2),
            }
            (tmp_path / "a" / f"m{number}").mkdir(parents=True)
            save_file(tensors, tmp_path / "a" / f"m{number}" / "adapter_model.safetensors")
            config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["out_proj"]}
            (tmp_path / "a" / f"m{number}" / "adapter_config.json").write_text(json.dumps(config))
        written = uws.compress(uws.collect(tmp_path / "a"), kept=2).write(tmp_path / "c")
        with pytest.raises(LayerError, match="MultiheadAttention, which reads its weight without calling it"):
            uws.serving.attach(Attends(), written)

    def test_a_member_not_in_the_basis(self, toy):
        served = uws.serving.attach(Toy(), toy)
        for names in ("nobody", ["m0", "nobody"]):
            with pytest.raises(CollectionError, match=r"no member 'nobody'; it has m0, m1.*refresh"):
                served.using(names)
        with pytest.raises(CollectionError, match="empty list"):
            served.using([])
        # A set has no order, so nobody knows which row it means.
        for names in ({"m0", "m1"}, 3, iter(["m0"])):
            with pytest.raises(CollectionError, match=r"a list with one of them for each row.*found a (set|int|list_)"):
                served.using(names)

    def test_a_detached_model_does_not_answer_as_its_base(self, toy):
        served = uws.serving.attach(Toy(), toy)
        served.detach()
        for call in (lambda: served.using("m0"), served.refresh):
            with pytest.raises(CollectionError, match="detached from toy; attach the folder again"):
                call()

    def test_a_choice_is_made_again_and_within_itself(self, tmp_path, toy):
        served, x = uws.serving.attach(Toy(), toy), inputs(2)
        one, other = served.using("m1"), served.using("m2")
        wanted = {name: merged(tmp_path / "adapters", name, Toy())(x) for name in ("m1", "m2")}
        for _ in range(2):
            with one:
                with other, one:
                    torch.testing.assert_close(served.model(x), wanted["m1"], **CLOSE)
                with other:
                    torch.testing.assert_close(served.model(x), wanted["m2"], **CLOSE)
                torch.testing.assert_close(served.model(x), wanted["m1"], **CLOSE)
        with pytest.raises(CollectionError, match="No member is chosen"):
            served.model(x)

    def test_no_choice_in_this_thread(self, toy):
        served = uws.serving.attach(Toy(), toy)
        with pytest.raises(CollectionError, match=r"No member is chosen.*using\(None\)"):
            served.model(inputs(2))
        with served.using("m0"), ThreadPoolExecutor(1) as pool, pytest.raises(CollectionError, match="this thread"):
            pool.submit(served.model, inputs(2)).result()

    def test_rows_and_members_that_differ_in_number(self, toy):
        served = uws.serving.attach(Toy(), toy)
        with served.using(["m0", "m1"]), pytest.raises(CollectionError, match=r"2 members .* got 3 rows"):
            served.model(inputs(3))

    def test_another_base(self, folder, base):
        other = Vit(base)
        other.blocks[1].mlp["up"].weight.data[0, 0] += 0.1
        with pytest.raises(CollectionError, match=r"blocks.1.mlp.up: the model's weights are not those.*check_base"):
            uws.serving.attach(other, folder)
        uws.serving.attach(other, folder, check_base=False)

    def test_another_base_of_whole_networks(self, toys, tmp_path):
        models = uws.collect([toys / "w0", toys / "w1"], base=toys / "base")
        written = uws.compress(models, kept=2, about="base").write(tmp_path / "c")
        other = Toy()
        other.second.weight.data[1] *= 2
        with pytest.raises(CollectionError, match="second: the model's weights are not those"):
            uws.serving.attach(other, written)

    def test_a_hub_base_of_another_name(self, tmp_path, toy):
        for number in range(6):
            file = tmp_path / "adapters" / f"m{number}" / "adapter_config.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "toys/one"}))
        written = uws.compress(uws.collect(tmp_path / "adapters"), kept=3).write(tmp_path / "named")
        model = Toy()
        model.config = type("Config", (), {"name_or_path": "toys/two"})()
        with pytest.raises(CollectionError, match=r"belong to toys/one; this model is toys/two"):
            uws.serving.attach(model, written)

    def test_a_model_that_serves_already(self, toy):
        served = uws.serving.attach(Toy(), toy)
        with pytest.raises(LayerError, match=r"serves members already; call `detach"):
            uws.serving.attach(served.model, toy)


def replaced(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    setattr(model, name, module)
    return model


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield
