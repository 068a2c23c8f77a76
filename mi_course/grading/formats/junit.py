"""JUnit XML, for continuous integration: a suite for each submission, a case for each exercise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from mi_course.grading.formats import WORDS, number, or_failed, plain_text
from mi_course.grading.marks import ExerciseMark, Marks

__all__ = ["junit"]

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]")
"""What XML 1.0 cannot hold, not even escaped, and what turns the direction of the text that follows."""
OUTCOME = {"wrong": "failure", "crashed": "error", "timed_out": "error", "not_attempted": "skipped"}


def junit(rows: Sequence[Marks]) -> str:
    """The document. Wrong answers are failures, crashes and time-outs errors, what was not attempted is skipped."""
    root = ET.Element("testsuites", name="mi_course")
    sums = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for row in rows:
        suite, cases = or_failed(_suite, row)
        root.append(suite)
        counts = {
            "tests": len(cases),
            "failures": cases.count("failure"),
            "errors": cases.count("error"),
            "skipped": cases.count("skipped"),
        }
        for name, count in counts.items():
            suite.set(name, str(count))
            sums[name] += count
    for name, count in sums.items():
        root.set(name, str(count))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(row: Marks) -> tuple[ET.Element, list[str]]:
    """The suite of one submission, and the outcomes of its cases."""
    suite = ET.Element("testsuite", name=_clean(row.submission), time=f"{row.seconds:.3f}")
    _properties(suite, row)
    cases = [_case(suite, one) for one in row.exercises]
    if row.status != "marked":
        case = ET.SubElement(suite, "testcase", classname="submission", name="can be read", time="0")
        _outcome(case, "error", row.reason, row.reason)
        cases.append("error")
    return suite, cases


def _properties(suite: ET.Element, row: Marks) -> None:
    found = {
        "points": number(row.points),
        "max_points": number(row.max_points),
        "sandboxed": "yes" if row.sandboxed else "NO",
        "reason": row.reason,
        "comment": row.comment,
    }
    properties = ET.SubElement(suite, "properties")
    for name, value in found.items():
        if value:
            ET.SubElement(properties, "property", name=name, value=_clean(value))


def _case(suite: ET.Element, one: ExerciseMark) -> str:
    lesson, _, name = one.exercise.partition(".")
    case = ET.SubElement(suite, "testcase", classname=_clean(lesson), name=_clean(name), time="0")
    outcome = OUTCOME.get(one.status, "")
    if one.given is not None:  # an instructor's points decide
        outcome = "" if one.points == one.max_points else "failure"
    if outcome:
        head = f"{WORDS.get(one.status, one.status)}, {number(one.points)} of {one.max_points} points"
        _outcome(case, outcome, head, plain_text(one))
    elif one.comment:
        ET.SubElement(case, "system-out").text = _clean(plain_text(one))
    return outcome


def _outcome(case: ET.Element, kind: str, head: str, text: str) -> None:
    found = ET.SubElement(case, kind, message=_clean(head))
    if kind != "skipped":
        found.set("type", kind)
    found.text = _clean(text)


def _clean(text: str) -> str:
    return NOT_XML.sub("�", text)
