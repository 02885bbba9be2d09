import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from tests.written import dense, draw, pair, written
from uws_core.collection import collect
from uws_core.errors import LayerError, UnreadableFile
from uws_core.nouns.loader import Fate
from uws_core.nouns.models import LayerKey, ModelRef
from uws_core.passes.gram import gram
from uws_core.run import chosen_layers
from uws_core.sources.files import blob
from uws_core.sources.formats.adapter import Adapter
from uws_core.sources.opening import open_source
from uws_core.ui.tokens import layer_names

Q = "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q"


# How each trainer writes one update of the layer Q: prefix and module, down, up, and the alpha if it is stored.
DIALECTS = {
    "peft": (f"base_model.model.unet.{Q}", "lora_A.weight", "lora_B.weight", None),
    "kohya": (f"lora_unet_{Q.replace('.', '_')}", "lora_down.weight", "lora_up.weight", "alpha"),
    "diffusers": (f"unet.{Q}", "lora_A.weight", "lora_B.weight", None),
    "diffusers, before PEFT": (f"unet.{Q}", "lora.down.weight", "lora.up.weight", None),
    "diffusers, in processors": (
        f"unet.{Q.replace('attn1.', 'attn1.processor.')}_lora", "down.weight", "up.weight", None
    ),
    "diffusers, linear layers": (f"unet.{Q}", "lora_linear_layer.down.weight", "lora_linear_layer.up.weight", None),
    "comfyui": (f"diffusion_model.{Q}", "lora_A.weight", "lora_B.weight", "alpha"),
    "comfyui, kohya's ends": (f"diffusion_model.{Q}", "lora_down.weight", "lora_up.weight", "alpha"),
}  # fmt: skip


def in_dialect(name: str, up: Tensor, down: Tensor, scale: float) -> tuple[dict[str, Tensor], dict[str, object] | None]:
    module, a, b, alpha = DIALECTS[name]
    rank = down.shape[0]
    tensors = {f"{module}.{a}": down, f"{module}.{b}": up}
    if alpha:
        tensors[f"{module}.{alpha}"] = torch.tensor(scale * rank)
    return tensors, {"peft_type": "LORA", "r": rank, "lora_alpha": scale * rank} if name == "peft" else None


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_gives_the_same_layer_under_the_same_name(tmp_path: Path, name: str):
    up, down = pair(0)
    scale = 1.5 if name in ("peft", "kohya") or "comfyui" in name else 1.0
    source = open_source(written(tmp_path, *in_dialect(name, up, down, scale)))
    assert source.layers()[0] == LayerKey(f"unet.{Q}.weight", (8, 6))
    torch.testing.assert_close(dense(source.read(f"unet.{Q}.weight")), scale * up.double() @ down.double())
    assert source.dialects == (name.split(",")[0],)
    report = source.report()
    assert report.counts[Fate.USED] == len(report.keys)
    assert ("alpha" in report.scales[0].where) == (scale != 1.0 or "no alpha" in report.scales[0].where)


def test_dialects_and_ranks_mix_in_one_collection(tmp_path: Path):
    for i, name in enumerate(DIALECTS):
        up, down = pair(i, r=i % 3 + 1)
        written(tmp_path / f"{i}", *in_dialect(name, up, down, 1.0))
    found = collect(tmp_path)
    assert len(found) == len(DIALECTS)
    assert [layer.name for layer in found.layers] == [f"unet.{Q}.weight"]
    updates = torch.stack([(up @ down).double().flatten() for up, down in (pair(i, r=i % 3 + 1) for i in range(8))])
    expected = updates - updates.mean(0)
    torch.testing.assert_close(
        torch.tensor(gram(found, found.layers[0]).values), expected @ expected.T, rtol=1e-5, atol=1e-4
    )
    ranks = [note for note in found.left_out if note.what.endswith(":A")]
    assert "1 x 6 in 3 of 8 models" in ranks[0].reason


