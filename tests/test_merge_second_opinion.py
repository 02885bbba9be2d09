"""Merges against the programs people use: mergekit 0.1.5 through the recipe we write for it, PEFT 0.21's own merge."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

import uws_core as uws
from tests.planted import gram_of
from uws_core.analysis.merge_methods import combine
from uws_core.analysis.merge_preview import merge_grams
from uws_core.errors import CollectionError
from uws_core.nouns.merging import Convention, MergeMethod, MergeRecipe
from uws_core.use.merge.recipe import read_mergekit

pytestmark = pytest.mark.usefixtures("results_folder")


def llama(folder: Path, seed: int, near: Path | None = None) -> Path:
    """A tiny Llama, or one a small step from another, as transformers saves it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    if near is not None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("llamas")
    base = llama(place / "base", 0)
    for number in range(3):
        llama(place / f"m{number}", number + 1, near=base)
    return place


def collected(place: Path, count: int = 3, *, based: bool = True):
    models = [str(place / f"m{number}") for number in range(count)]
    return uws.collect(models, base=str(place / "base") if based else None)


def by_mergekit(recipe: Path, out: Path) -> dict[str, torch.Tensor]:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    config = MergeConfiguration.model_validate(yaml.safe_load(recipe.read_text()))
    run_merge(config, str(out), MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False))
    return {name: t for path in out.glob("*.safetensors") for name, t in load_file(path).items()}


