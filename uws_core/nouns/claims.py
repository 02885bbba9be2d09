"""The claims of the evidence table: what each says, the number behind it, what chance is, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of the table in words.

    `title` is what would be true if the claim held. `statistic` names the number, `form` how it is written (share,
    count, or number), `chance` what it is compared with, `definition` its formula. `fewer` says that small numbers
    speak for the claim, `best` is the number that a claim could reach at most.
    """

    key: str
    title: str
    statistic: str
    chance: str
    definition: str
    source: str
    form: str = "share"
    fewer: bool = False
    best: float = 1.0


_NOISE = "models of the same strengths in random directions, entries of equal variance"
_ALL = (
    Claim(
        "sound",
        "Every model is sound, and nobody is in the collection twice",
        "models that look odd or are copies",
        "none",
        "Non-finite or constant weights, entries and cosines of fresh random numbers, models without a relative, norms "
        "far outside the others', pairs far nearer than nearest models usually are.",
        "lineage page",
        form="count",
        fewer=True,
        best=0.0,
    ),
    Claim(
        "concentrated",
        "Variance concentrates in few directions",
        "share of the first k directions",
        _NOISE,
        "sum of the k largest eigenvalues / sum of all, of the inner products about the mean; chance: eigenvalues of "
        "D R D, centred, with the models' own distances D and R of random directions (Bartlett draws). A profile of "
        "variances that all models have in common (rows or inputs that are larger in every model) concentrates noise "
        "too: where entries have an excess kurtosis, as such a profile gives, noise of so many fewer entries is drawn "
        "as well, and the reason says what it gives.",
        "Bartlett 1933; Horn 1965",
    ),
    Claim(
        "concentrated-unit",
        "It concentrates also when every model counts the same",
        "share of the first k directions, models scaled to norm 1",
        _NOISE + ", scaled to norm 1",
        "as above, after each model's difference from the mean is scaled to norm 1.",
        "Bartlett 1933",
    ),
    Claim(
        "components",
        "Some directions stand above noise one by one",
        "leading directions above their band",
        _NOISE,
        "parallel analysis: directions counted from the first while at most 5 % of the draws have a larger share in "
        "that place, or, of noise as strong as what is left without those counted before, a larger first share; z and "
        "p are those of the first.",
        "Horn 1965; Choi, Taylor and Tibshirani 2017",
        form="count",
        best=float("nan"),
    ),
    Claim(
        "mean",
        "What is shared is more than the mean",
        "the mean's share of all energy",
        "1 / n: independent models with a mean of 0; z and p: those of concentration about the mean",
        "n |mean|^2 / sum |W_i|^2, about the base where there is one, else about zero. The claim is judged by what is "
        "left: z, p and effect are those of the variance that concentrates after the mean is taken away.",
        "arXiv 2512.05117 and its replications",
        best=float("nan"),
    ),
    Claim(
        "halves",
        "Two halves of the models use the same directions",
        "overlap of the k leading directions of random halves",
        _NOISE + ", cut into the same halves",
        "mean squared cosine of the principal angles between the halves' subspaces, each about its own mean; a group "
        "stays in one half where groups are known; averaged over random halves.",
        "Bjorck and Golub 1973",
    ),
    Claim(
        "unseen",
        "The subspace holds for models it never saw",
        "captured share of the differences among held-out models",
        _NOISE + ", held out alike: about k / d",
        "sum |U_k^T (W_h - mean of those held out)|^2 / sum |W_h - mean of those held out|^2, a fifth of the models "
        "held out at a time; U_k are the leading directions of the others. The others' mean alone captures none of "
        "it, by definition; its part in the held-out models themselves, 1 - sum |W_h - mean of the others|^2 / sum "
        "|W_h|^2, about the base where there is one, is said beside. A model's own SVD has no directions in common "
        "with other models and needs the weights: it is on the reconstruction page.",
        "cross-validation, Stone 1974",
    ),
    Claim(
        "unseen-groups",
        "The subspace holds for whole groups it never saw",
        "captured share of the differences among held-out groups",
        _NOISE + ", held out alike: about k / d",
        "as above, with a fifth of the groups (at least two) held out at once, so that no sibling is left to be found "
        "again.",
        "Stone 1974",
    ),
    Claim(
        "relatives",
        "Models of one group are more alike than others",
        "share of the variance between groups",
        "the group labels shuffled among the models",
        "1 - sum |W_i - mean of its group|^2 / sum |W_i - mean|^2. Where this holds, part of what is shared is "
        "ancestry or task.",
        "Fisher 1925; Anderson 2001",
    ),
    Claim(
        "within",
        "Structure remains when group means are taken away",
        "share of the first k directions about group means",
        _NOISE + ", about the means of the same groups",
        "sum of the k largest eigenvalues / sum of all, of the inner products about each group's own mean.",
        "Bartlett 1933",
    ),
    Claim(
        "one-each",
        "Structure remains with one model a group",
        "share of the first k directions of one model a group",
        _NOISE,
        "the first claim for the models nearest to their group's mean, one a group; k is scaled to their number.",
        "Bartlett 1933",
    ),
    Claim(
        "saturates",
        "More models would show few new directions",
        "growth of the effective rank from n / 2 to n models, as a power of n",
        _NOISE,
        "log2(effective rank of all / mean effective rank of halves): 0 when all directions have been seen, about 1 "
        "when every model brings its own.",
        "Roy and Vetterli 2007 (effective rank)",
        form="number",
        fewer=True,
        best=0.0,
    ),
    Claim(
        "determined",
        "The leading subspace is determined by this many models",
        "largest k whose subspace is determined",
        _NOISE,
        "Davis-Kahan: root mean squared sine of the k angles to the true subspace <= 2 min(sqrt(k) |E|, |E|_F) / "
        "(sqrt(k) (l_k - l_k+1)) <= 1/2, with E half the difference of the halves' covariances; z and p are those of "
        "the smallest bound. Where no k is determined, the verdict is chance whatever p says.",
        "Davis and Kahan 1970; Yu, Wang and Samworth 2015, theorem 2",
        form="count",
        best=float("nan"),
    ),
    Claim(
        "space",
        "Sharing takes fewer numbers than the models do",
        "times smaller at the chosen share of the variance",
        "the same share of noise of the same strengths",
        "n d / (r d + d + n r) with r directions for the chosen share: basis, mean and coefficients stored once. "
        "Adapters are counted as they are stored, sum r_i (m + p) numbers of factors instead of n d. The "
        "error is what the share leaves of the differences from the mean. Where nothing is saved (1 or less), the "
        "verdict is chance whatever p says.",
        "counting",
        form="number",
        best=float("nan"),
    ),
)
_KIN = "the groups are those of the lineage, found in the weights, and not those of the column"
_BY_LINEAGE = {
    "unseen-groups": ("unseen-kin", "The subspace holds for whole groups of the lineage it never saw"),
    "within": ("within-kin", "Structure remains when the means of the lineage's groups are taken away"),
    "one-each": ("one-each-kin", "Structure remains with one model of each of the lineage's groups"),
}
# The claims about groups asked again of the lineage's own groups, where a column makes the others.
KIN: Mapping[str, str] = {claim: key for claim, (key, _) in _BY_LINEAGE.items()}


def _claims() -> Mapping[str, Claim]:
    """All claims by key; those by lineage after the last of those by groups."""
    found = {claim.key: claim for claim in _ALL}
    kin = {
        key: replace(found[claim], key=key, title=title, definition=f"as by groups; {_KIN}.")
        for claim, (key, title) in _BY_LINEAGE.items()
    }
    keys = list(found)
    after = keys.index("one-each") + 1
    every = found | kin
    return {key: every[key] for key in (*keys[:after], *kin, *keys[after:])}


CLAIMS: Mapping[str, Claim] = _claims()
