"""Every kind of adapter is read right or refused by name: written by its library, compared with its own update."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from uws_core import collect
from uws_core.errors import UnsupportedFormat, UwsError
from uws_core.nouns.loader import Fate
from uws_core.nouns.models import LowRank, ModelRef
from uws_core.sources.base import Source
from uws_core.sources.opening import open_source

pytestmark = pytest.mark.filterwarnings("ignore")
# Single precision, a few products deep.
EXACT = 1e-5


class Net(nn.Module):
    """A square layer, one with more inputs, an embedding and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(12, 12, bias=False)
        self.k = nn.Linear(12, 10)
        self.embed = nn.Embedding(20, 12)
        self.conv = nn.Conv2d(4, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.k(self.q(x))


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def write(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    config: object = None,
    file: str = "weights.safetensors",
    header: dict[str, str] | None = None,
) -> ModelRef:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / file, metadata=header)
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    return ModelRef(str(folder), "")


def layers(source: Source) -> list[str]:
    return [layer.name for layer in source.layers() if not layer.factor]


def update(source: Source, layer: str) -> Tensor:
    values = source.read(layer)
    return (
        values.scale * (values.up.double() @ values.down.double()) if isinstance(values, LowRank) else values.double()
    )


def close(ours: Tensor, theirs: Tensor) -> bool:
    theirs = theirs.detach().double().flatten(1)
    return ours.shape == theirs.shape and float((ours - theirs).norm()) <= EXACT * float(theirs.norm())


def randomized(model: nn.Module, marks: tuple[str, ...] = ("lora_",)) -> nn.Module:
    for i, (name, value) in enumerate(model.named_parameters()):
        if any(mark in name for mark in marks) and "magnitude" not in name:
            value.data = some(*value.shape, seed=i)
    return model