class TestMergekit:
    @pytest.mark.parametrize(
        ("method", "options", "based"),
        [
            ("mean", {}, False),
            ("linear", {"weights": (0.5, 0.3, 0.2)}, True),
            ("mean", {"scale": 0.6}, True),
            ("task-arithmetic", {"weights": (0.5, 0.3, -0.2), "scale": 0.7}, True),
            ("ties", {"density": 1.0}, True),
            ("ties", {"density": 0.5, "weights": (0.5, 0.3, 0.2), "scale": 1.3}, True),
            ("karcher", {}, False),
            ("karcher", {}, True),
            ("multi-slerp", {"weights": (0.5, 0.3, 0.2)}, True),
            ("model-stock", {}, True),
            ("breadcrumbs", {"density": 0.6}, True),
            ("sce", {"density": 0.7}, True),
            ("sce", {"density": 1.0}, True),
        ],
    )
    def test_the_recipe_we_write_gives_what_we_wrote(self, llamas, tmp_path, method, options, based):
        collection = collected(llamas, based=based)
        ours = uws.merge(collection, method=method, convention="mergekit", **options).write(tmp_path / "ours")
        theirs = by_mergekit(ours / "recipe.yaml", tmp_path / "theirs")
        tensors = load_file(ours / "model.safetensors")
        assert set(tensors) == set(theirs)
        for name, tensor in tensors.items():
            torch.testing.assert_close(tensor, theirs[name], rtol=2e-6, atol=2e-8)

    @pytest.mark.parametrize("spread", [0.01, 1.0])
    def test_karcher_from_products_alone_is_the_one_from_entries(self, spread):
        from mergekit.merge_methods.karcher import karcher_merge_tensors

        generator = torch.Generator().manual_seed(0)
        kind = {"generator": generator, "dtype": torch.float64}
        weights = torch.randn(90, **kind) + spread * torch.randn(4, 90, **kind)
        recipe = MergeRecipe(method=MergeMethod.KARCHER, weights=(0.4, 0.3, 0.2, 0.1), convention=Convention.MERGEKIT)
        ours = combine(merge_grams([gram_of(weights.numpy())]), recipe).coefficients[0] @ weights.numpy()
        theirs = karcher_merge_tensors(list(weights), [0.4, 0.3, 0.2, 0.1])
        assert np.linalg.norm(ours - theirs.numpy()) < 1e-14 * float(theirs.norm())

    @pytest.mark.parametrize("t", [0.0, 0.3])
    def test_slerp(self, llamas, tmp_path, t):
        # Nearly parallel models are interpolated linearly; wide apart they are not.
        wide = tmp_path / "wide"
        for name in ("m0", "m1"):
            tensors = load_file(llamas / name / "model.safetensors")
            generator = torch.Generator().manual_seed(len(name) + int(name[1]))
            tensors = {key: t + 0.1 * torch.randn(t.shape, generator=generator) for key, t in tensors.items()}
            (wide / name).mkdir(parents=True)
            save_file(tensors, wide / name / "model.safetensors", metadata={"format": "pt"})
            (wide / name / "config.json").write_text((llamas / name / "config.json").read_text())
        for place in (llamas, wide):
            ours = uws.merge(collected(place, 2, based=False), method="slerp", t=t, convention="mergekit").write(
                tmp_path / f"ours-{place.name}"
            )
            theirs = by_mergekit(ours / "recipe.yaml", tmp_path / f"theirs-{place.name}")
            for name, tensor in load_file(ours / "model.safetensors").items():
                torch.testing.assert_close(tensor, theirs[name], rtol=2e-6, atol=2e-8)

    def test_bfloat16_to_its_own_type(self, llamas, tmp_path):
        collection = collected(llamas)
        draft = uws.merge(collection, method="ties", convention="mergekit", density=0.5, dtype="bfloat16")
        ours = draft.write(tmp_path / "ours")
        assert json.loads((ours / "config.json").read_text())["dtype"] == "bfloat16"
        recipe = yaml.safe_load((ours / "recipe.yaml").read_text())
        # In mergekit `dtype` is the type it computes in, `out_dtype` that of the file.
        assert (recipe["dtype"], recipe["out_dtype"]) == ("float32", "bfloat16")
        theirs = by_mergekit(ours / "recipe.yaml", tmp_path / "theirs")
        for name, tensor in load_file(ours / "model.safetensors").items():
            assert tensor.dtype == theirs[name].dtype == torch.bfloat16
            # One unit in the last place where float32 rounds to the other side of a tie.
            torch.testing.assert_close(tensor.float(), theirs[name].float(), rtol=2**-7, atol=1e-8)

    def test_random_drops_agree_in_size_and_their_seed_is_recorded(self, llamas, tmp_path):
        collection = collected(llamas)
        for method in ("dare", "dare-ties", "della"):
            draft = uws.merge(collection, method=method, density=0.6, convention="mergekit", seed=7)
            ours = draft.write(tmp_path / method)
            assert json.loads((ours / "merge.json").read_text())["recipe"]["seed"] == 7
            theirs = by_mergekit(ours / "recipe.yaml", tmp_path / f"{method}-theirs")
            base = load_file(llamas / "base" / "model.safetensors")
            tensors = load_file(ours / "model.safetensors")
            norms = [
                sum(float((one[name] - base[name]).square().sum()) for name in base) ** 0.5 for one in (tensors, theirs)
            ]
            assert norms[0] == pytest.approx(norms[1], rel=0.03), method

    def test_what_mergekit_reads_otherwise_gets_no_recipe(self, llamas, tmp_path):
        collection = collected(llamas)
        for method, options in (
            ("ties", {}), ("karcher", {}), ("tsv", {}), ("model-stock", {"scale": 0.5}), ("knots", {}),
        ):  # fmt: skip
            written = uws.merge(collection, method=method, **options).write(tmp_path / method)
            assert not (written / "recipe.yaml").exists()
            assert (written / "merge.json").exists()

    def test_a_recipe_is_read_as_mergekit_reads_it(self, llamas, tmp_path):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            f"merge_method: ties\nbase_model: {llamas / 'base'}\nmodels:\n  - model: {llamas / 'base'}\n"
            + "".join(
                f"  - model: {llamas / f'm{i}'}\n    parameters: {{weight: {w}, density: 0.5}}\n"
                for i, w in enumerate((0.4, 0.3, 0.2))
            )
            + "parameters: {lambda: 0.8, int8_mask: true}\ndtype: float32\n"
        )
        read = read_mergekit(recipe)
        assert read.dtype == "float32"
        collection = uws.collect(list(read.models), base=read.base)
        ours = uws.merge(collection, recipe=read.recipe, dtype=read.dtype).write(tmp_path / "ours")
        theirs = by_mergekit(recipe, tmp_path / "theirs")
        for name, tensor in load_file(ours / "model.safetensors").items():
            torch.testing.assert_close(tensor, theirs[name], rtol=2e-6, atol=2e-8)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("merge_method: nearswap\nmodels: [{model: m0}, {model: m1}]", "'nearswap' is not known here"),
            ("merge_method: linear\nmodels: [{model: m0}, {model: nowhere}]", "nowhere is not there"),
            ("merge_method: linear\nslices: [{sources: []}]", "slices are not read"),
            ("merge_method: linear", "models is a list"),
            ("just words", "no mergekit recipe"),
            ("a: [", "no recipe that can be read"),
            (
                "merge_method: ties\nbase_model: base\nmodels: [{model: m0, parameters: {density: [0.1, 0.9]}}]",
                "density differ by layer",
            ),
            (
                "merge_method: ties\nbase_model: base\nmodels: [{model: m0, parameters: {density: 0.1}}, {model: m1}]",
                "density differs between models",
            ),
            ("merge_method: linear\nmodels: [{model: m0}, {model: m1}]\nparameters: {turbo: 1}", "turbo of linear"),
        ],
    )
    def test_recipes_that_cannot_be_followed_say_why(self, llamas, text, reason):
        recipe = llamas / "bad.yaml"
        recipe.write_text(text)
        with pytest.raises(CollectionError, match=reason):
            read_mergekit(recipe)


