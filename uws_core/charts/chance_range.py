"""A small figure of a claim for a table row: the range of chance, and the value of the models."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from math import isfinite

from uws_core.nouns.evidence import Finding


def chance_range_svg(finding: Finding, alt: str) -> str:
    """SVG with the range of chance in grey and the value as a line; `alt` says the same in words.

    Empty where the claim has no test.
    """
    if not isfinite(finding.value) or not isfinite(finding.low):
        return ""
    zero = (0.0,) if finding.about.form == "share" else ()
    ends: tuple[float, ...] = (finding.low, finding.high, finding.value, *zero)
    start = min(ends)
    span: float = (max(ends) - start) or 1.0

    def across(value: float) -> float:
        return 3.0 + 104.0 * (value - start) / span

    low, high, value = (across(value) for value in (finding.low, finding.high, finding.value))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="strip" viewBox="0 0 110 16" '
        f'role="img" aria-label="{escape(alt)}">'
        '<line x1="3" x2="107" y1="8" y2="8" stroke="#d5dade"/>'
        f'<rect x="{low:.1f}" y="4" width="{max(high - low, 2):.1f}" height="8" fill="#aab2b9"/>'
        f'<rect x="{value - 1.5:.1f}" y="1" width="3" height="14" fill="#0072B2"/></svg>'
    )


def chance_range_url(finding: Finding, alt: str) -> str:
    """`chance_range_svg` as a data URL; empty where the claim has no test.

    The image has empty space above and below, because a table cell crops images wider than itself.
    """
    figure = chance_range_svg(finding, alt).replace(
        'viewBox="0 0 110 16"', 'width="110" height="32" viewBox="0 -8 110 32"'
    )
    return f"data:image/svg+xml;base64,{b64encode(figure.encode()).decode()}" if figure else ""
