from pathlib import Path

import torch
from torch import Tensor

from tests.written import dense, draw, pair, written
from uws_core.nouns.loader import Fate
from uws_core.nouns.models import LayerKey
from uws_core.sources.opening import open_source


class TestKohya:
    """Against the products written out as its own scripts do."""

    def test_a_convolution_with_a_core(self, tmp_path: Path):
        chance = draw()
        up, mid, down = (torch.randn(s, generator=chance) for s in [(8, 3, 1, 1), (3, 2, 3, 3), (2, 5, 1, 1)])
        name = "lora_unet_down_blocks_0_resnets_0_conv1"
        tensors = {f"{name}.lora_up.weight": up, f"{name}.lora_mid.weight": mid, f"{name}.lora_down.weight": down}
        source = open_source(written(tmp_path, tensors | {f"{name}.alpha": torch.tensor(1.0)}))
        expected = torch.einsum("oa,abkl,bi->oikl", up[..., 0, 0], mid, down[..., 0, 0]).flatten(1) * 1.0 / 2
        layer = source.layers()[0]
        assert layer == LayerKey("unet.down_blocks.0.resnets.0.conv1.weight", (8, 45))
        torch.testing.assert_close(dense(source.read(layer.name)).float(), expected)

    def test_a_plain_convolution(self, tmp_path: Path):
        chance = draw()
        up, down = torch.randn(8, 2, 1, 1, generator=chance), torch.randn(2, 5, 3, 3, generator=chance)
        name = "lora_unet_conv_in"
        source = open_source(written(tmp_path, {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}))
        merged = torch.nn.functional.conv2d(down.permute(1, 0, 2, 3), up).permute(1, 0, 2, 3)
        torch.testing.assert_close(dense(source.read("unet.conv_in.weight")).float(), merged.flatten(1))

    def test_hadamard_and_kronecker_products(self, tmp_path: Path):
        chance = draw()

        def some(*shape: int) -> Tensor:
            return torch.randn(shape, generator=chance)

        loha = {f"hada_w{n}_{side}": some(8, 2) if side == "a" else some(2, 6) for n in (1, 2) for side in "ab"}
        lokr = {"lokr_w1": some(2, 3), "lokr_w2_a": some(4, 2), "lokr_w2_b": some(2, 2)}
        whole = {"lokr_w1": some(2, 3), "lokr_w2": some(4, 2)}
        modules = {"lora_te_a": loha, "lora_te_b": lokr, "lora_te_c": whole}
        tensors = {f"{module}.{part}": value for module, parts in modules.items() for part, value in parts.items()}
        source = open_source(written(tmp_path, tensors | {f"{module}.alpha": torch.tensor(6.0) for module in modules}))
        expected = {
            "a": 3 * (loha["hada_w1_a"] @ loha["hada_w1_b"]) * (loha["hada_w2_a"] @ loha["hada_w2_b"]),
            "b": 3 * torch.kron(lokr["lokr_w1"], lokr["lokr_w2_a"] @ lokr["lokr_w2_b"]),
            "c": torch.kron(whole["lokr_w1"], whole["lokr_w2"]),
        }
        for name, value in expected.items():
            torch.testing.assert_close(dense(source.read(f"text_encoder.{name}.weight")).float(), value)
        assert "whole" in next(one.where for one in source.report().scales if one.layer == "text_encoder.c.weight")

    def test_a_product_of_too_many_ranks_is_left_out_with_the_number(self, tmp_path: Path):
        tensors = {"lora_te_a.lokr_w1": torch.ones(20, 20), "lora_te_a.lokr_w2": torch.ones(20, 20)}
        up, down = pair(0)
        plain = {"lora_te_b.lora_down.weight": down, "lora_te_b.lora_up.weight": up}
        source = open_source(written(tmp_path, tensors | plain))
        assert [layer.name for layer in source.layers() if not layer.factor] == ["text_encoder.b.weight"]
        reasons = {note.what: note.reason for note in source.left_out}
        assert set(reasons) - {"the file"} == set(tensors)
        assert all("400 ranks, at most 256" in reasons[name] for name in tensors)

    def test_a_product_that_would_fill_the_memory_is_left_out_with_the_number(self, tmp_path: Path):
        # 640 kB that spell a column of 6.4 billion entries.
        tensors = {"lora_te_a.lokr_w1": torch.ones(80_000, 1), "lora_te_a.lokr_w2": torch.ones(80_000, 1)}
        up, down = pair(0)
        plain = {"lora_te_b.lora_down.weight": down, "lora_te_b.lora_up.weight": up}
        source = open_source(written(tmp_path, tensors | plain))
        assert [layer.name for layer in source.layers() if not layer.factor] == ["text_encoder.b.weight"]
        reasons = {note.what: note.reason for note in source.left_out}
        assert "factors of 6,400,000,001 entries, at most 67,108,864" in reasons["lora_te_a.lokr_w1"]

    def test_the_scalar_that_lycoris_trains_is_multiplied_in(self, tmp_path: Path):
        chance = draw()
        w1, w2 = torch.randn(2, 3, generator=chance), torch.randn(4, 2, generator=chance)
        up, down = pair(0)
        tensors = {
            "lora_te_a.lokr_w1": w1,
            "lora_te_a.lokr_w2": w2,
            "lora_te_a.scalar": torch.tensor(-0.25),
            "lora_te_b.lora_up.weight": up,
            "lora_te_b.lora_down.weight": down,
            "lora_te_b.alpha": torch.tensor(1.0),
            "lora_te_b.scalar": torch.tensor([3.0]),
            "lora_te_c.lora_up.weight": up,
            "lora_te_c.lora_down.weight": down,
            "lora_te_c.scalar": torch.ones(2),
        }
        source = open_source(written(tmp_path, tensors))
        torch.testing.assert_close(dense(source.read("text_encoder.a.weight")).float(), -0.25 * torch.kron(w1, w2))
        torch.testing.assert_close(dense(source.read("text_encoder.b.weight")).float(), 1.5 * up @ down)
        report = source.report()
        assert "times lora_te_b.scalar 3" in next(one.where for one in report.scales if "b" in one.layer)
        assert report.counts[Fate.USED] == 7
        why = {one.key: one.why for one in report.keys}["lora_te_c.lora_up.weight"]
        assert "scalar of text_encoder.c is F32 of shape (2,), a single number was expected" in why