class TestVariantsOfPeft:
    """LoRA in every form that PEFT 0.21 writes."""

    def saved(self, folder: Path, **choices: object) -> nn.Module:
        peft = pytest.importorskip("peft")
        config = peft.LoraConfig(**{"r": 2, "lora_alpha": 6, "target_modules": ["q", "k"], **choices})
        torch.manual_seed(0)
        model = randomized(peft.get_peft_model(Net(), config))
        model.save_pretrained(folder)
        return model

    @pytest.mark.parametrize(
        ("choices", "note"),
        [
            ({"init_lora_weights": "pissa"}, "PiSSA"),
            ({"init_lora_weights": "pissa_niter_2"}, "PiSSA"),
            ({"init_lora_weights": "olora"}, "OLoRA"),
            ({"init_lora_weights": "orthogonal"}, ""),
            ({"init_lora_weights": "mica"}, ""),
            ({"use_rslora": True, "rank_pattern": {"k": 4}, "alpha_pattern": {"k": 3}}, ""),
            ({"use_dora": True}, "DoRA"),
            ({"alora_invocation_tokens": [1, 2]}, "aLoRA"),
            ({"lora_bias": True, "target_modules": ["k"]}, ""),
            ({"target_modules": ["embed", "conv"]}, ""),
        ],
        ids=str,
    )
    def test_a_variant_is_the_update_that_peft_merges(self, tmp_path: Path, choices: dict[str, object], note: str):
        model = self.saved(tmp_path, **choices)
        source = open_source(ModelRef(str(tmp_path), ""))
        modules = {name.removeprefix("base_model.model."): m for name, m in model.named_modules()}
        updated = [name for name, module in modules.items() if hasattr(module, "get_delta_weight")]
        assert sorted(layers(source)) == sorted(f"{name}.weight" for name in updated)
        for name in updated:
            assert close(update(source, f"{name}.weight"), modules[name].get_delta_weight("default"))
        assert note in " ".join(source.report().notes)

    def test_lora_ga_moves_the_base_and_says_so(self, tmp_path: Path):
        peft = pytest.importorskip("peft")
        self.saved(tmp_path, init_lora_weights="lora_ga", lora_ga_config=peft.LoraGAConfig())
        assert "LoRA-GA" in " ".join(open_source(ModelRef(str(tmp_path), "")).report().notes)

    def test_kasa_has_its_diagonal_between_the_factors(self, tmp_path: Path):
        config = pytest.importorskip("peft.tuners.lora.config")
        model = self.saved(tmp_path, kasa_config=config.KasaConfig(), use_rslora=True)
        source = open_source(ModelRef(str(tmp_path), ""))
        layer = model.base_model.model.k
        up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
        assert close(update(source, "k.weight"), 6 / 2**0.5 * up @ torch.diag(layer.lora_diag["default"]) @ down)
        assert "KaSA" in " ".join(source.report().notes)

    def test_velora_keeps_a_projection_that_is_no_part_of_the_update(self, tmp_path: Path):
        config = pytest.importorskip("peft.tuners.lora.config")
        choices = config.VeloraConfig(num_groups=2, init_type="random")
        model = self.saved(tmp_path, velora_config=choices)
        source = open_source(ModelRef(str(tmp_path), ""))
        assert close(update(source, "q.weight"), model.base_model.model.q.get_delta_weight("default"))

    def test_qalora_is_refused_by_name(self, tmp_path: Path):
        self.saved(tmp_path, use_qalora=True, qalora_group_size=2)
        with pytest.raises(UnsupportedFormat, match="use_qalora"):
            open_source(ModelRef(str(tmp_path), ""))

    @pytest.mark.parametrize("name", ["Kappa", "X"])
    def test_a_setting_that_is_not_known_stops_the_reading(self, tmp_path: Path, name: str):
        self.saved(tmp_path)
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {f"use_{name}": True}))
        with pytest.raises(UnsupportedFormat, match=f"'use_{name}' is not known"):
            open_source(ModelRef(str(tmp_path), ""))
        path.write_text(json.dumps(json.loads(path.read_text()) | {f"use_{name}": None}))
        assert layers(open_source(ModelRef(str(tmp_path), "")))

    @pytest.mark.parametrize(
        "part", ["lora_C.weight", "lora_gate", "lora_B.weight_scale", "default_lora_latent_mapping.weight"]
    )
    def test_a_part_that_is_not_known_stops_the_reading_of_its_module_only(self, tmp_path: Path, part: str):
        tensors = {f"base_model.model.{name}.lora_{side}.weight": some(*shape) for name in ("q", "k")
                   for side, shape in (("A", (2, 8)), ("B", (6, 2)))}  # fmt: skip
        config = {"peft_type": "LORA", "r": 2}
        tensors[f"base_model.model.q.{part}"] = some(2, 2)
        source = open_source(write(tmp_path, tensors, config=config, file="adapter_model.safetensors"))
        assert layers(source) == ["k.weight"]
        reasons = {item.what: item.reason for item in source.left_out}
        assert part in reasons["base_model.model.q.lora_A.weight"]

    METHODS: Mapping[str, dict[str, object]] = {
        "AdaLoraConfig": {"total_step": 10, "init_r": 4, "target_r": 2},
        "BOFTConfig": {"boft_block_size": 2},
        "C3AConfig": {"block_size": 2},
        "DeloraConfig": {"r": 2},
        "FourierFTConfig": {"n_frequency": 20},
        "GloraConfig": {},
        "GraloraConfig": {},
        "HRAConfig": {},
        "HiraConfig": {"r": 2},
        "IA3Config": {"feedforward_modules": []},
        "MissConfig": {"r": 2},
        "OFTConfig": {"oft_block_size": 2},
        "RandLoraConfig": {},
        "RoadConfig": {"group_size": 2},
        "ShiraConfig": {"r": 2},
        "VBLoRAConfig": {"vector_length": 2, "num_vectors": 8},
        "VeraConfig": {},
        "WaveFTConfig": {"n_frequency": 24},
    }

    @pytest.mark.parametrize("name", METHODS)
    @pytest.mark.parametrize("with_config", [True, False])
    def test_other_methods_are_refused_by_name(self, tmp_path: Path, name: str, with_config: bool):
        peft = pytest.importorskip("peft")
        if not hasattr(peft, name):
            pytest.skip(f"this PEFT has no {name}")
        config = getattr(peft, name)(target_modules=["q", "k"], **self.METHODS[name])
        peft.get_peft_model(Net(), config).save_pretrained(tmp_path)
        if not with_config:
            (tmp_path / "adapter_config.json").unlink()
        with pytest.raises(UnsupportedFormat) as caught:
            open_source(ModelRef(str(tmp_path), ""))
        method = {"IA3Config": "IA" if with_config else "(IA)3"}.get(name, name.removesuffix("Config"))
        assert method.lower() in str(caught.value).lower().replace("-", "").removesuffix(".")


