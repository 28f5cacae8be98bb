"""Findings of any check: a rule broken at a line of a file, and the report that GitLab shows of them."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """GitLab's words (docs.gitlab.com/ci/testing/code_quality, "severity")."""

    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"
    BLOCKER = "blocker"


@dataclass(frozen=True)
class Rule:
    """A rule: how bad its breach is, what it says, and the cure."""

    severity: Severity
    message: str
    cure: str


@dataclass(frozen=True, order=True)
class Finding:
    """A breach of `rule` at a line (the first is 1) of the file `path`."""

    path: str
    line: int
    rule: str
    severity: Severity
    message: str
    cure: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.severity} {self.rule}: {self.message}; {self.cure}"


def code_quality(findings: Sequence[Finding]) -> str:
    """GitLab's code quality report (docs.gitlab.com/ci/testing/code_quality, "Code Quality report format").

    A fingerprint names file, rule and message, not the line, so that a finding that moves is not a new one; of
    several that are alike in a file each has its number, since GitLab shows one for each fingerprint.
    """
    seen = Counter[str]()
    return json.dumps([_reported(finding, seen) for finding in findings], indent=2) + "\n"


def _reported(finding: Finding, seen: Counter[str]) -> dict[str, Any]:
    identity = f"{finding.path}\0{finding.rule}\0{finding.message}"
    seen[identity] += 1
    number = f"\0{seen[identity]}" if seen[identity] > 1 else ""
    return {
        "description": f"{finding.message}; {finding.cure}",
        "check_name": finding.rule,
        "fingerprint": hashlib.sha256(f"{identity}{number}".encode()).hexdigest(),
        "severity": finding.severity.value,
        "location": {"path": finding.path, "lines": {"begin": finding.line}},
    }
