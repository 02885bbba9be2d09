"""The report's HTML: a document that asks nothing of any network, and the pieces it is put together from.

Text from outside passes `text` on its way in; nothing else is ever written into the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
import polars as pl
from plotly.offline import get_plotlyjs

from uws_core.export import PLOTLY_CONFIG
from uws_core.nouns.evidence import Verdict

# Whatever a name in a collection may hold, this document loads nothing and runs nothing from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
_MARKS = {Verdict.HOLDS: "●", Verdict.WEAK: "◐", Verdict.CHANCE: "○", Verdict.UNKNOWN: "?"}
_STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{font:15px/1.55 "Source Sans 3","Source Sans Pro",Helvetica,Arial,sans-serif;color:#1b2126;background:#fff;
 max-width:1040px;margin:0 auto;padding:1.5rem 1.25rem 4rem;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .6rem}
h2{font-size:1.25rem;margin:2.6rem 0 .5rem;border-top:1px solid #e3e7ea;padding-top:1.3rem}
h3{font-size:1.02rem;margin:1.8rem 0 .2rem}
p{margin:.45rem 0;max-width:78ch}
.lead{font-size:1.12rem}
.quiet,figcaption,.meta{color:#5a646d;font-size:.9rem}
figure{margin:.6rem 0 1rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th{font-weight:600;text-align:left;color:#5a646d;border-bottom:1px solid #b9c1c8;vertical-align:bottom}
th,td{padding:.34rem .6rem .34rem 0;overflow-wrap:normal}
td{border-bottom:1px solid #eceff1;vertical-align:top}
.n{text-align:right}
td.n,td.v{white-space:nowrap}
.v{font-weight:600}
.holds{color:#00588a}.weak{color:#2d7fae}.chance{color:#a34700}.unknown{color:#5a646d}
details{margin:.5rem 0}
summary{cursor:pointer;font-weight:600}
dt{font-weight:600;margin-top:.7rem}
dd{margin:0 0 .2rem;max-width:85ch}
svg.strip{display:block;width:110px;height:16px;margin-top:.2rem}
nav a{margin-right:1rem;white-space:nowrap}
a{color:#00588a}
@media (max-width:640px){
 body{padding:1rem .9rem 3rem}
 table.claims thead{display:none}
 table.claims tr{display:block;border-bottom:1px solid #d5dade;padding:.5rem 0}
 table.claims td{display:flex;gap:.8rem;border:0;padding:.1rem 0;text-align:left;white-space:normal}
 table.claims td::before{content:attr(data-name);flex:0 0 5.2rem;color:#5a646d}
 table.claims td:empty{display:none}
 table.claims td:first-child{font-weight:600}
 table.claims td:first-child::before{content:none}
}
@media print{
 body{max-width:none;padding:0;font-size:10pt}
 h2,h3{break-after:avoid}
 figure,tr,dt{break-inside:avoid}
 nav{display:none}
 .scroll{overflow:visible}
 @page{margin:16mm}
}
"""
# What is folded would be missing on paper, and figures keep the width of the screen unless told.
_SCRIPT = """
addEventListener("beforeprint",()=>{
 document.querySelectorAll("details").forEach(d=>{d.open=true});
 document.querySelectorAll(".js-plotly-plot").forEach(p=>Plotly.Plots.resize(p));
});
"""


def text(value: object) -> str:
    """Any text as HTML that shows exactly it."""
    # A number and its unit stay on one line.
    return escape(str(value), quote=True).replace(" %", "\u00a0%")


def document(title: str, body: str) -> str:
    """The whole file, plotly.js inside; it opens from a disk without a network."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
        # Plotly reads this before it starts; without it, it would fetch fonts for formulas.
        "<script>window.PlotlyConfig={MathJaxConfig:'local'};</script>"
        f"<script>{get_plotlyjs()}</script></head>\n<body>{body}\n<script>{_SCRIPT}</script></body></html>\n"
    )


def figure(drawn: go.Figure, name: str, caption: str, *, wide: bool = False) -> str:
    """A figure with its caption; `wide` keeps its width on a phone, where it can be moved sideways for itself."""
    drawn.update_layout(paper_bgcolor="#ffffff", plot_bgcolor="#ffffff", width=None)
    height = int(drawn.layout.height or 380)
    drawing = drawn.to_html(
        full_html=False,
        include_plotlyjs=False,
        config=dict(PLOTLY_CONFIG),
        div_id=f"figure-{name}",
        default_width="100%",
        default_height=f"{height}px",
    )
    least = ' style="min-width:720px"' if wide else ""
    inside = f'<div class="scroll"><div{least}>{drawing}</div></div>'
    return f"<figure>{inside}<figcaption>{text(caption)}</figcaption></figure>"


def table(frame: pl.DataFrame, titles: dict[str, str] | None = None, *, name: str = "plain") -> str:
    """A frame as a table: numbers to the right with sensible digits; `titles` chooses and names the columns."""
    shown = titles if titles is not None else {column: column.replace("_", " ") for column in frame.columns}
    numeric = {column for column in shown if frame.schema[column].is_numeric()}
    head = "".join(f"<th{_right(column in numeric)}>{text(title)}</th>" for column, title in shown.items())
    rows = [
        "".join(
            f'<td{_right(column in numeric)} data-name="{text(shown[column])}">{text(_cell(row[column]))}</td>'
            for column in shown
        )
        for row in frame.iter_rows(named=True)
    ]
    return rows_table(head, rows, name=name)


def rows_table(head: str, rows: Sequence[str], *, name: str) -> str:
    """A table of rows that are HTML already."""
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{name}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def verdict(one: Verdict) -> str:
    """A verdict as a mark and its word; colour only helps."""
    name = "unknown" if one is Verdict.UNKNOWN else one.value
    return f'<span class="v {name}">{_MARKS[one]} {text(one.value)}</span>'


def _right(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