class TestExperts:
    """`target_parameters`: one LoRA for a stack of experts is no matrix, nested or not."""

    @pytest.mark.parametrize("parameters", [["experts.up"], ["experts.up", "experts.down"]])
    @pytest.mark.parametrize("with_config", [True, False])
    def test_the_update_of_a_stack_is_left_out_by_name(self, tmp_path: Path, parameters: list[str], with_config: bool):
        peft = pytest.importorskip("peft")

        class Experts(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.up = nn.Parameter(some(4, 12, 8))
                self.down = nn.Parameter(some(4, 8, 12))

        class Mixture(Net):
            def __init__(self) -> None:
                super().__init__()
                self.experts = Experts()

        config = peft.LoraConfig(r=2, lora_alpha=8, target_modules=["q"], target_parameters=parameters)
        randomized(peft.get_peft_model(Mixture(), config)).save_pretrained(tmp_path)
        if not with_config and len(parameters) == 1:
            path = tmp_path / "adapter_config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"target_parameters": None}))
        source = open_source(ModelRef(str(tmp_path), ""))
        assert layers(source) == ["q.weight"]
        reasons = [item for item in source.left_out if "experts" in item.what]
        assert len(reasons) == 2 * len(parameters)
        assert all("stack of experts" in item.reason for item in reasons)

    def test_factors_with_an_axis_of_experts_do_not_fit(self, tmp_path: Path):
        parts = {"lora_A.weight": some(4, 2, 8), "lora_B.weight": some(4, 6, 2)}
        with pytest.raises(UnsupportedFormat, match="do not fit each other"):
            open_source(write(tmp_path, {f"base_model.model.experts.up.{part}": v for part, v in parts.items()}))


class TestInputsFirst:
    """GPT-2's layers are inputs x outputs whatever the one flag of the file says."""

    def adapter(self, folder: Path, modules: list[str], seed: int, **choices: object) -> Tensor:
        peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
        sizes = transformers.GPT2Config(
            n_embd=12, n_layer=1, n_head=2, vocab_size=32, n_positions=16, tie_word_embeddings=False, num_labels=3,
            pad_token_id=0,
        )  # fmt: skip
        kind = getattr(transformers, str(choices.pop("kind", "GPT2LMHeadModel")))
        base = kind(sizes)
        before = {name: value.clone() for name, value in base.state_dict().items()}
        config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=modules, **choices)
        model = peft.get_peft_model(base, config)
        for i, (name, value) in enumerate(model.named_parameters()):
            if "lora_" in name:
                value.data = some(*value.shape, seed=seed + i)
        model.save_pretrained(folder)
        name = "transformer.h.0.attn.c_proj.weight"
        return model.merge_and_unload().state_dict()[name].double() - before[name].double()

    @pytest.mark.parametrize("head", [["lm_head"], ["wte"], ["lm_head", "c_fc"]])
    def test_other_targets_do_not_turn_them(self, tmp_path: Path, head: list[str]):
        plain = self.adapter(tmp_path / "plain", ["attn.c_proj"], 1)
        mixed = self.adapter(tmp_path / "mixed", ["attn.c_proj", *head], 50)
        for folder, theirs in (("plain", plain), ("mixed", mixed)):
            source = open_source(ModelRef(str(tmp_path / folder), ""))
            assert close(update(source, "transformer.h.0.attn.c_proj.weight"), theirs)
            if "lm_head.weight" in layers(source):
                assert source.find("lm_head.weight").shape == (32, 12)
                assert "lm_head.weight" not in source.transposed

    def test_a_classifier_with_its_head_saved_whole(self, tmp_path: Path):
        theirs = self.adapter(
            tmp_path / "m", ["c_proj"], 3, kind="GPT2ForSequenceClassification", modules_to_save=["score"]
        )
        source = open_source(ModelRef(str(tmp_path / "m"), ""))
        assert close(update(source, "transformer.h.0.attn.c_proj.weight"), theirs)
        assert "score.weight" in layers(source)

    def test_files_that_contradict_each_other_lose_the_layer_with_a_reason(self, tmp_path: Path):
        for i, flag in enumerate((True, True, False)):
            parts = {"lora_A.weight": some(2, 12, seed=i), "lora_B.weight": some(12, 2, seed=i)}
            tensors = {f"base_model.model.h.0.{module}.{part}": value.clone()
                       for module in ("attn.c_proj", "x") for part, value in parts.items()}  # fmt: skip
            config = {"peft_type": "LORA", "r": 2, "fan_in_fan_out": flag}
            write(tmp_path / f"m{i}", tensors, config=config, file="adapter_model.safetensors")
        collection = collect(tmp_path)
        assert [layer.name for layer in collection.layers if not layer.factor] == ["h.0.x.weight"]
        (reason,) = [item.reason for item in collection.left_out if item.what == "h.0.attn.c_proj.weight"]
        assert "m0" in reason
        assert "m2" in reason

    def test_a_model_with_its_sides_the_other_way_round_is_no_other_architecture(self, tmp_path: Path):
        for i, flag in enumerate((True, True, False)):
            tensors = {f"base_model.model.h.0.mlp.c_fc.lora_{side}.weight": some(*shape, seed=i)
                       for side, shape in (("A", (2, 12)), ("B", (48, 2)))}  # fmt: skip
            config = {"peft_type": "LORA", "r": 2, "fan_in_fan_out": flag}
            write(tmp_path / f"m{i}", tensors, config=config, file="adapter_model.safetensors")
        collection = collect(tmp_path)
        (reason,) = [item.reason for item in collection.left_out if item.what == "m2"]
        assert "the other way round" in reason
        assert "fan_in_fan_out" in reason


