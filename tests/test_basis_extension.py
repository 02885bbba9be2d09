"""A basis is widened for a newcomer by as few directions as its error asks for, and no other member is changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import uws_core as uws
from uws_core.analysis import basis_extension
from uws_core.cli.main import main
from uws_core.errors import LayerError, UnreadableFile

pytestmark = pytest.mark.usefixtures("results_folder")
LAYERS = ["blocks.0.attn.q.weight", "blocks.0.mlp.up.weight"]


def basis(rows: int, k: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((rows, k)))[0]


def test_as_many_directions_are_added_as_lie_outside():
    left, right, generator = basis(30, 5, 0), basis(20, 5, 1), np.random.default_rng(2)
    # Of the newcomer's four directions a side two are in the basis, one strong and one weak one are outside.
    outside = np.linalg.qr(np.column_stack([left, generator.standard_normal((30, 2))]))[0][:, 5:]
    beside = np.linalg.qr(np.column_stack([right, generator.standard_normal((20, 2))]))[0][:, 5:]
    up = np.column_stack([left[:, :2], outside * [3, 0.1]])
    down = np.column_stack([right[:, :2], beside]).T
    for allowed2, added, error2 in ((0.0, 2, 0.0), (0.02, 1, 0.01), (20.0, 0, 9.01)):
        found = basis_extension.two_sided(up, down, left, right, allowed2=allowed2)
        assert found.added == added
        assert found.error2 == pytest.approx(error2, abs=1e-12)
        wide = np.column_stack([left, found.left]), np.column_stack([right, found.right])
        np.testing.assert_allclose(wide[0].T @ wide[0], np.eye(5 + added), atol=1e-12)
        lost = up @ down - wide[0] @ found.core @ wide[1].T
        assert np.square(lost).sum() == pytest.approx(error2, abs=1e-12)


def test_one_sided_and_diagonal_extensions_leave_the_tail_of_the_rest():
    generator = np.random.default_rng(0)
    matrix, right = generator.standard_normal((9, 12)), basis(12, 3, 1)
    sizes = np.linalg.svd(matrix - matrix @ right @ right.T, compute_uv=False)
    found = basis_extension.one_sided(matrix, right, allowed2=float(np.square(sizes[2:]).sum()) * (1 + 1e-9))
    assert found.added == 2
    rebuilt = found.core @ np.column_stack([right, found.right]).T
    assert np.square(matrix - rebuilt).sum() == pytest.approx(np.square(sizes[2:]).sum())
    up, down, left, core = matrix[:, :4], generator.standard_normal((4, 12)), basis(9, 3, 2), np.array([1.0, 2, -1])
    found = basis_extension.diagonal(up, down, left, right, core, allowed2=1e-9)
    rebuilt = np.column_stack([left, found.left]) * found.core @ np.column_stack([right, found.right]).T
    np.testing.assert_allclose(rebuilt, up @ down, atol=1e-6)


def stranger(place: Path, original: Path) -> Path:
    """An adapter of random factors in the form of another one."""
    shutil.copytree(original, place)
    generator = torch.Generator().manual_seed(0)
    tensors = load_file(place / "adapter_model.safetensors")
    random = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in tensors.items()}
    save_file(random, place / "adapter_model.safetensors")
    return place


# With ten directions a side, cores of rank four are stored as factors.
@pytest.mark.parametrize(("method", "k"), [("two-sided", 4), ("two-sided", 10), ("diagonal", 4)])
def test_a_stranger_joins_by_extension_and_the_others_are_rebuilt_as_before(tmp_path, method, k):
    adapters = uws.collect("demo:lora")
    draft = uws.compress(adapters, kept=k, method=method, layers=LAYERS, members=range(6))
    folder = draft.write(tmp_path / "c")
    before = uws.open_compressed(folder)
    rebuilt = {
        (name, plan.layer.name): before.layer(name, plan.layer.name) for name in before.members for plan in before.plans
    }
    joined = uws.join(folder, stranger(tmp_path / "new", Path(adapters.refs[0].repo)), extend=True)
    assert joined.projected > draft.worst + 0.05
    assert set(joined.extended) == set(LAYERS)
    assert joined.basis == 2
    assert f"extended by up to {max(joined.extended.values())} directions a side in 2 layers" in str(joined)
    after = uws.open_compressed(folder)
    for (name, layer), matrix in rebuilt.items():
        torch.testing.assert_close(after.layer(name, layer), matrix, rtol=0, atol=1e-7)
    lost2 = total2 = 0.0
    tensors = load_file(tmp_path / "new" / "adapter_model.safetensors")
    for number, layer in enumerate(LAYERS):
        module = f"base_model.model.{layer.removesuffix('.weight')}"
        update = 2 * tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]
        lost = float((update - after.layer("new", layer)).square().sum())
        # No more is added than is needed: the newcomer is as far off as the worst member.
        assert (
            0.4 * draft.layer_errors[number].max()
            < np.sqrt(lost / float(update.square().sum()))
            <= draft.layer_errors[number].max() + 1e-5
        )
        lost2, total2 = lost2 + lost, total2 + float(update.square().sum())
    assert np.sqrt(lost2 / total2) == pytest.approx(joined.error, rel=1e-4)
    assert [member["basis"] for member in after.index["members"]] == [1] * 6 + [2]
    assert after.index["basis"] == 2
    size = {plan.layer.name: plan for plan in after.plans}[LAYERS[0]]
    assert size.k == k + joined.extended[LAYERS[0]]
    assert size.member_numbers == after.files.stored_cores(LAYERS[0])[0].numel()
    # The folder is used as any other: opened as a collection, and joined again.
    assert len(uws.collect(folder)) == 7
    again = uws.join(folder, adapters.refs[0].repo, name="again", extend=True)
    assert again.extended == {}
    assert again.basis == 2


@pytest.mark.parametrize("method", ["in", "out", "two-sided"])
def test_a_basis_of_whole_weights_is_extended_too(tmp_path, method):
    networks = uws.collect("demo:finetuned")
    draft = uws.compress(networks, kept=3, method=method, layers=LAYERS[:1], members=range(5))
    folder = draft.write(tmp_path / "c")
    before = uws.open_compressed(folder).layer(networks.labels[2], LAYERS[0])
    joined = uws.join(folder, networks.refs[30].repo, name="new", extend=True)
    assert joined.projected > draft.worst >= joined.error
    after = uws.open_compressed(folder)
    torch.testing.assert_close(after.layer(networks.labels[2], LAYERS[0]), before, rtol=0, atol=1e-7)
    weights, center = load_file(networks.refs[30].repo)[LAYERS[0]].numpy(), after.basis(after.plans[0])[2]
    lost = np.linalg.norm(weights - after.layer("new", LAYERS[0]).numpy()) / np.linalg.norm(weights - center)
    assert lost == pytest.approx(joined.error, rel=1e-3)


def test_the_command_extends_and_says_so(tmp_path, capsys):
    adapters = uws.collect("demo:lora")
    folder = uws.compress(adapters, kept=2, layers=LAYERS[:1], members=range(4)).write(tmp_path / "c")
    new = stranger(tmp_path / "new", Path(adapters.refs[0].repo))
    assert main(["join", str(folder), str(new), "--name", "plain"]) == 0
    assert "does not fit: extend the basis for it" in capsys.readouterr().out
    assert main(["join", str(folder), str(new), "--extend", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["basis"] == 2
    assert row["extended"].keys() == {LAYERS[0]}
    assert row["error"] < row["projected_error"]


def test_files_of_two_versions_of_the_basis_are_refused(tmp_path):
    adapters = uws.collect("demo:lora")
    folder = uws.compress(adapters, kept=2, layers=LAYERS[:1], members=range(4)).write(tmp_path / "c")
    shutil.copy(folder / "basis.safetensors", tmp_path / "old")
    uws.join(folder, stranger(tmp_path / "new", Path(adapters.refs[0].repo)), extend=True)
    shutil.copy(tmp_path / "old", folder / "basis.safetensors")
    with pytest.raises(
        UnreadableFile, match=r"basis.safetensors has version 1 of the basis, the index 2.*copy the whole"
    ):
        uws.open_compressed(folder)


def test_a_newcomer_with_nan_is_refused_and_the_folder_stays(tmp_path):
    adapters = uws.collect("demo:lora")
    folder = uws.compress(adapters, kept=2, layers=LAYERS[:1], members=range(4)).write(tmp_path / "c")
    new = stranger(tmp_path / "new", Path(adapters.refs[0].repo))
    tensors = load_file(new / "adapter_model.safetensors")
    for tensor in tensors.values():
        tensor.view(-1)[0] = torch.nan
    save_file(tensors, new / "adapter_model.safetensors")
    before = (folder / "subspace.json").read_bytes()
    with pytest.raises(LayerError, match="NaN"):
        uws.join(folder, new)
    assert (folder / "subspace.json").read_bytes() == before
