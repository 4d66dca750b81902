"""Which speakers a file's channels are for, in their order: names as WAV's channel mask calls them, between spaces."""

from __future__ import annotations

SPEAKERS = "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR"
"""By the bits of the mask of WAVEFORMATEXTENSIBLE."""
BY_COUNT = {
    1: "FC",
    2: "FL FR",
    3: "FL FR FC",
    4: "FL FR BL BR",
    5: "FL FR FC BL BR",
    6: "FL FR FC LFE BL BR",
    7: "FL FR FC LFE BC SL SR",
    8: "FL FR FC LFE BL BR SL SR",
}
"""Where a file does not say: the order of WAV and of FLAC (RFC 9639, section 9.1.3)."""
VORBIS = {
    3: "FL FC FR",
    5: "FL FC FR BL BR",
    6: "FL FC FR BL BR LFE",
    7: "FL FC FR SL SR BC LFE",
    8: "FL FC FR SL SR BL BR LFE",
}
"""Vorbis I, section 4.3.9, and RFC 7845, section 5.1.1.2, where they differ."""


def layout_of(channels: int, kind: str, mask: int = 0) -> str:
    """The speakers of so many channels, or nothing where they are not known.

    Args:
        kind: format and subtype, as libsndfile calls them.
        mask: of a WAV that says it.

    >>> layout_of(6, "OGG VORBIS")
    'FL FC FR BL BR LFE'
    >>> layout_of(4, "WAVEX PCM_16", 0b1111)
    'FL FR FC LFE'
    """
    named = [name for bit, name in enumerate(SPEAKERS.split()) if mask >> bit & 1]
    if len(named) == channels:
        return " ".join(named)
    if kind in ("OGG VORBIS", "OGG OPUS") and channels in VORBIS:
        return VORBIS[channels]
    return BY_COUNT.get(channels, "")
