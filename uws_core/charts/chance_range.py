"""The small figure of a claim, for a row of a table on the page and in the report."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from math import isfinite

from uws_core.nouns.evidence import Finding


def chance_range_svg(finding: Finding, said: str) -> str:
    """SVG of what chance gives as a grey range, and what the models show as a line; `said` is the same in words.

    Empty without a test.
    """
    if not isfinite(finding.value) or not isfinite(finding.low):
        return ""
    zero = (0.0,) if finding.about.form == "share" else ()
    ends: tuple[float, ...] = (finding.low, finding.high, finding.value, *zero)
    least = min(ends)
    span: float = (max(ends) - least) or 1.0

    def across(value: float) -> float:
        return 3.0 + 104.0 * (value - least) / span

    low, high, seen = (across(value) for value in (finding.low, finding.high, finding.value))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="strip" viewBox="0 0 110 16" '
        f'role="img" aria-label="{escape(said)}">'
        '<line x1="3" x2="107" y1="8" y2="8" stroke="#d5dade"/>'
        f'<rect x="{low:.1f}" y="4" width="{max(high - low, 2):.1f}" height="8" fill="#aab2b9"/>'
        f'<rect x="{seen - 1.5:.1f}" y="1" width="3" height="14" fill="#0072B2"/></svg>'
    )


def chance_range_url(finding: Finding, said: str) -> str:
    """The same as an address of a picture that needs no request; empty without a test.

    It is higher than the other, with nothing above and below: a cell of a table cuts off what is wider than itself.
    """
    figure = chance_range_svg(finding, said).replace(
        'viewBox="0 0 110 16"', 'width="110" height="32" viewBox="0 -8 110 32"'
    )
    return f"data:image/svg+xml;base64,{b64encode(figure.encode()).decode()}" if figure else ""
