"""Collections whose truth is known because it was put in: one maker for each way to be misled, and its control.

A maker is a function of sizes, strength and seed that returns whole arrays in memory; `write` makes a folder of one.
Models have two blocks of an MLP. What a user would know of them goes into the table, what was done to them in secret
into the truth. `strength`, `fraction`, `spread` at 0 is always the control: the same collection without the artefact.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from uws_core.zoo import field
from uws_core.zoo.made import MODELS as MODELS
from uws_core.zoo.made import NOISE_STD as NOISE_STD
from uws_core.zoo.made import SHAPES as SHAPES
from uws_core.zoo.made import Made as Made
from uws_core.zoo.made import Shapes, chosen_of, generator, table, trained, updates


def noise(*, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> Made:
    """Independent normal weights: nothing is shared, and whatever looks shared is chance."""
    rng = generator("noise", seed)
    layers = {name: NOISE_STD * rng.standard_normal((n, *shape)) for name, shape in shapes.items()}
    return Made(layers, table(n, seed, ["own"] * n))


def spike(*, strength: float = 4.0, count: int = 3, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> Made:
    """Noise and `count` shared directions, `strength` times as strong as theory can see at all.

    The covariance of the models has eigenvalues `l = 1 + strength sqrt(gamma)` above noise 1, `gamma = (n - 1) / d`.
    Above strength 1 the direction is seen at `l (1 + gamma / (l - 1))`; at 1 or below it drowns, whoever looks.

    Source: Baik, Ben Arous and Peche 2005, doi:10.1214/009117905000000233.
    """
    rng = generator("spike", seed)
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
    return Made(layers, table(n, seed, ["own"] * n), truth)


def shared_start(
    *, fraction: float = 0.5, drift: float = 0.5, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0
) -> Made:
    """Random starts plus random updates, `drift` times as large; a `fraction` of the models has one start in common.

    What these share is the seed they were started with, and nothing that was learned.
    """
    rng = generator("shared-start", seed)
    chosen = chosen_of(rng, n, fraction)
    layers = {}
    for name, (m, p) in shapes.items():
        starts = rng.standard_normal((n, m, p))
        starts[chosen] = rng.standard_normal((m, p))
        layers[name] = (starts + drift * rng.standard_normal((n, m, p))) / math.sqrt(p)
    starts_of = ["shared" if one else f"own-{i}" for i, one in enumerate(chosen)]
    return Made(layers, table(n, seed, starts_of), {"shares_start": tuple(chosen.tolist())})


def unequal(*, spread: float = 1.0, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> Made:
    """Independent directions, but log-normal norms: a few strong models alone make the spectrum decay.

    `spread` is the standard deviation of the natural logarithm of the norms: at 1, p90 / p10 is about 13.
    """
    rng = generator("unequal", seed)
    sizes = np.exp(spread * rng.standard_normal(n))
    layers = {
        name: NOISE_STD * sizes[:, None, None] * rng.standard_normal((n, *shape)) for name, shape in shapes.items()
    }
    return Made(layers, table(n, seed, ["own"] * n), {"size": tuple(sizes.tolist())})


def two_lineages(
    *, fraction: float = 0.5, drift: float = 0.2, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0
) -> Made:
    """Two unrelated trained bases, and each model one of them plus its own random update, `drift` times as large.

    A `fraction` of the models comes from the second base. The one shared direction is whose child a model is.
    """
    rng = generator("two-lineages", seed)
    second = chosen_of(rng, n, fraction)
    layers = {}
    for name, shape in shapes.items():
        bases = np.stack([trained(rng, shape), trained(rng, shape)])
        layers[name] = bases[second.astype(int)] + updates(rng, n, shape, drift)
    lineage = tuple("second" if one else "first" for one in second)
    return Made(layers, table(n, seed, ["unknown"] * n), {"lineage": lineage})


def permuted(
    *, fraction: float = 1.0, drift: float = 0.1, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0
) -> Made:
    """Siblings of one base; a `fraction` of them has its hidden neurons in another order, which changes no output.

    Each `up` (h, p) and the `down` (m, h) of its block are shuffled alike: the networks compute the same functions, yet
    their weights look unrelated. With one seed, every `fraction` has the same networks and differs in the order alone.

    Raises:
        ValueError: a layer is not one of a pair named `up` and `down`.
    """
    pairs = {name: name.replace(".up.", ".down.") for name in shapes if ".up." in name}
    if sorted([*pairs.keys(), *pairs.values()]) != sorted(shapes):
        raise ValueError(f"Neurons are shuffled in pairs of layers x.up.y and x.down.y; found {', '.join(shapes)}")
    rng = generator("permuted", seed)
    chosen = chosen_of(rng, n, fraction)
    base = {name: trained(rng, shape) for name, shape in shapes.items()}
    layers = {name: base[name] + updates(rng, n, shape, drift) for name, shape in shapes.items()}
    for up, down in pairs.items():
        for i in np.flatnonzero(chosen):
            order = rng.permutation(shapes[up][0])
            layers[up][i] = layers[up][i][order]
            layers[down][i] = layers[down][i][:, order]
    return Made(layers, table(n, seed, ["base"] * n), {"permuted": tuple(chosen.tolist())}, base)


def reinitialised(
    *, fraction: float = 0.1, drift: float = 0.1, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0
) -> Made:
    """Siblings of one base, of which a `fraction` was never loaded: fresh random weights of the same spread instead.

    The table does not tell; it is what a loader leaves behind that skips the tensors whose names it does not know.
    Trained weights have heavier tails (kurtosis 6) than fresh ones (3), and siblings have cosines near 1.
    """
    rng = generator("reinitialised", seed)
    chosen = chosen_of(rng, n, fraction)
    base = {name: trained(rng, shape) for name, shape in shapes.items()}
    layers = {name: base[name] + updates(rng, n, shape, drift) for name, shape in shapes.items()}
    for name, (m, p) in shapes.items():
        layers[name][chosen] = rng.standard_normal((int(chosen.sum()), m, p)) / math.sqrt(p)
    return Made(layers, table(n, seed, ["base"] * n), {"reinitialised": tuple(chosen.tolist())}, base)


def profile(*, spread: float = 0.5, n: int = MODELS, shapes: Shapes = SHAPES, seed: int = 0) -> Made:
    """Independent normal weights whose rows differ in variance, by one profile that all models have in common.

    Nothing is shared but which rows are large, and that concentrates variance: inner products scatter as those of fewer
    entries. `spread` is the standard deviation of the natural logarithm of the rows' sizes.
    """
    rng = generator("profile", seed)
    layers = {}
    for name, (m, p) in shapes.items():
        sizes = np.exp(spread * rng.standard_normal(m))
        layers[name] = NOISE_STD * sizes[:, None] * rng.standard_normal((n, m, p))
    return Made(layers, table(n, seed, ["own"] * n))


def faint_spike() -> Made:
    """The spike at half the strength that theory needs to see it."""
    return spike(strength=0.5)


# What is made when a built-in collection is asked for by name.
MAKERS: dict[str, Callable[[], Made]] = {
    "noise": noise,
    "spike": spike,
    "faint-spike": faint_spike,
    "shared-init": shared_start,
    "unequal": unequal,
    "two-lineages": two_lineages,
    "permuted": permuted,
    "reinitialised": reinitialised,
    **field.MAKERS,
}