class TestScales:
    """An alpha that stands anywhere in the file is found."""

    PAIR: Mapping[str, Tensor] = {"unet.x.lora_A.weight": some(2, 8), "unet.x.lora_B.weight": some(6, 2)}
    KOHYA: Mapping[str, Tensor] = {"lora_unet_x.lora_down.weight": some(2, 8), "lora_unet_x.lora_up.weight": some(6, 2)}

    @pytest.mark.parametrize(
        ("tensors", "header", "scale"),
        [
            (PAIR, {"lora_alpha": "8"}, 4.0),
            (PAIR, {"alpha": "3.0", "rank": "2"}, 1.5),
            (PAIR, {"network_alpha": "1"}, 0.5),
            (KOHYA, {"ss_network_alpha": "1.0", "ss_network_dim": "2"}, 0.5),
            (PAIR | {"unet.x.lora_alpha": torch.tensor(8.0)}, None, 4.0),
            (PAIR | {"unet.x.network_alpha": torch.tensor(8)}, {"alpha": "2"}, 4.0),
            (PAIR | {"lora_alpha": torch.tensor(8.0)}, None, 4.0),
            (PAIR, {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 6})}, 3.0),
            (PAIR, {"lora_adapter_metadata": json.dumps({"r": 2, "lora_alpha": 6, "use_rslora": True})}, 6 / 2**0.5),
            (
                PAIR,
                {"lora_adapter_metadata": json.dumps({"r": 9, "lora_alpha": 1, "alpha_pattern": {"x": 5}})},
                2.5,
            ),
        ],
    )
    def test_wherever_it_stands(self, tmp_path: Path, tensors: dict[str, Tensor], header: dict[str, str], scale: float):
        report = open_source(write(tmp_path, tensors, header=header)).report()
        assert report.scales[0].scale == pytest.approx(scale)
        assert not [note for note in report.notes if "assumed" in note]

    @pytest.mark.parametrize("header", [{"ss_network_alpha": "Dynamic"}, {"alpha": "many"}])
    def test_an_alpha_that_is_no_number_is_named(self, tmp_path: Path, header: dict[str, str]):
        (note,) = open_source(write(tmp_path, self.KOHYA, header=header)).report().notes
        assert f"{next(iter(header.values()))!r}, no number" in note

    def test_a_setting_in_the_header_that_is_not_known_is_refused(self, tmp_path: Path):
        notes = {"lora_adapter_metadata": json.dumps({"r": 2, "lora_alpha": 6, "twist": 3})}
        with pytest.raises(UnsupportedFormat, match="'twist' is not known"):
            open_source(write(tmp_path, self.PAIR, header=notes))


