"""The exact independence test: relatives are found, strangers are not, and p is uniform under independence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.stats import kstest

import uws_core as uws
from uws_core.analysis.hidden_layers import hidden_layers
from uws_core.analysis.independence import permutation_test, unit_products
from uws_core.cli.main import main
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.models import LayerKey
from uws_core.sources.opening import open_source


def all_pairs(networks: Sequence[Sequence[Floats]]) -> dict[tuple[int, int], Floats]:
    """Returns the unit products of every pair of networks, each given as the matrices around one hidden layer."""
    return {(i, j): unit_products(networks[i], networks[j]) for i, j in combinations(range(len(networks)), 2)}


def network(rng: np.random.Generator, hidden: int = 24) -> list[np.ndarray]:
    """Matrices before and after one hidden layer; scales of inputs and outputs are the same for all networks."""
    inputs, outputs = np.exp(np.linspace(-1, 1, 10)), np.exp(np.linspace(-1, 1, 7))
    return [rng.standard_normal((hidden, 10)) * inputs + 0.3, (rng.standard_normal((7, hidden)).T * outputs).T]


def test_p_is_uniform_for_independent_networks_of_one_profile():
    rng = np.random.default_rng(0)
    found = [permutation_test(all_pairs([network(rng), network(rng)]), copies=99, seed=i).p for i in range(200)]
    assert kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) <= 0.1


def test_relatives_are_found_however_much_they_learned():
    rng = np.random.default_rng(1)
    base = network(rng)
    children = [[matrix + 2 * rng.standard_normal(matrix.shape) for matrix in base] for _ in range(2)]
    test = permutation_test(all_pairs(children), copies=999)
    assert test.p == 1 / 1000
    assert "Not trained independently" in str(test)


def test_a_permuted_relative_hides_from_the_test_and_a_group_shows_two_relatives():
    rng = np.random.default_rng(2)
    base, order = network(rng), rng.permutation(24)
    permuted = [base[0][order], base[1][:, order]]
    assert permutation_test(all_pairs([base, permuted])).p > 0.01
    group = [network(rng), base, [matrix + 0.1 for matrix in base], network(rng)]
    assert permutation_test(all_pairs(group)).p == 1 / 1000


def test_shipped_networks_are_told_apart():
    relatives, strangers = uws.collect("demo:finetuned"), uws.collect("demo:scratch")
    assert uws.independence(relatives, [0, 7]).p == 1 / 1000
    apart = uws.independence(strangers, [0, 7], hidden="blocks.1.mlp")
    assert apart.p > 0.01
    assert (apart.hidden, apart.labels, apart.units) == (
        "blocks.1.mlp",
        (strangers.labels[0], strangers.labels[7]),
        64,
    )
    assert uws.independence(relatives, range(6), copies=99).p == 1 / 100


def test_the_pass_agrees_with_the_arrays_and_few_units_are_as_exact(monkeypatch: pytest.MonkeyPatch):
    collection = uws.collect("demo:finetuned")
    layers = ("blocks.0.mlp.up.weight", "blocks.0.mlp.down.weight")
    arrays = [[open_source(collection.refs[row]).read(layer).numpy() for layer in layers] for row in (0, 7)]
    test = uws.independence(collection, [0, 7], copies=19)
    assert test.statistic == pytest.approx(permutation_test(all_pairs(arrays)).statistic, abs=1e-6)
    monkeypatch.setattr("uws_core.passes.independence.MOST_PRODUCTS", 30 * 30)
    few = uws.independence(collection, [0, 7], copies=19)
    assert (few.units, few.p) == (30, 1 / 20)


def stored(folder: Path, shapes: dict[str, tuple[int, int]], *, models: int = 2) -> Path:
    folder.mkdir()
    for number in range(models):
        rng = np.random.default_rng(number)
        tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        save_file(tensors, folder / f"m{number}.safetensors")
    return folder


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"], "model.layers.0.mlp.down_proj"),
        (["bert.encoder.layer.0.intermediate.dense"], "bert.encoder.layer.0.output.dense"),
        (["blocks.0.mlp.fc1"], "blocks.0.mlp.fc2"),
    ],
)
def test_hidden_layers_are_known_by_name(before: list[str], after: str):
    keys = [LayerKey(f"{name}.weight", (12, 6)) for name in before] + [LayerKey(f"{after}.weight", (6, 12))]
    others = [LayerKey("bert.encoder.layer.0.attention.output.dense.weight", (6, 6)), LayerKey("fc1.weight", (9, 9))]
    (layer,) = hidden_layers([*others, *keys])
    assert (layer.units, layer.sides) == (12, (*["out"] * len(before), "in"))
    turned = [LayerKey(key.name, key.shape[::-1]) for key in keys]
    (layer,) = hidden_layers(turned, transposed={key.name for key in turned})
    assert (layer.units, layer.sides) == (12, (*["in"] * len(before), "out"))


def test_what_cannot_be_tested_is_said(tmp_path: Path):
    plain = uws.collect(stored(tmp_path / "plain", {"w.weight": (6, 4)}))
    with pytest.raises(LayerError, match="known names are up_proj and down_proj"):
        uws.independence(plain)
    whole = uws.collect(stored(tmp_path / "whole", {"b.0.mlp.fc1.weight": (12, 6), "b.0.mlp.fc2.weight": (6, 12)}))
    with pytest.raises(LayerError, match=r"none called 'mlp'; such as b\.0\.mlp"):
        uws.independence(whole, hidden="mlp")
    with pytest.raises(NotEnoughModels, match="2 to 24 different models; found 2, 1"):
        uws.independence(whole, [0, 0])
    with pytest.raises(ValueError, match="at least 19"):
        uws.independence(whole, copies=9)
    with pytest.raises(LayerError, match="has nothing to say"):
        uws.independence(uws.collect("demo:lora"), [0, 1])


def test_the_command_line_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    models = list(uws.collect("demo:finetuned").labels[:3])
    assert main(["independence", "demo:finetuned", "--models", *models, "--copies", "99", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["models"], shown["p"], shown["hidden"]) == (models, 0.01, "blocks.0.mlp")
    assert main(["independence", "demo:scratch"]) == 0
    assert "64 hidden units of blocks.0.mlp\nNo sign of a common origin" in capsys.readouterr().out
    assert main(["independence", "demo:scratch", "--models", "nobody", "nothing"]) == 1
    assert "no model 'nobody', 'nothing'; it has 40" in capsys.readouterr().err


def test_an_order_that_does_not_matter_gives_the_largest_p():
    same = np.ones((5, 5))
    assert permutation_test({(0, 1): same}, copies=9).p == 1


def test_what_does_not_fit_is_said():
    rng = np.random.default_rng(0)
    with pytest.raises(LayerError, match="one shape"):
        unit_products(network(rng, 8), network(rng, 9))
    with pytest.raises(LayerError, match="one number of hidden units"):
        permutation_test({(0, 1): np.zeros((3, 3)), (0, 2): np.zeros((4, 4))})