def test_one_dialect_may_be_asked_for(tmp_path: Path):
    for i, name in enumerate(["kohya", "diffusers", "kohya"]):
        written(tmp_path / f"{i}", *in_dialect(name, *pair(i), 1.0))
    found = collect(tmp_path, dialect="kohya")
    assert found.labels == ("0", "2")
    assert found.left_out[0].reason == "its dialect is diffusers, only kohya was requested"


# Every example writes and reads six models.
@settings(max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from([torch.float32, torch.float64]))
def test_the_gauge_changes_no_update(tmp_path_factory: pytest.TempPathFactory, seed: int, dtype: torch.dtype):
    folder = tmp_path_factory.mktemp("gauge")
    chance = draw(seed)
    for i in range(3):
        up, down = (part.to(dtype) for part in pair(seed + i))
        turn = torch.linalg.qr(torch.randn(2, 2, generator=chance, dtype=dtype)).Q * (1 + i)
        for place, (b, a) in {"plain": (up, down), "turned": (up @ torch.linalg.inv(turn), turn @ down)}.items():
            tensors = {"base_model.model.q.lora_A.weight": a, "base_model.model.q.lora_B.weight": b}
            written(folder / place / f"{i}", tensors, {"peft_type": "LORA", "r": 2, "lora_alpha": 2})
    first, second = collect(folder / "plain"), collect(folder / "turned")
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    values = [torch.tensor(gram(one, "q.weight").values) for one in (first, second)]
    torch.testing.assert_close(values[0], values[1], rtol=tolerance, atol=tolerance * float(values[0].abs().max()))
    views = [torch.tensor(gram(one, "q.weight:A").values) for one in (first, second)]
    assert not torch.allclose(views[0], views[1], rtol=1e-3)


class TestReading:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Adapter:
        up, down = pair(0)
        tensors = {"base_model.model.x.q.lora_A.weight": down, "base_model.model.x.q.lora_B.weight": up}
        return open_source(written(tmp_path, tensors, {"peft_type": "LORA", "r": 2, "lora_alpha": 3}))

    def test_rows_are_rows_of_the_update(self, source: Adapter):
        whole = dense(source.read("x.q.weight"))
        for start, stop in [(0, 1), (3, 8), (2, 2)]:
            assert torch.equal(dense(source.read("x.q.weight", (start, stop))), whole[start:stop])

    def test_the_views_are_the_stored_factors(self, source: Adapter):
        up, down = pair(0)
        assert torch.equal(source.read("x.q.weight:A"), down)
        assert torch.equal(source.read("x.q.weight:B", (2, 5)), up[2:5])
        into = torch.empty(2, 6, dtype=torch.float64)
        assert source.read("x.q.weight:A", into=into) is into
        assert torch.equal(into, down.double())

    def test_what_is_moved_is_both_factors(self, source: Adapter):
        assert source.stored_bytes("x.q.weight") == (8 * 2 + 2 * 6) * 4
        assert source.stored_bytes("x.q.weight:A") == 2 * 6 * 4

    def test_unknown_layers_and_rows_are_named(self, source: Adapter):
        with pytest.raises(LayerError, match=r"no layer 'y'"):
            source.read("y")
        with pytest.raises(LayerError, match="rows 0 to 8"):
            source.read("x.q.weight", (0, 9))

    def test_a_view_is_short_on_a_figure(self, source: Adapter):
        view = next(layer for layer in source.layers() if layer.factor)
        assert (view.short, view.factor) == ("x.q:A", "A")


