"""Defaults from the include in `./.gitlab-ci.yml`."""

from pathlib import Path

import pytest

from pipeline_tools.settings import IncludeInputs

INCLUDE = "include:\n  - project: platform/pipeline-tools\n    file: /ci_templates/release.yml\n    inputs: "


def inputs(directory: Path, text: str) -> dict[str, object]:
    (directory / ".gitlab-ci.yml").write_text(INCLUDE + text)
    return IncludeInputs(directory, frozenset()).inputs


def test_an_input_without_a_value_is_none(tmp_path: Path) -> None:
    """GitLab takes the default for it (lib/ci/inputs/base_input.rb, `actual_value`)."""
    assert inputs(tmp_path, "{licenses: , wait: true}") == {"wait": True}


@pytest.mark.parametrize("text", ["[a]", "text", ""])
def test_what_is_no_mapping_says_nothing(tmp_path: Path, text: str) -> None:
    assert inputs(tmp_path, text) == {}
