"""What tests ask for: a part, or an honest skip. In CI a missing part is a failure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sandbox.parts import Part

REQUIRED = "SANDBOX_PARTS_REQUIRED"
"""The variable that says so where `CI` has been taken out of the environment of the tests."""


def require(*parts: Part) -> None:
    """Go on when each part can be used here; else skip with the reason and what to run, or fail when CI=true."""
    problems = {part: problem for part in parts if (problem := part.problem())}
    if not problems:
        return
    in_ci = os.environ.get("CI") == "true" or os.environ.get(REQUIRED) == "1"
    if in_ci and not any(part.optional for part in problems):
        pytest.fail("; ".join(problems.values()), pytrace=False)
    pytest.skip("; ".join(problems.values()))