class TestDigest:
    CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}  # noqa: RUF012 - never changed

    def digest(self, folder: Path, config: dict[str, object], seed: int = 0) -> str:
        up, down = pair(seed)
        tensors = {"base_model.model.q.lora_A.weight": down, "base_model.model.q.lora_B.weight": up}
        return open_source(written(folder, tensors, config)).digest()

    def test_the_scale_is_part_of_the_content(self, tmp_path: Path):
        first = self.digest(tmp_path / "a", self.CONFIG)
        assert self.digest(tmp_path / "b", self.CONFIG) == first
        assert self.digest(tmp_path / "c", self.CONFIG | {"lora_alpha": 4}) != first
        assert self.digest(tmp_path / "d", self.CONFIG, seed=1) != first

    def test_a_changed_configuration_is_noticed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        for i in range(2):
            self.digest(tmp_path / f"{i}", self.CONFIG, seed=i)
        found = collect(tmp_path)
        # Old enough that the weights' state is trusted; the configuration still counts.
        monkeypatch.setattr(blob, "SETTLED_NS", 0)
        assert open_source(found.refs[0]) is open_source(found.refs[0])
        (tmp_path / "0" / "adapter_config.json").write_text(json.dumps(self.CONFIG | {"lora_alpha": 9}))
        with pytest.raises(UnreadableFile, match="changed since"):
            open_source(found.refs[0])


class TestReport:
    def test_a_mixed_file_lists_every_key(self, tmp_path: Path):
        up, down = pair(0)
        prefix = "base_model.model."
        tensors = {
            f"{prefix}q.lora_A.weight": down,
            f"{prefix}q.lora_B.weight": up,
            f"{prefix}q.lora_magnitude_vector": torch.ones(8),
            f"{prefix}half.lora_A.weight": down,
            f"{prefix}wrong.lora_A.weight": down,
            f"{prefix}wrong.lora_B.weight": torch.ones(8, 3),
            f"{prefix}empty.lora_A.weight": torch.ones(0, 6),
            f"{prefix}empty.lora_B.weight": torch.ones(8, 0),
            f"{prefix}whole.lora_A.weight": torch.ones(2, 6, dtype=torch.int8),
            f"{prefix}whole.lora_B.weight": torch.ones(8, 2, dtype=torch.int8),
            f"{prefix}head.modules_to_save.weight": torch.ones(3, 8),
            f"{prefix}head.modules_to_save.bias": torch.ones(3),
            f"{prefix}other.weight": torch.ones(4, 8),
            f"{prefix}q.base_layer.weight": torch.ones(8, 6),
            f"{prefix}k.ia3_l": torch.ones(8, 1),
            "what.is.this": torch.ones(2, 2),
        }
        source = open_source(written(tmp_path, tensors, {"peft_type": "LORA", "r": 2, "use_dora": True}))
        report = source.report()
        assert [one.key for one in report.keys] == list(source._tensors.spans)
        fates = {one.key.removeprefix(prefix): (one.fate, one.why) for one in report.keys}
        assert {key for key, (fate, _) in fates.items() if fate is Fate.USED} == {
            "q.lora_A.weight", "q.lora_B.weight", "head.modules_to_save.weight",
        }  # fmt: skip
        assert {key for key, (fate, _) in fates.items() if fate is Fate.IGNORED} == {
            "q.lora_magnitude_vector", "head.modules_to_save.bias", "q.base_layer.weight", "other.weight",
        }  # fmt: skip
        assert {key for key, (fate, _) in fates.items() if fate is Fate.UNKNOWN} == {"what.is.this"}
        assert "(IA)3" in fates["k.ia3_l"][1]
        assert "the base model's own weights" in fates["other.weight"][1]
        assert "not what belongs to it" in fates["half.lora_A.weight"][1]
        assert "do not fit each other: down (2, 6), up (8, 3)" in fates["wrong.lora_A.weight"][1]
        assert "I8" in fates["whole.lora_B.weight"][1]
        assert any("DoRA" in note for note in report.notes)
        assert {note.what for note in source.left_out} >= {
            key for key in tensors if fates[key.removeprefix(prefix)][0] != "used"
        }

    def test_where_a_scale_was_found_is_said(self, tmp_path: Path):
        up, down = pair(0)
        tensors = {"a.lora_A.weight": down, "a.lora_B.weight": up}
        prefixed = {f"base_model.model.{name}": value for name, value in tensors.items()}
        none = open_source(written(tmp_path / "none", tensors)).report().scales[0]
        assert (none.scale, none.where) == (1.0, "no alpha and no configuration was found")
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "use_rslora": True, "alpha_pattern": {"a": 5}}
        found = open_source(written(tmp_path / "some", prefixed, config)).report().scales[0]
        assert found.scale == pytest.approx(5 / math.sqrt(2))
        assert found.where == "adapter_config.json: alpha_pattern 'a' 5 / sqrt(rank 2), rsLoRA"

    def test_the_notes_that_diffusers_keeps_in_the_header_are_read(self, tmp_path: Path):
        up, down = pair(0)
        notes = {"unet.r": 2, "unet.lora_alpha": 8, "text_encoder.r": 2, "text_encoder.lora_alpha": 1}
        tensors = {f"{part}.q.lora_{side}.weight": value for part in ("unet", "text_encoder")
                   for side, value in (("A", down), ("B", up))}  # fmt: skip
        path = tmp_path / "pytorch_lora_weights.safetensors"
        save_file(
            {name: value.clone() for name, value in tensors.items()},
            path,
            metadata={"lora_adapter_metadata": json.dumps(notes)},
        )
        scales = {one.layer: one.scale for one in open_source(ModelRef(str(path), "")).report().scales}
        assert scales == {"unet.q.weight": 4.0, "text_encoder.q.weight": 0.5}


