"""Places in the paper that code and pages cite are the paper's own; its section numbers are not among them."""

from __future__ import annotations

import re
from pathlib import Path

from melody.paths import PACKAGE, declarations

OTHERS = re.compile(
    r"arxiv|musicgen|musiclm|hifi-gan|univnet|su et al|lei et al|holtzman|vocos|wav2vec 2\.0's|cohen|specification|rfc|"
    r"13818|ellis|its section",
    re.IGNORECASE,
)
"""Works whose sections are cited by number, on the same line or the one before."""
ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (PACKAGE, declarations("eval"), declarations("baselines"), ROOT / "docs", ROOT / "reports")
PAGES = (*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in folder.rglob("*.md")))
FILES = sorted(path for folder in FOLDERS for path in folder.rglob("*") if path.suffix in (".py", ".toml"))


def test_a_numbered_section_is_of_a_work_that_is_named_beside_it() -> None:
    """The facts come from sheets with sections of their own, whose numbers nobody outside can follow."""
    bare = []
    for path in (*FILES, *PAGES):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, (before, line) in enumerate(zip(["", *lines], lines, strict=False), start=1):
            if re.search(r"\bsections? \d", line, re.IGNORECASE) and not OTHERS.search(before + line):
                bare.append(f"{path}:{number}: {line.strip()}")
    assert not bare, "\n".join(bare)


def test_the_paper_s_guidance_stands_in_one_place() -> None:
    """Presets and suites take it from ``PAPER_GUIDANCE_SCALE``; the cascade's own is another number."""
    ours = [path for path in FILES if "noise2music" not in str(path)]
    assert not [path for path in ours if "guidance_scale = 2.5" in path.read_text(encoding="utf-8")]
