"""The sentences that answer the evidence page: what holds, what is no more than chance, and what is ancestry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isinf, isnan

from uws_core.nouns.claims import CLAIMS, KIN
from uws_core.nouns.evidence import Evidence, Finding, Pooled, Verdict

# Claims that ask whether structure is left when relatives are taken out.
BEYOND = ("unseen-groups", "within", "one-each")
_ORDER = (Verdict.HOLDS, Verdict.WEAK, Verdict.CHANCE, Verdict.UNKNOWN)


@dataclass(frozen=True, slots=True)
class _Said:
    """A verdict with what decided it, of one layer or over many."""

    verdict: Verdict
    reason: str


def answer(found: Evidence, *, place: str) -> str:
    """The answer for one layer, or for several summed to one; `place` says which in words."""
    said = {one.claim: _Said(one.verdict, one.reason) for one in found.findings}
    return _told(said, f"In {place}, these {found.n} models", grouped_by=found.grouped_by)


def answer_layers(found: Sequence[Pooled], *, models: int, layers: int, grouped_by: str = "") -> str:
    """The answer over many layers, with the tests of all layers corrected together."""
    if not found:
        return "No layer has been judged yet."
    said = {one.claim: _Said(one.verdict, _median(one)) for one in found}
    where = "one layer" if layers == 1 else f"{layers} layers"
    return _told(said, f"Over {where}, these {models} models", grouped_by=grouped_by)


def tally(verdicts: Sequence[Verdict]) -> str:
    """How many claims say what: `7 hold, 4 are weak, 2 are chance, 1 cannot be told`."""
    counts = Counter(verdicts)
    words = {
        Verdict.HOLDS: ("holds", "hold"),
        Verdict.WEAK: ("is weak", "are weak"),
        Verdict.CHANCE: ("is no more than chance", "are no more than chance"),
        Verdict.UNKNOWN: ("cannot be told", "cannot be told"),
    }
    parts = [f"{counts[one]} {words[one][counts[one] > 1]}" for one in _ORDER if counts[one]]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def why(finding: Finding) -> str:
    """One claim in a sentence: what it says, the verdict, and what decided."""
    return f"{finding.about.title}: {finding.verdict.value}. {finding.reason[:1].upper()}{finding.reason[1:]}."


def number(value: float | None, claim: str) -> str:
    """A claim's number as people write it: in percent, as a count, or as a number; empty where there is none."""
    if value is None or not isfinite(value):
        return ""
    form = CLAIMS[claim].form
    if form == "share":
        percent = 100 * value
        return f"{percent:.0f} %" if abs(percent) >= 10 or percent == 0 else f"{percent:.2g} %"
    return f"{value:.0f}" if form == "count" else f"{value:.2f}"


def among(finding: Finding) -> str:
    """A claim's number beside what chance gives, in words."""
    return f"chance {number(finding.middle, finding.claim)}, these models {number(finding.value, finding.claim)}"


def score(z: float | None) -> str:
    """A z as people write it; where chance never varies it is beyond any draw."""
    if z is None or isnan(z):
        return ""
    if isinf(z):
        return "beyond any draw" if z > 0 else "below any draw"
    return f"{z:.0f}" if abs(z) >= 10 else f"{z:.1f}"


def _told(said: Mapping[str, _Said], head: str, *, grouped_by: str) -> str:
    first = said["concentrated"]
    beyond = {
        Verdict.HOLDS: "share directions beyond chance",
        Verdict.WEAK: "share a little more than chance",
        Verdict.CHANCE: "share no more than chance gives",
        Verdict.UNKNOWN: "cannot be judged",
    }[first.verdict]
    parts = [f"{head} {beyond}: {first.reason}."]
    if first.verdict in (Verdict.HOLDS, Verdict.WEAK):
        parts.append(_ancestry(said, grouped_by))
    if said["sound"].verdict in (Verdict.WEAK, Verdict.CHANCE):
        parts.append(f"Look at the models first: {said['sound'].reason}.")
    return " ".join([*parts, f"Of {len(said)} claims, {tally([one.verdict for one in said.values()])}."])


def _median(one: Pooled) -> str:
    """What decided over the layers: the medians, and in how many layers the claim is beyond chance."""
    if not one.tested or not isfinite(one.value):
        return one.reason
    seen, chance = number(one.value, one.claim), number(one.middle, one.claim)
    return (
        f"{CLAIMS[one.claim].statistic} {seen}, by chance {chance} "
        f"(medians; beyond chance in {one.discoveries} of {one.tested} layers)"
    )


def _ancestry(said: Mapping[str, _Said], grouped_by: str) -> str:
    """Whether relatives explain it: what is left between groups, within them, and with one model each.

    Where a column makes the groups and the lineage has others, the one that leaves less decides: a column that has
    nothing to do with the weights leaves everything.
    """
    groups, kin = _left(said, BEYOND), _left(said, tuple(KIN[claim] for claim in BEYOND))
    by = f" (groups: {grouped_by}{', and those of the lineage' if kin else ''})" if grouped_by else ""
    if said["relatives"].verdict is Verdict.UNKNOWN and not kin:
        return f"Whether that is ancestry cannot be told: {said['relatives'].reason}."
    if not groups and not kin:
        return f"Whether that is more than ancestry cannot be told{by}: {said[BEYOND[0]].reason}."
    both = [one for one in (kin, groups) if one]
    least = min(both, key=_best)
    related = bool(kin) or said["relatives"].verdict in (Verdict.HOLDS, Verdict.WEAK)
    if least is kin and _best(kin) < _best(groups or kin) == _rank(Verdict.HOLDS):
        much = "most of it" if _best(kin) == _rank(Verdict.WEAK) else "it"
        return f"It is not explained by `{grouped_by}`; the lineage's groups explain {much}: {_first(kin)}."
    if _best(least) == _rank(Verdict.HOLDS):
        return _more_than_ancestry([one for part in both for one in part], by, related=related)
    if _best(least) == _rank(Verdict.WEAK):
        return f"Most of it {'is ancestry' if related else 'goes with the groups'}{by}: {_first(least)}."
    return f"Nothing of it is left without relatives{by}: {_first(least)}."


def _more_than_ancestry(left: Sequence[_Said], by: str, *, related: bool) -> str:
    """Something holds without relatives: by every claim that can be told, or by some of them."""
    worst = min(left, key=lambda one: _rank(one.verdict))
    if worst.verdict is Verdict.HOLDS:
        return f"It is not {'only ' if related else ''}ancestry{by}: {_first(left)}."
    return f"Part of it is left without relatives{by}: {_first(left)}; but {worst.reason}."


def _left(said: Mapping[str, _Said], claims: Sequence[str]) -> list[_Said]:
    """What is said of some claims, of those that can be told."""
    return [said[one] for one in claims if one in said and said[one].verdict is not Verdict.UNKNOWN]


def _first(left: Sequence[_Said]) -> str:
    """The reason of the first claim with the best verdict."""
    return next(one.reason for one in left if _rank(one.verdict) == _best(left))


def _best(left: Sequence[_Said]) -> int:
    return max(_rank(one.verdict) for one in left)


def _rank(verdict: Verdict) -> int:
    """How much a verdict says for its claim."""
    return -_ORDER.index(verdict)
