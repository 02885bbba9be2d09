"""What a merge would be, before anything is written: products with the members, and where a merge stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from uws_core.nouns.arrays import Bools, Floats, frozen
from uws_core.nouns.models import LayerKey


@dataclass(frozen=True)
class MergeGrams:
    """Inner products of `s` members' updates in `L` layers: all that a merge by combination depends on.

    `updates[l, i, j] = <tau_i, tau_j>` (L, s, s) with `tau_i = W_i - base`, the update itself for adapters, and `W_i`
    where no base is known (`has_base` False). `to_base` (L, s) is `<tau_i, base>` and `base_norm2` (L,) is `|base|^2`,
    both 0 where the base is zero. `sharpest` (L,) is the squared length below which a difference is rounding.
    """

    layers: tuple[LayerKey, ...]
    labels: tuple[str, ...]
    updates: Floats
    to_base: Floats
    base_norm2: Floats
    sharpest: Floats
    has_base: bool

    def __post_init__(self) -> None:
        for name in ("updates", "to_base", "base_norm2", "sharpest"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        shape = (len(self.layers), len(self.labels), len(self.labels))
        if self.updates.shape != shape:
            raise ValueError(f"Products of {shape[1]} members in {shape[0]} layers were expected, found another shape")

    @property
    def s(self) -> int:
        """The number of members."""
        return len(self.labels)

    @cached_property
    def norm2(self) -> Floats:
        """Squared norms (L, s) of the updates."""
        return frozen(np.maximum(np.einsum("lii->li", self.updates), 0.0))

    @cached_property
    def to_mean(self) -> Floats:
        """Inner products (L, s) of every update with the mean update."""
        return frozen(self.updates.mean(axis=2))

    @cached_property
    def mean_norm2(self) -> Floats:
        """Squared norm (L,) of the mean update."""
        return frozen(np.maximum(self.to_mean.mean(axis=1), 0.0))

    @cached_property
    def whole(self) -> Floats:
        """Inner products (L, s, s) of the members' whole weights, about zero."""
        toward = self.to_base
        return frozen(self.updates + toward[:, :, None] + toward[:, None, :] + self.base_norm2[:, None, None])

    @cached_property
    def leading(self) -> tuple[Floats, Floats]:
        """Eigenvalues (L, s), the largest first, and vectors (L, s, s) of `updates`."""
        values, vectors = np.linalg.eigh(self.updates)
        return frozen(np.maximum(values[:, ::-1], 0.0)), frozen(vectors[:, :, ::-1])


@dataclass(frozen=True)
class MergedUpdate:
    """A merge at scale 1 through its products: all that its place among members, mean and base depends on.

    `inner` (L, s) is `<M - base, tau_i>` and `norm2` (L,) is `|M - base|^2`. For a combination of models `coefficients`
    (L, s) are those of the updates and `base_coefficient` (L,) that of the base beyond 1, which only rules on whole
    weights have; both None where entries decide.
    """

    method: str
    inner: Floats
    norm2: Floats
    coefficients: Floats | None = None
    base_coefficient: Floats | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("inner", "norm2", "coefficients", "base_coefficient"):
            values = getattr(self, name)
            object.__setattr__(self, name, None if values is None else frozen(values))


