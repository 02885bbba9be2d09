"""Synthetic collections with a known truth: one generator for each artefact that can mislead, and its control.

A generator takes sizes, strength and a seed, and returns whole arrays in memory; `zoo.folders.write` saves them. Models
have two MLP blocks. `table` holds what a user would know, `truth` what only the generator knows. A `strength`,
`fraction` or `spread` of 0 is the control: the same collection without the artefact.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from uws_core.nouns.arrays import Bools, Floats
from uws_core.nouns.models import Value

Shapes = Mapping[str, tuple[int, int]]

MODELS = 40
SHAPES: Shapes = {
    f"blocks.{depth}.mlp.{name}.weight": shape
    for depth in range(2)
    for name, shape in (("up", (64, 32)), ("down", (32, 64)))
}
# Every n models carry this many task names in turn; nothing in the weights depends on them.
TASKS = 8
NOISE_STD = 0.02
# Adapters of `regauged` have this rank, on these layers.
RANK = 4
ADAPTED = tuple(name.removesuffix(".weight") for name in SHAPES)


@dataclass(frozen=True)
class SyntheticCollection:
    """A collection in memory: `layers[name]` is (n, m, p); `table` and `truth` hold one value a model.

    `base[name]` (m, p) is the start that all models have in common, where there is one.
    """

    layers: Mapping[str, Floats]
    table: Mapping[str, tuple[Value, ...]]
    truth: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    base: Mapping[str, Floats] | None = None


def noise(*, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> SyntheticCollection:
    """Independent normal weights: nothing is shared, and anything that looks shared is chance."""
    rng = _rng("noise", seed)
    layers = {name: NOISE_STD * rng.standard_normal((n, *shape)) for name, shape in shapes.items()}
    return SyntheticCollection(layers, _table(n, seed, ["own"] * n))


def spike(
    *, strength: float = 4.0, count: int = 3, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0
) -> SyntheticCollection:
    """Noise and `count` shared directions, `strength` times as strong as the detection threshold.

    The covariance of the models has eigenvalues `l = 1 + strength sqrt(gamma)` above noise 1, `gamma = (n - 1) / d`.
    Above strength 1 a direction shows at `l (1 + gamma / (l - 1))`; at 1 or below no method can detect it.

    Source: Baik, Ben Arous and Peche 2005, doi:10.1214/009117905000000233.
    """
    rng = _rng("spike", seed)
    raw = rng.standard_normal((n, count))
    scores = np.linalg.qr(raw - raw.mean(axis=0)).Q
    layers = {}
    for name, (m, p) in shapes.items():
        d = m * p
        directions = np.linalg.qr(rng.standard_normal((d, count))).Q.T
        # A unit score times s adds s^2 along its direction, where noise has d NOISE_STD^2.
        size = NOISE_STD * math.sqrt(strength * math.sqrt((n - 1) / d) * d)
        weights = NOISE_STD * rng.standard_normal((n, d)) + size * scores @ directions
        layers[name] = weights.reshape(n, m, p)
    truth = {f"score_{k + 1}": tuple(scores[:, k].tolist()) for k in range(count)}
    return SyntheticCollection(layers, _table(n, seed, ["own"] * n), truth)


def shared_start(
    *, fraction: float = 0.5, drift: float = 0.5, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0
) -> SyntheticCollection:
    """Random starts plus random updates, `drift` times as large; a `fraction` of the models has one start in common.

    These models share the seed they started from, and nothing that was learned.
    """
    rng = _rng("shared-start", seed)
    chosen = _chosen(rng, n, fraction)
    layers = {}
    for name, (m, p) in shapes.items():
        starts = rng.standard_normal((n, m, p))
        starts[chosen] = rng.standard_normal((m, p))
        layers[name] = (starts + drift * rng.standard_normal((n, m, p))) / math.sqrt(p)
    starts_of = ["shared" if shares else f"own-{i}" for i, shares in enumerate(chosen)]
    return SyntheticCollection(layers, _table(n, seed, starts_of), {"shares_start": tuple(chosen.tolist())})


def unequal(*, spread: float = 1.0, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> SyntheticCollection:
    """Independent directions with log-normal norms: a few strong models alone make the spectrum decay.

    `spread` is the standard deviation of the natural logarithm of the norms: at 1, p90 / p10 is about 13.
    """
    rng = _rng("unequal", seed)
    sizes = np.exp(spread * rng.standard_normal(n))
    layers = {
        name: NOISE_STD * sizes[:, None, None] * rng.standard_normal((n, *shape)) for name, shape in shapes.items()
    }
    return SyntheticCollection(layers, _table(n, seed, ["own"] * n), {"size": tuple(sizes.tolist())})


def two_lineages(
    *, fraction: float = 0.5, drift: float = 0.2, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0
) -> SyntheticCollection:
    """Two unrelated trained bases, and each model one of them plus its own random update, `drift` times as large.

    A `fraction` of the models comes from the second base. The only shared direction separates the two bases.
    """
    rng = _rng("two-lineages", seed)
    second = _chosen(rng, n, fraction)
    layers = {}
    for name, shape in shapes.items():
        bases = np.stack([_trained(rng, shape), _trained(rng, shape)])
        layers[name] = bases[second.astype(int)] + _updates(rng, n, shape, drift)
    lineage = tuple("second" if is_second else "first" for is_second in second)
    return SyntheticCollection(layers, _table(n, seed, ["unknown"] * n), {"lineage": lineage})


def permuted(
    *, fraction: float = 1.0, drift: float = 0.1, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0
) -> SyntheticCollection:
    """Siblings of one base; a `fraction` of them has its hidden neurons in another order, which changes no output.

    Each `up` (h, p) and the `down` (m, h) of its block are shuffled alike: the networks compute the same functions, but
    their weights look unrelated. For one seed, every `fraction` gives the same networks in different orders.

    Raises:
        ValueError: a layer is not one of a pair named `up` and `down`.
    """
    pairs = {name: name.replace(".up.", ".down.") for name in shapes if ".up." in name}
    if sorted([*pairs.keys(), *pairs.values()]) != sorted(shapes):
        raise ValueError(f"Neurons are shuffled in pairs of layers x.up.y and x.down.y; found {', '.join(shapes)}")
    rng = _rng("permuted", seed)
    chosen = _chosen(rng, n, fraction)
    base = {name: _trained(rng, shape) for name, shape in shapes.items()}
    layers = {name: base[name] + _updates(rng, n, shape, drift) for name, shape in shapes.items()}
    for up, down in pairs.items():
        for i in np.flatnonzero(chosen):
            order = rng.permutation(shapes[up][0])
            layers[up][i] = layers[up][i][order]
            layers[down][i] = layers[down][i][:, order]
    return SyntheticCollection(layers, _table(n, seed, ["base"] * n), {"permuted": tuple(chosen.tolist())}, base)


def reinitialised(
    *, fraction: float = 0.1, drift: float = 0.1, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0
) -> SyntheticCollection:
    """Siblings of one base, of which a `fraction` holds fresh random weights of the same spread instead.

    A loader that skips tensors of unknown names leaves such models behind. The table does not mention it. Trained
    weights have heavier tails (kurtosis 6) than fresh ones (3), and siblings have cosines near 1.
    """
    rng = _rng("reinitialised", seed)
    chosen = _chosen(rng, n, fraction)
    base = {name: _trained(rng, shape) for name, shape in shapes.items()}
    layers = {name: base[name] + _updates(rng, n, shape, drift) for name, shape in shapes.items()}
    for name, (m, p) in shapes.items():
        layers[name][chosen] = rng.standard_normal((int(chosen.sum()), m, p)) / math.sqrt(p)
    return SyntheticCollection(layers, _table(n, seed, ["base"] * n), {"reinitialised": tuple(chosen.tolist())}, base)


def profile(*, spread: float = 0.5, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> SyntheticCollection:
    """Independent normal weights whose rows differ in variance, by one profile that all models have in common.

    Only the row sizes are shared, and they concentrate variance: inner products vary as those of fewer entries.
    `spread` is the standard deviation of the natural logarithm of the row sizes.
    """
    rng = _rng("profile", seed)
    layers = {}
    for name, (m, p) in shapes.items():
        sizes = np.exp(spread * rng.standard_normal(m))
        layers[name] = NOISE_STD * sizes[:, None] * rng.standard_normal((n, m, p))
    return SyntheticCollection(layers, _table(n, seed, ["own"] * n))


def equal_cosines(
    *, likeness: float = 0.359, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0
) -> SyntheticCollection:
    """A common part plus fresh normal weights, all of one norm: every pair has the cosine `likeness`.

    A published critique compared such models: their own weights had silently not been loaded. The control is trained
    siblings, `reinitialised(fraction=0)`.
    """
    rng = _rng("equal-cosines", seed)
    layers = {}
    for name, (m, p) in shapes.items():
        common, own = rng.standard_normal((m, p)), rng.standard_normal((n, m, p))
        mixed = math.sqrt(likeness) * common + math.sqrt(1 - likeness) * own
        norms = np.linalg.norm(mixed.reshape(n, -1), axis=1)[:, None, None]
        layers[name] = NOISE_STD * math.sqrt(m * p) * mixed / norms
    return SyntheticCollection(layers, _table(n, seed, ["unknown"] * n))


def mean_only(*, strength: float = 1.0, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> SyntheticCollection:
    """Independent weights and one common mean, `strength` times as large: only the mean is shared.

    About zero there is a strong first direction; about the mean there is noise.
    """
    rng = _rng("mean-only", seed)
    layers = {}
    for name, shape in shapes.items():
        mean = strength * _trained(rng, shape)
        layers[name] = mean + rng.laplace(scale=math.sqrt(0.5 / shape[1]), size=(n, *shape))
    return SyntheticCollection(layers, _table(n, seed, ["unknown"] * n))


def one_author(
    *,
    fraction: float = 0.6,
    everyone: bool = False,
    strength: float = 12.0,
    n: int = MODELS,
    shapes: Shapes = SHAPES,
    seed: int = 0,
) -> SyntheticCollection:
    """Noise, and three directions that one author's models share, `strength` times as strong as the threshold.

    That author has a `fraction` of the models, every other author has four. The author's other models predict a
    held-out model; held-out authors are not predicted. The control is `everyone`: all models share the directions.
    """
    rng = _rng("one-author", seed)
    first = _chosen(rng, n, fraction)
    scores = rng.standard_normal((n, 3)) * (np.ones(n) if everyone else first)[:, None]
    layers = {}
    for name, (m, p) in shapes.items():
        size = math.sqrt(strength * math.sqrt((n - 1) / (m * p)) * m * p / n)
        directions = np.linalg.qr(rng.standard_normal((m * p, 3))).Q.T
        weights = rng.standard_normal((n, m * p)) + size * scores @ directions
        layers[name] = NOISE_STD * weights.reshape(n, m, p)
    ranks = np.cumsum(~first) - 1
    authors = tuple(
        "author-0" if is_first else f"author-{1 + rank // 4}" for is_first, rank in zip(first, ranks, strict=True)
    )
    return SyntheticCollection(layers, {**_table(n, seed, ["own"] * n), "author": authors})


def slow_decay(*, power: float = 0.5, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> SyntheticCollection:
    """Real common directions whose variances fall as `k^-power`: beyond chance, but they save little space.

    The control has a steep decay (`power=4`), where a few directions carry nearly everything.
    """
    rng = _rng("slow-decay", seed)
    layers = {}
    for name, (m, p) in shapes.items():
        scores = rng.standard_normal((n, n - 1))
        left = np.linalg.qr(scores - scores.mean(axis=0)).Q
        right = np.linalg.qr(rng.standard_normal((m * p, n - 1))).Q
        sizes = np.arange(1, n) ** (-power / 2)
        layers[name] = (NOISE_STD * math.sqrt(m * p) * (left * sizes) @ right.T).reshape(n, m, p)
    return SyntheticCollection(layers, _table(n, seed, ["own"] * n))


def regauged(*, mix: float = 1.0, n: int = MODELS, seed: int = 0) -> SyntheticCollection:
    """Adapters from one random A, each stored in its own factors: `B R^-1` and `R A` for a random R.

    The updates equal those of the control, `mix=0`, to rounding. The A factors are alike there and differ here.
    """
    rng, mixing = _rng("regauged", seed), _rng("regauged-turn", seed)
    layers = {}
    for name in ADAPTED:
        m, p = SHAPES[f"{name}.weight"]
        a = rng.standard_normal((RANK, p)) + 0.2 * rng.standard_normal((n, RANK, p))
        b = rng.standard_normal((n, m, RANK)) / m
        random = mixing.standard_normal((n, RANK, RANK)) @ np.diag(np.arange(1.0, RANK + 1))
        change = (1 - mix) * np.eye(RANK) + mix * random
        layers[f"base_model.model.{name}.lora_A.weight"] = change @ a
        layers[f"base_model.model.{name}.lora_B.weight"] = b @ np.linalg.inv(change)
    return SyntheticCollection(layers, _table(n, seed, ["shared"] * n))


def faint_spike() -> SyntheticCollection:
    """`spike` at half the detection threshold."""
    return spike(strength=0.5)


# Generators of the built-in collections that are built on demand, by name.
GENERATORS: dict[str, Callable[[], SyntheticCollection]] = {
    "noise": noise,
    "spike": spike,
    "faint-spike": faint_spike,
    "shared-init": shared_start,
    "unequal": unequal,
    "two-lineages": two_lineages,
    "permuted": permuted,
    "reinitialised": reinitialised,
    "equal-cosines": equal_cosines,
    "mean-only": mean_only,
    "one-author": one_author,
    "slow-decay": slow_decay,
    "regauged": regauged,
}


def _rng(name: str, seed: int) -> np.random.Generator:
    """The random numbers of one generator."""
    # Two generators with one seed must not draw the same noise.
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _chosen(rng: np.random.Generator, n: int, fraction: float) -> Bools:
    """Which of n models (n,) are the changed ones.

    Raises:
        ValueError: a fraction outside 0 to 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is the share of the models that is changed, from 0 to 1; found {fraction}")
    chosen = np.zeros(n, dtype=np.bool_)
    chosen[rng.permutation(n)[: round(fraction * n)]] = True
    return chosen


def _trained(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Weights (m, p) of spread 1 / sqrt(p) with the heavier tails that training leaves."""
    return rng.laplace(scale=math.sqrt(0.5 / shape[1]), size=shape)


def _updates(rng: np.random.Generator, n: int, shape: tuple[int, int], drift: float) -> Floats:
    """Independent normal updates (n, m, p), `drift` times as large as trained weights."""
    return drift / math.sqrt(shape[1]) * rng.standard_normal((n, *shape))


def _table(n: int, seed: int, starts: list[str]) -> dict[str, tuple[Value, ...]]:
    """The models table of n models."""
    return {
        "model": tuple(f"model-{i:03d}" for i in range(n)),
        "task": tuple(f"task-{i % TASKS}" for i in range(n)),
        "kind": ("synthetic",) * n,
        "seed": (seed,) * n,
        "initialisation": tuple(starts),
    }
