"""Colours that stay apart for the colour-blind (Okabe and Ito 2008); marks and line styles tell the same again."""

from __future__ import annotations

from melody.report.kinds import Kind

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#7f7f7f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
KIND_COLOURS: dict[Kind, str] = {
    "paper": SERIES[0],
    "published": SERIES[3],
    "measured": SERIES[1],
    "composed": SERIES[4],
    "projected": SERIES[2],
}
KIND_HATCHES: dict[Kind, str] = {
    "paper": "",
    "published": "..",
    "measured": "//",
    "composed": "\\\\",
    "projected": "xx",
}