class TestWriters:
    """Adapters of writers other than PEFT, kohya and diffusers: their own names, their own scale."""

    def test_mlx_stores_inputs_first_and_embeddings_as_they_are(self, tmp_path: Path):
        a, b, emb_a, emb_b = some(16, 4), some(4, 12), some(20, 4), some(4, 12)
        tensors = {
            "model.layers.0.q_proj.lora_a": a,
            "model.layers.0.q_proj.lora_b": b,
            "model.embed_tokens.lora_a": emb_a,
            "model.embed_tokens.lora_b": emb_b,
        }
        config = {"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 4, "scale": 20.0}}
        source = open_source(write(tmp_path, tensors, config=config, file="adapters.safetensors"))
        assert source.dialects == ("mlx",)
        assert close(update(source, "model.layers.0.q_proj.weight"), 20 * (a @ b).T)
        assert close(update(source, "model.embed_tokens.weight"), 20 * emb_a @ emb_b)

    @pytest.mark.parametrize(
        ("config", "scale", "note"),
        [
            ({"lora_layers": 4, "lora_parameters": {"rank": 2, "alpha": 4, "scale": 10.0}}, 20.0, ""),
            ({"fine_tune_type": "dora", "lora_parameters": {"rank": 2, "scale": 5.0}}, 5.0, "DoRA"),
        ],
    )
    def test_older_and_other_configurations_of_mlx(
        self, tmp_path: Path, config: dict[str, object], scale: float, note: str
    ):
        tensors = {"q.lora_a": some(8, 2), "q.lora_b": some(2, 6), "q.m": some(6)}
        if not note:
            del tensors["q.m"]
        source = open_source(write(tmp_path, tensors, config=config, file="adapters.safetensors"))
        assert source.report().scales[0].scale == scale
        assert note in " ".join(source.report().notes)

    @pytest.mark.parametrize("config", [{"lora_parameters": {"rank": 2}}, {"fine_tune_type": "other"}])
    def test_a_configuration_of_mlx_without_a_scale_is_refused(self, tmp_path: Path, config: dict[str, object]):
        tensors = {"q.lora_a": some(8, 2), "q.lora_b": some(2, 6)}
        with pytest.raises(UnsupportedFormat, match="mlx-lm"):
            open_source(write(tmp_path, tensors, config=config, file="adapters.safetensors"))

    def test_stacks_of_experts_of_mlx_are_left_out(self, tmp_path: Path):
        tensors = {"q.lora_a": some(8, 2), "q.lora_b": some(2, 6), "s.lora_a": some(4, 2, 8), "s.lora_b": some(4, 6, 2)}
        config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 5.0}}
        source = open_source(write(tmp_path, tensors, config=config, file="adapters.safetensors"))
        assert layers(source) == ["q.weight"]

    def test_xlabs_names_the_streams_of_flux(self, tmp_path: Path):
        parts = {"down": (2, 8), "up": (24, 2)}
        tensors = {f"double_blocks.3.processor.qkv_lora{n}.{part}.weight": some(*shape, seed=n)
                   for n in (1, 2) for part, shape in parts.items()}  # fmt: skip
        tensors |= {f"single_blocks.0.processor.{name}_lora.{part}.weight": some(*shape)
                    for name in ("qkv", "proj") for part, shape in parts.items()}  # fmt: skip
        source = open_source(write(tmp_path, tensors))
        assert set(layers(source)) == {
            "unet.double_blocks.3.img_attn.qkv.weight", "unet.double_blocks.3.txt_attn.qkv.weight",
            "unet.single_blocks.0.linear1.qkv.weight", "unet.single_blocks.0.linear2.weight",
        }  # fmt: skip
        name = "double_blocks.3.processor.qkv_lora2"
        theirs = tensors[f"{name}.up.weight"] @ tensors[f"{name}.down.weight"]
        assert close(update(source, "unet.double_blocks.3.txt_attn.qkv.weight"), theirs)

    @pytest.mark.parametrize(
        ("down", "up", "module", "dialect"),
        [
            ("layers.0.attn.q_proj.lora_a.weight", "layers.0.attn.q_proj.lora_b.weight", "layers.0.attn.q_proj",
             "torchtune"),
            ("transformer.h.0.attn.proj.lora_A", "transformer.h.0.attn.proj.lora_B", "transformer.h.0.attn.proj",
             "loralib"),
            ("bert.layer.0.query.loras.en.lora_A", "bert.layer.0.query.loras.en.lora_B", "bert.layer.0.query",
             "adapterhub"),
            ("decoder.layers.0.mlp.linear_fc1.adapter.linear_in.weight",
             "decoder.layers.0.mlp.linear_fc1.adapter.linear_out.weight", "decoder.layers.0.mlp.linear_fc1",
             "megatron"),
            ("blocks.0.self_attn.q.lora_A.default.weight", "blocks.0.self_attn.q.lora_B.default.weight",
             "blocks.0.self_attn.q", "peft"),
        ],
    )  # fmt: skip
    def test_a_pair_of_another_writer(self, tmp_path: Path, down: str, up: str, module: str, dialect: str):
        a, b = some(2, 8), some(6, 2)
        source = open_source(write(tmp_path, {down: a, up: b}))
        assert source.dialects == (dialect,)
        assert close(update(source, f"{module}.weight"), b @ a)
        assert source.report().notes == ("scale assumed 1: no alpha in the file and no adapter_config.json",)

    @pytest.mark.parametrize(
        ("config", "scale", "refused"),
        [
            ({"architecture": "lora", "r": 2, "alpha": 8, "composition_mode": "add"}, 4.0, ""),
            ({"architecture": "lora", "r": 2, "alpha": 8, "composition_mode": "scale"}, 0, "composition_mode"),
            ({"architecture": "lora", "r": 2, "alpha": 8, "use_gating": True}, 0, "use_gating"),
            ({"architecture": "prefix_tuning"}, 0, "prefix_tuning"),
            ({"mh_adapter": True, "reduction_factor": 16}, 0, "bottleneck"),
        ],
    )
    def test_adapterhubs_configuration(self, tmp_path: Path, config: dict[str, object], scale: float, refused: str):
        tensors = {"bert.query.loras.en.lora_A": some(2, 8), "bert.query.loras.en.lora_B": some(6, 2)}
        ref = write(tmp_path, tensors, config={"config": config, "name": "en"}, file="adapter.safetensors")
        if refused:
            with pytest.raises(UnsupportedFormat, match=refused):
                open_source(ref)
        else:
            assert open_source(ref).report().scales[0].scale == scale

    @pytest.mark.parametrize(
        "names",
        [
            ("q.LoRA_A", "q.LoRA_B"), ("q.loraA.weight", "q.loraB.weight"), ("q_lora_a.weight", "q_lora_b.weight"),
            ("q.lora_gate_a", "q.lora_gate_b"),
            ("x.adapters.en.adapter_down.0.weight", "x.adapters.en.adapter_up.weight"),
            ("lora_unet_x.weight", "lora_unet_y.weight"), ("x.a1.weight", "x.a2.weight", "x.b1.weight", "x.b2.weight"),
            ("x.q_layer.weight", "x.lambda_layer"), ("x.oft_blocks", "x.oft_diag"),
        ],
    )  # fmt: skip
    def test_names_of_an_adapter_that_nobody_here_knows_are_never_a_checkpoint(
        self, tmp_path: Path, names: tuple[str, ...]
    ):
        with pytest.raises(UnsupportedFormat, match="describes an adapter"):
            open_source(write(tmp_path, {name: some(2, 8) for name in names}))

    @pytest.mark.parametrize(
        "name", ["attn.w_lora.lora.0.weight", "mlp.q_a_proj.weight", "conv_diff.weight", "b1.weight"]
    )
    def test_names_of_whole_models_stay_checkpoints(self, tmp_path: Path, name: str):
        assert open_source(write(tmp_path, {f"layers.0.{name}": some(4, 8)})).format == "checkpoint"


