"""Checks as JUnit XML, which every hosted CI shows."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from melody.artifacts.files import write_bytes
from melody.gate.checks import Check, GateOutcome

FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not have."""


def junit(gated: GateOutcome) -> bytes:
    """The document: one test case a check, by suite; what was not held against anything is skipped."""
    root = ElementTree.Element("testsuites", {"name": _xml(gated.title), **_counts(gated.checks)})
    for suite in dict.fromkeys(check.suite for check in gated.checks):
        members = tuple(check for check in gated.checks if check.suite == suite)
        element = ElementTree.SubElement(root, "testsuite", {"name": _xml(suite), **_counts(members)})
        for check in members:
            case = ElementTree.SubElement(element, "testcase", classname=_xml(f"melody.{suite}"), name=_xml(check.name))
            _tell(case, check)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def write_junit(gated: GateOutcome, path: Path) -> None:
    """Write the document whole or not at all; raises ``MelodyError`` if it cannot be written."""
    write_bytes(path, junit(gated))


def _counts(checks: tuple[Check, ...]) -> dict[str, str]:
    states = [check.state for check in checks]
    counted = {"tests": len(states), "failures": states.count("falls"), "errors": 0, "skipped": states.count("skipped")}
    return {name: str(count) for name, count in counted.items()}


def _tell(case: ElementTree.Element, check: Check) -> None:
    if check.state == "holds":
        ElementTree.SubElement(case, "system-out").text = _xml(check.line)
        return
    name = "failure" if check.state == "falls" else "skipped"
    ElementTree.SubElement(case, name, message=_xml(check.line)).text = _xml(check.line)


def _xml(text: str) -> str:
    return FORBIDDEN.sub("", text)
