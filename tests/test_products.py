"""Products of blocks: numpy's and torch's agree, and the faster one is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from uws_core.passes import products


@pytest.fixture(autouse=True)
def unmeasured() -> Iterator[None]:
    products._fastest.cache_clear()
    yield
    products._fastest.cache_clear()


def blocks_of(dtype: type, rows: int = 40) -> np.ndarray:
    """Blocks as a chunk has them: entries of one row lie together, those of one block do not."""
    stacked = np.random.default_rng(0).normal(size=(rows, 3, 96)).astype(dtype)
    return stacked.transpose(1, 0, 2)


@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, 1e-5), (np.float64, 1e-13)])
@pytest.mark.parametrize("multiply", [products._by_numpy, products._by_torch, products.block_products])
def test_every_product_is_that_of_float64(
    multiply: Callable[[np.ndarray], np.ndarray], dtype: type, atol: float
) -> None:
    blocks = blocks_of(dtype)
    expected = np.einsum("bik,bjk->bij", blocks.astype(np.float64), blocks.astype(np.float64))
    found = multiply(blocks)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol * np.abs(expected).max())


@pytest.mark.parametrize("slow", ["_by_numpy", "_by_torch"])
def test_the_faster_library_is_used_for_a_shape(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = getattr(products, slow)

    def delayed(blocks: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return plain(blocks)

    monkeypatch.setattr(products, slow, delayed)
    fast = "_by_torch" if slow == "_by_numpy" else "_by_numpy"
    assert products._fastest(40, "float32") is getattr(products, fast)


def test_measuring_leaves_the_threads_of_torch_as_they_were() -> None:
    before = torch.get_num_threads()
    products.block_products(blocks_of(np.float32))
    assert torch.get_num_threads() == before