class TestLycoris:
    """Every algorithm of LyCORIS, written by it: its own difference, or a refusal that names it."""

    def written(self, folder: Path, algorithm: str) -> tuple[ModelRef, Mapping[str, Callable[[], Tensor]]]:
        lycoris = pytest.importorskip("lycoris")
        logging.disable(logging.WARNING)

        class Two(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.q = nn.Linear(12, 16, bias=False)
                self.c = nn.Conv2d(4, 8, 3)

        torch.manual_seed(0)
        sizes = {"linear_dim": 4, "linear_alpha": 2, "conv_dim": 4, "conv_alpha": 2}
        network = lycoris.create_lycoris(Two(), 1.0, algo=algorithm, **sizes)
        network.apply_to()
        randomized(network, ("lora", "hada", "lokr", "diff", "weight", "oft", "layer", "a1", "b1", "scalar"))
        ref = write(folder, {name: value.clone() for name, value in network.state_dict().items()})
        logging.disable(logging.NOTSET)
        return ref, {module.lora_name.removeprefix("lycoris_"): module for module in network.loras}

    @pytest.mark.parametrize("algorithm", ["lora", "loha", "lokr", "full"])
    def test_an_update_is_lycoris_own_difference(self, tmp_path: Path, algorithm: str):
        ref, modules = self.written(tmp_path, algorithm)
        source = open_source(ref)
        assert set(layers(source)) == {"q.weight", "c.weight"}
        for name, module in modules.items():
            # Its `get_diff_weight` of LoHa has the scale twice; `get_weight` is what the forward pass adds.
            theirs = {
                "full": lambda module: module.weight - module._org_weight[0],
                "loha": lambda module: module.get_weight(module.shape),
            }.get(algorithm, lambda module: module.get_diff_weight(1.0)[0])(module)
            assert close(update(source, f"{name}.weight"), theirs)

    @pytest.mark.parametrize(
        ("algorithm", "name"),
        [("ia3", "(IA)3"), ("diag-oft", "OFT"), ("boft", "OFT"), ("glora", "GLoRA"), ("tlora", "T-LoRA")],
    )
    def test_another_method_is_refused_by_name(self, tmp_path: Path, algorithm: str, name: str):
        ref, _ = self.written(tmp_path, algorithm)
        with pytest.raises(UwsError) as caught:
            open_source(ref)
        assert name in str(caught.value)


class TestTypes:
    """Plain eight-bit floats are numbers; with a scale beside them they are not plain."""

    @pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
    def test_float8_is_multiplied_in_single_precision(self, tmp_path: Path, dtype: torch.dtype):
        down, up = some(4, 12).to(dtype), some(16, 4).to(dtype)
        tensors = {"lora_unet_x.lora_down.weight": down, "lora_unet_x.lora_up.weight": up}
        source = open_source(write(tmp_path, tensors | {"lora_unet_x.alpha": torch.tensor(2.0)}))
        assert close(update(source, "unet.x.weight"), 0.5 * up.float() @ down.float())

    @pytest.mark.parametrize("part", ["lora_up.scale_weight", "lora_down.weight_scale", "lora_up.weight.absmax"])
    def test_a_scale_beside_a_factor_stops_the_reading(self, tmp_path: Path, part: str):
        tensors = {"lora_unet_x.lora_down.weight": some(4, 12), "lora_unet_x.lora_up.weight": some(16, 4)}
        with pytest.raises(UnsupportedFormat, match="not known here"):
            open_source(write(tmp_path, tensors | {f"lora_unet_x.{part}": some(1)}))


class TestBaseBesideTheAdapter:
    """The frozen base in a file with an adapter is no trained weight."""

    def test_the_state_of_the_whole_model(self, tmp_path: Path):
        peft = pytest.importorskip("peft")
        config = peft.LoraConfig(r=2, target_modules=["q"], modules_to_save=["k"])
        model = peft.get_peft_model(Net(), config)
        source = open_source(write(tmp_path, {name: value.clone() for name, value in model.state_dict().items()}))
        assert set(layers(source)) == {"q.weight", "k.weight"}
        fates = {key.key: key for key in source.report().keys}
        assert fates["base_model.model.k.modules_to_save.default.weight"].fate is Fate.USED
        for name in ("base_model.model.embed.weight", "base_model.model.conv.weight"):
            assert fates[name].fate is Fate.IGNORED
            assert "the base model's own weights" in fates[name].why

    def test_an_embedding_saved_along_that_nobody_trained(self, tmp_path: Path):
        pair = {"base_model.model.q.lora_A.weight": some(2, 8), "base_model.model.q.lora_B.weight": some(6, 2)}
        tensors = pair | {"base_model.model.embed.weight": some(20, 8), "base_model.model.head.weight": some(3, 8)}
        config = {"peft_type": "LORA", "r": 2, "modules_to_save": ["head"]}
        source = open_source(write(tmp_path, tensors, config=config, file="adapter_model.safetensors"))
        assert set(layers(source)) == {"q.weight", "head.weight"}
        (reason,) = [item.reason for item in source.left_out if "embed" in item.what]
        assert "modules_to_save" in reason

    def test_a_state_without_peft_prefix(self, tmp_path: Path):
        pair = {"m.q.lora_A.default.weight": some(2, 8), "m.q.lora_B.default.weight": some(6, 2)}
        tensors = pair | {"m.q.base_layer.weight": some(6, 8), "m.mlp.weight": some(9, 8)}
        source = open_source(write(tmp_path, tensors))
        assert layers(source) == ["m.q.weight"]
        reasons = {item.what: item.reason for item in source.left_out}
        assert "the base model's own weights" in reasons["m.mlp.weight"]