def test_all_layers_of_adapters_are_the_updates_and_not_their_views():
    found = collect("demo:lora")
    updates = {layer.name for layer in found.layers if not layer.factor}
    assert {layer.name for layer in chosen_layers(found, None)} == set(layer_names(found, ())) == updates
    view = next(layer.name for layer in found.layers if layer.factor)
    assert layer_names(found, (view,)) == (view,)


def test_adapters_and_whole_models_are_not_mixed(tmp_path: Path):
    for i in range(3):
        up, down = pair(i)
        written(tmp_path / f"a{i}", {"base_model.model.q.lora_A.weight": down, "base_model.model.q.lora_B.weight": up})
    save_file({"q.weight": torch.ones(8, 6)}, tmp_path / "whole.safetensors")
    found = collect(tmp_path)
    assert found.labels == ("a0", "a1", "a2")
    assert "of the kind 'checkpoint', while 3 of 4" in found.left_out[0].reason


def test_a_layer_that_is_dense_in_one_adapter_is_left_out(tmp_path: Path):
    for i, kind in enumerate(["lora", "lora", "diff"]):
        up, down = pair(i)
        tensors = {"diffusion_model.k.lora_A.weight": down, "diffusion_model.k.lora_B.weight": up}
        if kind == "lora":
            tensors |= {"diffusion_model.q.lora_A.weight": down, "diffusion_model.q.lora_B.weight": up}
        else:
            tensors |= {"diffusion_model.q.diff": up @ down}
        written(tmp_path / f"{i}", tensors)
    found = collect(tmp_path)
    assert [layer.name for layer in found.layers if not layer.factor] == ["unet.k.weight"]
    assert "low-rank in 2 of 3 models" in next(n.reason for n in found.left_out if n.what == "unet.q.weight")


def test_the_built_in_adapters_show_their_shared_start_in_the_view_and_not_in_the_update():
    found = collect("demo:lora", base=None)
    assert len(found) == 40
    starts = found.table["initialisation"]
    shared = torch.tensor([start == "A-shared" for start in starts])
    assert int(shared.sum()) == 20
    view, update = ((torch.tensor(gram(found, name).cosines("zero")).abs()) for name in
                    ("blocks.1.attn.q.weight:A", "blocks.1.attn.q.weight"))  # fmt: skip

    def inside(cosines: Tensor, mask: Tensor) -> float:
        block = cosines[mask][:, mask]
        return float(block[~torch.eye(len(block), dtype=torch.bool)].mean())

    # Mean |cosine| measured: 0.49 and 0.08 in the view of A, 0.06 and 0.04 in the update.
    assert inside(view, shared) > 0.35
    assert inside(view, ~shared) < 0.15
    assert max(inside(update, shared), inside(update, ~shared)) < 0.15
