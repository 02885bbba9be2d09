"""The answer lines of the evidence page: shared structure, chance and ancestry, and the words of its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite, isinf, isnan

from uws_core.answers.wording import counted, warning, where
from uws_core.nouns.chance import BEYOND_EQUAL_NOISE
from uws_core.nouns.claims import CLAIMS, KIN
from uws_core.nouns.evidence import Evidence, Finding, Pooled, Verdict
from uws_core.nouns.lineage import KINDS

# Claims about the structure that is left without relatives.
BEYOND = ("unseen-groups", "within", "one-each")
_ORDER = (Verdict.HOLDS, Verdict.WEAK, Verdict.CHANCE, Verdict.UNKNOWN)


def answer(evidence: Evidence, *, location: str) -> str:
    """The answer for one layer, or for several summed to one; `location` names them."""
    verdicts = {finding.claim: finding.verdict for finding in evidence.findings}
    first, here = evidence["concentrated"], where(location)
    if first.verdict is Verdict.UNKNOWN:
        return f"One cannot tell in {here}: {first.reason}."
    directions = evidence["components"]
    count = int(directions.value) if directions.verdict in (Verdict.HOLDS, Verdict.WEAK) else 0
    if not count and first.verdict is Verdict.CHANCE and BEYOND_EQUAL_NOISE in f"{first.reason} {directions.reason}":
        head = BEYOND_EQUAL_NOISE[:1].upper() + BEYOND_EQUAL_NOISE[1:]
    else:
        head = _verdict(verdicts, evidence.grouped_by, count=count)
    if verdicts["sound"] in (Verdict.WEAK, Verdict.CHANCE):
        # The numbers of such models mean little.
        reason = evidence["sound"].reason
        kinds = [kind for kind in KINDS if re.search(rf"(^|; ){kind}(:|, (?!\d+ of \d+ layers))", reason)]
        kinds += ["near copies"] if "nearly the same" in reason else []
        if kinds:
            return f"{head} in {here}. {warning(kinds)}"
    if count and first.verdict is Verdict.CHANCE:
        return f"{head} in {here}, too weak to concentrate the variance beyond noise."
    value, chance = number(first.value, first.claim), number(first.middle, first.claim)
    return f"{head} in {here}; the leading directions carry {value} of the variance, those of noise {chance}."


def answer_layers(pooled: Sequence[Pooled], *, models: int, layers: int, grouped_by: str = "") -> str:
    """The answer over many layers, with the tests of all layers corrected together."""
    verdicts = {item.claim: item.verdict for item in pooled}
    if not verdicts:
        return "No layer has been judged yet."
    # The count of shared directions decides, unless the concentration of the variance says more.
    tests = [item for claim in ("components", "concentrated") for item in pooled if item.claim == claim]
    first = min(tests, key=lambda item: _ORDER.index(item.verdict))
    if first.verdict is Verdict.UNKNOWN:
        return f"One cannot tell over {_layers(layers)}: {first.reason}."
    head = _verdict(verdicts, grouped_by)
    tested = first.tested or layers
    part = f"{first.discoveries} of " if first.discoveries else "any of " if tested > 1 else ""
    odd = verdicts["sound"] in (Verdict.WEAK, Verdict.CHANCE)
    check = " Check the models first: some look odd or are copies." if odd else ""
    return f"{head} in {part}{_layers(tested)} of {models} models.{check}"


def why(finding: Finding) -> str:
    """One claim in a sentence: title, verdict, and the deciding numbers."""
    verdict = verdict_text(finding.verdict, finding.claim)
    return f"{finding.about.title}: {verdict}. {finding.reason[:1].upper()}{finding.reason[1:]}."


def verdict_text(verdict: Verdict, claim: str) -> str:
    """The verdict on a claim in words: what is checked against no chance, or found nowhere, does not hold: no."""
    return "no" if verdict is Verdict.CHANCE and claim in ("sound", "determined") else str(verdict)


def number(value: float | None, claim: str) -> str:
    """A claim's number as a percentage, a count or a decimal; empty where there is none."""
    if value is None or not isfinite(value):
        return ""
    form = CLAIMS[claim].form
    if form == "share":
        percent = 100 * value
        return f"{percent:.0f} %" if abs(percent) >= 10 or percent == 0 else f"{percent:.2g} %"
    return f"{value:.0f}" if form == "count" else f"{value:.2f}"


def among(finding: Finding) -> str:
    """A claim's number beside that of chance, in words."""
    return f"chance {number(finding.middle, finding.claim)}, these models {number(finding.value, finding.claim)}"


def score(z: float | None) -> str:
    """A z score as text; where chance never varies it is beyond any draw."""
    if z is None or isnan(z):
        return ""
    if isinf(z):
        return "beyond any draw" if z > 0 else "below any draw"
    return f"{z:.0f}" if abs(z) >= 10 else f"{z:.1f}"


def _verdict(verdicts: Mapping[str, Verdict], grouped_by: str, *, count: int = 0) -> str:
    """Shared structure and its ancestry as a clause that the layers can follow.

    Where a column makes the groups and the lineage has others, those that leave less structure decide: a column that
    is unrelated to the weights leaves all of it.
    """
    first = min(verdicts["concentrated"], verdicts["components"], key=_ORDER.index)
    if first is Verdict.CHANCE:
        return "Nothing is shared beyond chance"
    beyond = "barely beyond chance" if first is Verdict.WEAK else "beyond chance"
    little = f"{counted(count, 'direction') if count else 'directions'} {beyond}"
    left = [part for part in (_best(verdicts, tuple(KIN[claim] for claim in BEYOND)), _best(verdicts, BEYOND)) if part]
    if not left:
        return f"Shared, ancestry unknown: {little}"
    related = len(left) > 1 or verdicts["relatives"] in (Verdict.HOLDS, Verdict.WEAK)
    least = max(left, key=_ORDER.index)
    if least is Verdict.CHANCE:
        return f"Shared only among relatives: {little}"
    if least is Verdict.WEAK and first is Verdict.HOLDS:
        return f"Shared mostly among {'relatives' if related else f'groups of `{grouped_by}`'}: {little}"
    return f"Shared {'not only among relatives' if related else 'among unrelated models'}: {little}"


def _best(verdicts: Mapping[str, Verdict], claims: Sequence[str]) -> Verdict | None:
    """The best verdict on some claims; None where none can be told."""
    known = [verdicts[claim] for claim in claims if verdicts.get(claim, Verdict.UNKNOWN) is not Verdict.UNKNOWN]
    return min(known, key=_ORDER.index) if known else None


def _layers(count: int) -> str:
    return "one layer" if count == 1 else f"{count} layers"
