"""The report that GitLab shows: one fingerprint a finding, which stays when the finding moves."""

import json

from pipeline_tools.text import findings
from pipeline_tools.text.findings import Finding, Severity


def finding(line: int, message: str = "bad") -> Finding:
    return Finding("main.tf", line, "rule", Severity.MAJOR, message, "mend it")


def fingerprints(*found: Finding) -> list[str]:
    return [item["fingerprint"] for item in json.loads(findings.code_quality(found))]


def test_what_gitlab_reads() -> None:
    (item,) = json.loads(findings.code_quality([finding(3)]))
    assert item["location"] == {"path": "main.tf", "lines": {"begin": 3}}
    assert (item["check_name"], item["severity"], item["description"]) == ("rule", "major", "bad; mend it")


def test_a_fingerprint_moves_with_its_finding() -> None:
    assert fingerprints(finding(3)) == fingerprints(finding(30))
    assert fingerprints(finding(3)) != fingerprints(finding(3, "worse"))


def test_findings_that_are_alike_are_told_apart() -> None:
    first, second = fingerprints(finding(3), finding(9))
    assert first != second
    assert [first, second] == fingerprints(finding(4), finding(10))
