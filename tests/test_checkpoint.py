"""Whole models as people keep them: wrapped, eight-bit, transposed, with other vocabularies, by transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from uws_core.collection import collect
from uws_core.errors import LayerError
from uws_core.nouns.loader import Fate
from uws_core.nouns.models import ModelRef
from uws_core.passes.gram import gram
from uws_core.sources.formats.tensor_names import nearest, unwrapped
from uws_core.sources.opening import open_source

pytestmark = pytest.mark.filterwarnings("ignore")


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def at(folder: Path, tensors: dict[str, Tensor], name: str = "model") -> ModelRef:
    folder.mkdir(exist_ok=True, parents=True)
    save_file(tensors, folder / f"{name}.safetensors")
    return ModelRef(str(folder / f"{name}.safetensors"), "")


class TestWrappers:
    @pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
    def test_what_wraps_a_model_is_no_part_of_a_name(self, tmp_path: Path, prefix: str):
        plain = {"h.0.q.weight": some(3, 2), "h.module.k.weight": some(4, 2)}
        at(tmp_path, plain, "a")
        at(tmp_path, {prefix + name: value + 1 for name, value in plain.items()}, "b")
        found = collect(tmp_path)
        assert {layer.name for layer in found.layers} == set(plain)
        assert torch.equal(open_source(found.refs[1]).read("h.0.q.weight"), plain["h.0.q.weight"] + 1)

    def test_a_wrapper_in_the_middle_goes_too(self):
        assert (
            unwrapped("model.layers.0._orig_mod.mlp._checkpoint_wrapped_module.up.weight")
            == "model.layers.0.mlp.up.weight"
        )

    def test_two_tensors_of_one_name_are_told(self, tmp_path: Path):
        source = open_source(at(tmp_path, {"q.weight": some(2, 2), "module.q.weight": some(2, 2)}))
        assert len(source.layers()) == 1
        assert "same name without its wrapper" in source.left_out[0].reason
        assert source.report().counts[Fate.IGNORED] == 1


@pytest.mark.parametrize(
    ("asked", "names", "found"),
    [
        ("transformer.h.0.q", ["h.0.q", "h.1.q"], "h.0.q"),
        ("h.0.q", ["transformer.h.0.q", "transformer.h.1.q"], "transformer.h.0.q"),
        ("q", ["encoder.q", "decoder.q"], None),
        ("x.q", ["y.q"], None),
        ("q", ["q", "encoder.q"], "q"),
    ],
)
def test_a_base_may_name_its_layers_with_other_leading_parts(asked: str, names: list[str], found: str | None):
    assert nearest(asked, names) == found


def test_a_base_with_another_prefix_is_a_row_of_the_pass(tmp_path: Path):
    for i in range(3):
        at(tmp_path / "models", {"transformer.h.0.q.weight": some(4, 3, seed=i)}, f"m{i}")
    plain = at(tmp_path, {"h.0.q.weight": some(4, 3, seed=9)}, "plain")
    same = at(tmp_path, {"transformer.h.0.q.weight": some(4, 3, seed=9)}, "same")
    grams = [gram(collect(tmp_path / "models", base=base), "transformer.h.0.q.weight") for base in (plain, same)]
    assert grams[0].base is not None
    assert grams[0].base.norm2 == grams[1].base.norm2


class TestCommonRows:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for i, rows in enumerate([9, 7, 9]):
            at(tmp_path / "runs", {"q.weight": some(4, 3, seed=i), "embed.weight": some(rows, 3, seed=10 + i)}, f"m{i}")
        return tmp_path / "runs"

    def test_are_left_out_by_default(self, folder: Path):
        found = collect(folder)
        assert [layer.name for layer in found.layers] == ["q.weight"]
        assert [note.reason for note in found.left_out] == ["9 x 3 in 2 of 3 models; 7 x 3 in m1"]

    def test_are_compared_by_choice_and_named_so(self, folder: Path):
        found = collect(folder, common_rows=True)
        layer = found.by_name["embed.weight[:7]"]
        assert (layer.shape, layer.short, layer.whole) == ((7, 3), "embed[:7]", "embed.weight")
        assert "only its first 7 rows" in found.left_out[0].reason
        rows = torch.stack([some(n, 3, seed=10 + i)[:7].double().flatten() for i, n in enumerate([9, 7, 9])])
        rows = rows - rows.mean(0)
        torch.testing.assert_close(torch.tensor(gram(found, layer).values), rows @ rows.T, rtol=1e-5, atol=1e-5)

    def test_reading_stops_at_the_common_rows(self, folder: Path):
        source = open_source(ModelRef(str(folder / "m0.safetensors"), ""))
        whole = source.read("embed.weight")
        assert torch.equal(source.read("embed.weight[:7]"), whole[:7])
        assert torch.equal(source.read("embed.weight[:7]", (5, 7)), whole[5:7])
        assert source.stored_bytes("embed.weight[:7]") == 7 * 3 * 4
        with pytest.raises(LayerError, match="rows 0 to 7"):
            source.read("embed.weight[:7]", (5, 8))
        with pytest.raises(LayerError, match="no layer"):
            source.read("embed.weight[:10]")

    def test_a_base_with_more_rows_serves(self, folder: Path, tmp_path: Path):
        base = at(tmp_path, {"q.weight": some(4, 3, seed=5), "embed.weight": some(20, 3, seed=6)}, "base")
        found = collect(folder, base=base, common_rows=True)
        assert found.base_layers == {"q.weight", "embed.weight[:7]"}
        assert gram(found, "embed.weight[:7]").base is not None

    def test_heads_saved_with_adapters_too(self, tmp_path: Path):
        for i, rows in enumerate([5, 4]):
            tensors = {
                "base_model.model.q.lora_A.weight": some(2, 3, seed=i),
                "base_model.model.q.lora_B.weight": some(4, 2, seed=i),
                "base_model.model.head.weight": some(rows, 3, seed=i),
            }
            at(tmp_path / f"a{i}", tensors, "adapter_model")
        found = collect(tmp_path, common_rows=True)
        assert torch.equal(open_source(found.refs[0]).read("head.weight[:4]"), some(5, 3, seed=0)[:4])


class TestTransposed:
    def gpt2(self, seed: int, *, linear: bool) -> dict[str, Tensor]:
        shapes = {"attn.c_attn": (4, 12), "attn.c_proj": (4, 4), "mlp.c_fc": (4, 16), "mlp.c_proj": (16, 4)}
        turn = {name: shape[::-1] if linear else shape for name, shape in shapes.items()}
        return {f"h.0.{name}.weight": some(*shape, seed=seed) for name, shape in turn.items()} | {
            "wte.weight": some(9, 4)
        }

    def test_the_collection_says_which_layers_are_stored_inputs_first(self, tmp_path: Path):
        for i in range(2):
            at(tmp_path, self.gpt2(i, linear=False), f"m{i}")
        found = collect(tmp_path)
        assert found.transposed == {layer.name for layer in found.layers} - {"wte.weight"}
        assert any("inputs x outputs" in note.reason for note in found.left_out)

    def test_the_same_names_on_linear_layers_are_not(self, tmp_path: Path):
        for i in range(2):
            at(tmp_path, self.gpt2(i, linear=True), f"m{i}")
        assert collect(tmp_path).transposed == frozenset()


class TestTransformers:
    """Second opinion: what transformers writes, one file or many, is read as it reads it."""

    transformers = pytest.importorskip("transformers")

    def tiny(self, seed: int, *, tied: bool = False) -> nn.Module:
        torch.manual_seed(seed)
        config = self.transformers.LlamaConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=40, max_position_embeddings=16, tie_word_embeddings=tied,
        )  # fmt: skip
        return self.transformers.LlamaForCausalLM(config)

    def test_shards_read_as_transformers_reads_them(self, tmp_path: Path):
        for i, dtype in enumerate([torch.bfloat16, torch.float32]):
            self.tiny(i).to(dtype).save_pretrained(tmp_path / f"m{i}", max_shard_size="4KB")
        assert len(list((tmp_path / "m0").glob("*.safetensors"))) > 2
        found = collect(tmp_path)
        assert len(found) == 2
        for ref, dtype in zip(found.refs, (torch.bfloat16, torch.float32), strict=True):
            theirs = self.transformers.LlamaForCausalLM.from_pretrained(ref.repo, dtype=dtype).state_dict()
            source = open_source(ref)
            matrices = {name for name, value in theirs.items() if value.ndim == 2}
            assert {layer.name for layer in source.layers()} == matrices
            for name in matrices:
                assert torch.equal(source.read(name), theirs[name])

    def test_shards_and_one_file_give_one_gram(self, tmp_path: Path):
        for place, size in {"one": "1GB", "many": "8KB"}.items():
            for i in range(3):
                self.tiny(i).save_pretrained(tmp_path / place / f"m{i}", max_shard_size=size)
        first, second = collect(tmp_path / "one"), collect(tmp_path / "many")
        assert set(first.layers) == set(second.layers)
        for layer in first.layers:
            assert (gram(first, layer).values == gram(second, layer).values).all()

    def test_a_tied_head_is_told_where_others_have_one(self, tmp_path: Path):
        for i in range(3):
            self.tiny(i, tied=i == 1).save_pretrained(tmp_path / f"m{i}")
        found = collect(tmp_path)
        reason = next(note.reason for note in found.left_out if note.what == "lm_head.weight")
        assert reason == "40 x 16 in 2 of 3 models; missing in m1"
