"""JUnit XML as CI systems read it. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from labctl.model.legible import legible

_TOTALS = {"testcase": "tests", "failure": "failures", "error": "errors", "skipped": "skipped"}


def suite(root: ET.Element, name: str, began: str) -> ET.Element:
    """A test suite below the root.

    Args:
        root: `testsuites`.
        name: What it is called.
        began: ISO time.
    """
    return ET.SubElement(root, "testsuite", name=legible(name), timestamp=legible(began))


def case(parent: ET.Element, name: str, classname: str, seconds: float) -> ET.Element:
    """A test case in a suite; as long as nothing is added to it, it passed."""
    return ET.SubElement(parent, "testcase", name=legible(name), classname=legible(classname), time=f"{seconds:.3f}")


def verdict(of: ET.Element, kind: str, message: str, text: str, type_: str = "") -> None:
    """What came of a case that did not pass.

    Args:
        of: The case.
        kind: `failure`, `error` or `skipped`.
        message: In a line.
        text: In full; `skipped` has none.
        type_: A word for programs; the kind without.
    """
    found = ET.SubElement(of, kind, message=legible(message))
    if kind != "skipped":
        found.set("type", legible(type_ or kind))
        found.text = legible(text)


def written(root: ET.Element) -> str:
    """The document with its totals."""
    for one in root:
        one.set("time", f"{sum(float(case.get('time', '0')) for case in one):.3f}")
    for counted in (root, *root):
        for kind, name in _TOTALS.items():
            counted.set(name, str(len(list(counted.iter(kind)))))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'
