"""The pass against a copy, one product, and the tools people use today: 100 models x (768 x 3072) float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import uws_core as uws
from tests.bench.measure import apart, medians, table, verdict
from uws_core.nouns.gram import Gram
from uws_core.passes.block_layout import BlockLayout

pytestmark = pytest.mark.bench

N, M, P = 100, 768, 3072

READ = """
import json, sys, time, torch, numpy as np
from pathlib import Path
from safetensors.torch import load_file
from tests.bench.measure import Peak
torch.set_num_threads(2)
files = sorted(Path(sys.argv[1]).glob("*.safetensors"))
def stack():
    return torch.stack([load_file(file)["w.weight"].flatten() for file in files])
"""
ROUTES = {
    "gram (this project)": """
import uws_core as uws
from uws_core.passes.gram import gram
collection = uws.collect(sys.argv[1])
def route():
    return np.linalg.eigvalsh(gram(collection, "w.weight").values)[::-1]
""",
    "stack everything, centre, X X^T": """
def route():
    stacked = stack()
    stacked -= stacked.mean(0)
    return np.linalg.eigvalsh((stacked @ stacked.T).numpy())[::-1]
""",
    "sklearn PCA, full": """
from sklearn.decomposition import PCA
def route():
    return PCA(svd_solver="full").fit(stack().numpy()).explained_variance_ * (len(files) - 1)
""",
    "sklearn PCA, randomized, 16": """
from sklearn.decomposition import PCA
def route():
    pca = PCA(16, svd_solver="randomized", random_state=0).fit(stack().numpy())
    return pca.explained_variance_ * (len(files) - 1)
""",
    "sklearn IncrementalPCA, 16": """
from sklearn.decomposition import IncrementalPCA
def route():
    pca = IncrementalPCA(16, batch_size=25).fit(stack().numpy())
    return pca.explained_variance_ * (len(files) - 1)
""",
    "torch.linalg.svd of the stack": """
def route():
    stacked = stack()
    stacked -= stacked.mean(0)
    return torch.linalg.svd(stacked, full_matrices=False).S.square().numpy()
""",
    "torch.svd_lowrank, 16": """
def route():
    stacked = stack()
    stacked -= stacked.mean(0)
    return torch.svd_lowrank(stacked, q=16)[1].square().numpy()
""",
    "tensorly partial_tucker, models mode": """
import tensorly
from tensorly.decomposition import partial_tucker
tensorly.set_backend("pytorch")
def route():
    stacked = stack()
    stacked -= stacked.mean(0)
    (core, _), _ = partial_tucker(stacked, rank=[16], modes=[0], n_iter_max=1)
    return core.square().sum(1).sort(descending=True).values.numpy()
""",
}
FINISH = """
truth = np.load(sys.argv[2])
with Peak() as peak:
    began = time.perf_counter()
    found = np.asarray(route(), dtype=np.float64)
    seconds = time.perf_counter() - began
k = min(len(found), len(truth))
error = float(np.abs(found[:k] - truth[:k]).max() / truth[0])
print(json.dumps({"seconds": seconds, "peak_mib": peak.mib, "error": error}))
"""


@pytest.fixture(scope="module")
def collection_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A common matrix, a shared 8-dimensional part and noise: 944 MB, in the page cache after writing."""
    folder = tmp_path_factory.mktemp("wide")
    rng = torch.Generator().manual_seed(0)
    common, shared = torch.randn(M, P, generator=rng), torch.randn(8, M, P, generator=rng)
    for index in range(N):
        weights = torch.randn(8, generator=rng)
        noise = torch.randn(M, P, generator=rng)
        matrix = common + 0.05 * torch.einsum("k,kmp->mp", weights, shared) + 0.05 * noise
        save_file({"w.weight": matrix}, folder / f"m{index:03d}.safetensors")
    return folder


def test_gram_against_a_copy_and_a_product(collection_folder: Path) -> None:
    collection = uws.collect(str(collection_folder))
    stacked = torch.randn(N, M * P)
    target = torch.empty_like(stacked)
    routes = {
        "copy of the same bytes": lambda: target.copy_(stacked),
        "one X X^T in memory, torch": lambda: stacked @ stacked.T,
        "one X X^T in memory, numpy": lambda: stacked.numpy() @ stacked.numpy().T,
        "gram from files": lambda: uws.gram(collection, "w.weight"),
    }
    found = medians(routes)
    # numpy forms half of it from the other half; on Intel torch's MKL is the faster all the same.
    product = min(found["one X X^T in memory, torch"], found["one X X^T in memory, numpy"])
    yardstick = max(found["copy of the same bytes"], product)
    rows = [(name, seconds, seconds / yardstick) for name, seconds in found.items()]
    table(f"gram, {N} x ({M} x {P}) float32, page cache", ("route", "seconds", "ratio"), rows)
    print("gram / max(copy, faster product):", verdict(found["gram from files"] / yardstick, 2.0))
    assert found["gram from files"] > 0


def test_what_block_grams_cost(collection_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pass with the Grams of 64 row and column blocks, which the profile null flips, and without them."""
    collection = uws.collect(str(collection_folder))

    def without_blocks() -> Gram:
        with monkeypatch.context() as patch:
            patch.setattr(BlockLayout, "of", lambda shape, models: BlockLayout(*shape, *shape, kept=False))
            return uws.gram(collection, "w.weight")

    routes = {"without block Grams": without_blocks, "with block Grams": lambda: uws.gram(collection, "w.weight")}
    assert uws.gram(collection, "w.weight").blocks is not None
    assert without_blocks().blocks is None
    found = medians(routes, rounds=7)
    ratio = found["with block Grams"] / found["without block Grams"]
    table("A pass and its block Grams, 100 models", ("route", "seconds"), list(found.items()))
    print("with / without block Grams:", verdict(ratio, 1.05))
    assert ratio < 1.3


def test_gram_against_other_tools(collection_folder: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.npy"
    _save_truth(collection_folder, truth)
    found = {name: apart(READ + code + FINISH, str(collection_folder), str(truth)) for name, code in ROUTES.items()}
    ours = found["gram (this project)"]
    rows = [
        (name, figures["seconds"], figures["seconds"] / ours["seconds"], figures["peak_mib"], figures["error"])
        for name, figures in found.items()
    ]
    columns = (
        "files to eigenvalues",
        "seconds",
        "times ours",
        "peak memory, MiB",
        "largest error / largest eigenvalue",
    )
    table(f"{N} x ({M} x {P}) float32", columns, rows)
    print("peak memory of gram, MiB:", verdict(ours["peak_mib"], 700))
    assert ours["error"] < 1e-6


def _save_truth(folder: Path, path: Path) -> None:
    """The eigenvalues in float64, from the pass in double precision; tested against numpy elsewhere."""
    collection = uws.collect(str(folder))
    np.save(path, np.linalg.eigvalsh(uws.gram(collection, "w.weight", precision="double").values)[::-1])