@dataclass(frozen=True)
class Standing:
    """Where a merge stands at `q` scales, in the whole network (index 0 of the middle axis) and in each of `L` layers.

    Arrays are (q, L + 1), or (q, L + 1, s) for each member. `norm_to_members` is `|M - base|` over the root mean square
    of the members' norms, `norm_to_mean` over that of the mean update, `distance_to_mean` is `|M - mean|` over the
    latter, and `mean_scale` the scale of the mean that lies nearest to the merge. `kept` is the share of a member's
    update that survives, `<M - base, tau_i> / |tau_i|^2`, and `distance_to_members` is `|M - W_i| / |tau_i|`: 1 is as
    far as the base. `off_mean` (L + 1,) is the sine of the angle between merge and mean: what no scale of the mean
    gives. Where a length is rounding the ratio is NaN.
    """

    method: str
    scales: Floats
    norm_to_members: Floats
    norm_to_mean: Floats
    distance_to_mean: Floats
    mean_scale: Floats
    distance_to_members: Floats
    kept: Floats
    off_mean: Floats
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("scales", "norm_to_members", "norm_to_mean", "distance_to_mean", "mean_scale", "kept", "off_mean"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        object.__setattr__(self, "distance_to_members", frozen(self.distance_to_members))


@dataclass(frozen=True)
class SignConflict:
    """How often two updates have opposite signs, against what their cosine predicts; arrays are (s, s).

    `share` is the share of opposed signs among the `entries` where neither update is 0. `reflected` is the same share
    after one update is mirrored at the other, which keeps both lengths and their cosine: without a conflict of its own
    the two shares are equal. `error` is the jackknife error of half their difference over blocks of rows and columns.
    The diagonal of all is 0. NaN where an update is zero.
    """

    layer: LayerKey
    labels: tuple[str, ...]
    share: Floats
    reflected: Floats
    error: Floats
    entries: Floats

    def __post_init__(self) -> None:
        for name in ("share", "reflected", "error", "entries"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def expected(self) -> Floats:
        """The share (s, s) that the cosine alone gives: the mean of the share and the mirrored one."""
        return np.asarray((self.share + self.reflected) / 2)

    @property
    def excess(self) -> Floats:
        """The share of opposed signs (s, s) beyond the expected one; below 0 they agree more than they must."""
        return np.asarray((self.share - self.reflected) / 2)

    @property
    def z(self) -> Floats:
        """The excess (s, s) in units of its error; 0 where there is no error to divide by."""
        return np.asarray(np.divide(self.excess, self.error, out=np.zeros_like(self.error), where=self.error > 0))


@dataclass(frozen=True, slots=True)
class LayerConflict:
    """How the members get along in one layer.

    `mean_cosine` and `least_cosine` over pairs of updates, `chance` the size of cosine that 1 in 20 networks of
    independent updates exceeds in any pair and layer. `survives` is `|mean|^2` over the mean of `|tau|^2`: 1 for equal
    updates, 1 / s for orthogonal ones, less where they cancel. `opposed` is the share of opposed signs averaged over
    pairs, `excess` what the pair with the largest `z` has beyond its cosine; `overlap` is that of the leading
    directions on the inputs and outputs, with `overlap_chance`. NaN where it was not measured.
    """

    layer: LayerKey
    mean_cosine: float
    least_cosine: float
    chance: float
    survives: float
    opposed: float = float("nan")
    excess: float = float("nan")
    z: float = float("nan")
    overlap: float = float("nan")
    overlap_chance: float = float("nan")
    opposed_updates: bool = False
    opposed_signs: bool = False

    @property
    def collides(self) -> bool:
        """Whether two updates are opposed beyond chance, in their cosine or in their signs."""
        return self.opposed_updates or self.opposed_signs


@dataclass(frozen=True, slots=True)
class MergeWarning:
    """Something that speaks against merging as chosen: its `kind`, a sentence, and the way out.

    `members` are rows of the collection that the way out chooses; empty where it is something else to do.
    """

    kind: str
    text: str
    way_out: str
    members: tuple[int, ...] = ()


@dataclass(frozen=True)
class Compatibility:
    """Whether the members may be merged: cosines of updates (s, s), norm ratios, pairs that are copies, warnings."""

    labels: tuple[str, ...]
    cosines: Floats
    chance: float
    norms: Floats
    copies: Bools
    warnings: tuple[MergeWarning, ...]
    layers: tuple[LayerConflict, ...]

    def __post_init__(self) -> None:
        for name in ("cosines", "norms"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        marks = np.array(self.copies, dtype=np.bool_)
        marks.flags.writeable = False
        object.__setattr__(self, "copies", marks)


@dataclass(frozen=True, slots=True)
class MergeScore:
    """What a merge scores at the task of one member: at scale `scale`, with the member's own head.

    `choose` is the score on the data that choose the scale, `judge` that on the other data. `method` is `own` for the
    member itself, at scale 1, and `base` for the base under the member's head, at scale 0.
    """

    method: str
    scale: float
    model: str
    choose: float
    judge: float


@dataclass(frozen=True, slots=True)
class BestScale:
    """A method at its best scale: chosen by the mean kept score on one part of the data, judged on the other.

    A kept score is `score / own score` of a member, clipped to 0 to 1; `kept` is its mean over members and `worst` the
    smallest, of the member `worst_model`.
    """

    method: str
    scale: float
    kept: float
    worst: float
    worst_model: str