class Small(nn.Module):
    """Two linear layers, one of them square."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


def peft_adapters(place: Path, count: int = 3, **options: object) -> Path:
    """Adapters as PEFT itself writes them, each on its own random factors."""
    for number in range(count):
        config = LoraConfig(**{"r": 3, "lora_alpha": 6, "target_modules": ["first", "second"]} | options)
        model = get_peft_model(Small(), config)
        generator = torch.Generator().manual_seed(number)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(place / f"a{number}")
    return place


def by_peft(place: Path, weights: tuple[float, ...], **options: object) -> dict[str, torch.Tensor]:
    """The updates of PEFT's own weighted adapter, by module, from dense products."""
    loaded = PeftModel.from_pretrained(Small(), place / "a0", adapter_name="a0")
    for number in range(1, len(weights)):
        loaded.load_adapter(place / f"a{number}", adapter_name=f"a{number}")
    names = [f"a{number}" for number in range(len(weights))]
    loaded.base_model.add_weighted_adapter(names, list(weights), "merged", **options)
    return {
        module: getattr(loaded.base_model.model, module).get_delta_weight("merged").detach()
        for module in ("first", "second")
    }


def updates(folder: Path) -> dict[str, torch.Tensor]:
    """The updates of a written adapter, through PEFT's own loader."""
    loaded = PeftModel.from_pretrained(Small(), folder)
    return {
        module: getattr(loaded.base_model.model, module).get_delta_weight("default").detach()
        for module in ("first", "second")
    }


class TestPeft:
    WEIGHTS = (0.5, 0.3, 0.2)

    @pytest.mark.parametrize(
        ("method", "options", "theirs"),
        [
            ("task-arithmetic", {"rank": 4}, {"combination_type": "svd", "svd_rank": 4}),
            ("task-arithmetic", {}, {"combination_type": "cat"}),
            ("ties", {"rank": 4, "density": 0.5}, {"combination_type": "ties_svd", "svd_rank": 4, "density": 0.5}),
        ],
    )
    def test_its_weighted_adapter_where_it_is_exact(self, tmp_path, method, options, theirs):
        place = peft_adapters(tmp_path / "adapters")
        draft = uws.merge(uws.collect(place), method=method, weights=self.WEIGHTS, convention="peft", **options)
        ours, expected = updates(draft.write(tmp_path / "ours")), by_peft(place, self.WEIGHTS, **theirs)
        for module, update in ours.items():
            torch.testing.assert_close(update, expected[module], rtol=1e-4, atol=1e-4)

    def test_its_linear_merge_multiplies_factors_of_different_adapters(self, tmp_path):
        place = peft_adapters(tmp_path / "adapters")
        draft = uws.merge(uws.collect(place), method="task-arithmetic", weights=self.WEIGHTS)
        ours = updates(draft.write(tmp_path / "ours"))["second"]
        theirs = by_peft(place, self.WEIGHTS, combination_type="linear")["second"]
        assert float((ours - theirs).norm() / ours.norm()) > 0.5

    def test_rank_stabilised_adapters_come_out_too_strong_there_and_right_here(self, tmp_path):
        place = peft_adapters(tmp_path / "adapters", r=4, use_rslora=True)
        draft = uws.merge(uws.collect(place), method="task-arithmetic", weights=self.WEIGHTS, rank=4)
        ours = updates(draft.write(tmp_path / "ours"))
        theirs = by_peft(place, self.WEIGHTS, combination_type="svd", svd_rank=4)
        for module, update in ours.items():
            # PEFT 0.21.2 keeps use_rslora and sets lora_alpha = r: scaled by r / sqrt(r) = 2.
            torch.testing.assert_close(theirs[module], 2 * update, rtol=1e-4, atol=1e-4)

    def test_mixed_ranks_and_scales_of_modules(self, tmp_path):
        place = peft_adapters(tmp_path / "adapters", rank_pattern={"second": 5}, alpha_pattern={"second": 2})
        ours = updates(uws.merge(uws.collect(place), weights=None).write(tmp_path / "ours"))
        singles = [updates(place / f"a{number}") for number in range(3)]
        for module, update in ours.items():
            torch.testing.assert_close(update, sum(one[module] for one in singles) / 3, rtol=1e-4, atol=1e-4)
