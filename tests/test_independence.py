"""The exact independence test: relatives are found, strangers are not, and p is uniform under independence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

import uws_core as uws
from uws_core.analysis.independence import all_pairs, independence, unit_products
from uws_core.errors import LayerError
from uws_core.sources.opening import open_source


def network(rng: np.random.Generator, hidden: int = 24) -> list[np.ndarray]:
    """Matrices before and after one hidden layer; scales of inputs and outputs are the same for all networks."""
    inputs, outputs = np.exp(np.linspace(-1, 1, 10)), np.exp(np.linspace(-1, 1, 7))
    return [rng.standard_normal((hidden, 10)) * inputs + 0.3, (rng.standard_normal((7, hidden)).T * outputs).T]


def test_p_is_uniform_for_independent_networks_of_one_profile():
    rng = np.random.default_rng(0)
    found = [independence(all_pairs([network(rng), network(rng)]), copies=99, seed=i).p for i in range(200)]
    assert kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) <= 0.1


def test_relatives_are_found_however_much_they_learned():
    rng = np.random.default_rng(1)
    base = network(rng)
    children = [[matrix + 2 * rng.standard_normal(matrix.shape) for matrix in base] for _ in range(2)]
    test = independence(all_pairs(children), copies=999)
    assert test.p == 1 / 1000
    assert "Not trained independently" in str(test)


def test_a_permuted_relative_hides_from_the_test_and_a_group_shows_two_relatives():
    rng = np.random.default_rng(2)
    base, order = network(rng), rng.permutation(24)
    permuted = [base[0][order], base[1][:, order]]
    assert independence(all_pairs([base, permuted])).p > 0.01
    group = [network(rng), base, [matrix + 0.1 for matrix in base], network(rng)]
    assert independence(all_pairs(group)).p == 1 / 1000


def test_shipped_networks_are_told_apart():
    layers = ("blocks.0.mlp.up.weight", "blocks.0.mlp.down.weight")

    def read(name: str, rows: tuple[int, int]) -> list[list[np.ndarray]]:
        models = uws.collect(name)
        return [[open_source(models.refs[row]).read(layer).numpy() for layer in layers] for row in rows]

    assert independence(all_pairs(read("demo:finetuned", (0, 7)))).p == 1 / 1000
    assert independence(all_pairs(read("demo:scratch", (0, 7)))).p > 0.01


def test_an_order_that_does_not_matter_gives_the_largest_p():
    same = np.ones((5, 5))
    assert independence({(0, 1): same}, copies=9).p == 1


def test_what_does_not_fit_is_said():
    rng = np.random.default_rng(0)
    with pytest.raises(LayerError, match="one shape"):
        unit_products(network(rng, 8), network(rng, 9))
    with pytest.raises(LayerError, match="one number of hidden units"):
        independence({(0, 1): np.zeros((3, 3)), (0, 2): np.zeros((4, 4))})
