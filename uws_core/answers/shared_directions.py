"""Sentences on the count of shared directions: why there is none, what stands in for the profile, and its p."""

from __future__ import annotations

from uws_core.nouns.chance import SharedDirections

STANDS_IN = (
    "This layer has fewer than eight blocks of rows or columns whose signs could be flipped, so noise of the same "
    "strengths stands in for the profile: it assumes that all entries have equal variance"
)


def notes(shared: SharedDirections | None, *, null: str) -> tuple[str, ...]:
    """What must be known of a count against the noise `null` that was asked for; each without a full stop."""
    if shared is None:
        return ()
    if not shared.known:
        return (f"No count of shared directions: {shared.reason}",)
    found = [STANDS_IN] if null == "profile" and shared.kind != "profile" else []
    if len({count for _, count in shared.by_view}) > 1:
        sides = " and ".join(f"{count} by {view}" for view, count in shared.by_view)
        found.append(
            f"Signs flipped by rows and by columns give different counts, {sides}: the smaller one stands, as a scale "
            "or a correlation that all models have in common may be behind the other"
        )
    return (*found, shared.doubt) if shared.doubt else tuple(found)


def p_text(shared: SharedDirections) -> str:
    """The p of the weakest direction that was found, or of the first where none was."""
    if not shared.p.size:
        return ""
    p = float(shared.p[: shared.count].max()) if shared.count else float(shared.p[0])
    return f"p {'at most' if shared.count > 1 else '='} {p:.2g}"
