"""What the options refuse by themselves, before any step."""

import click
import pytest
from click.testing import CliRunner

from pipeline_tools.cli import cli
from pipeline_tools.options import CATALOGUE


def test_a_tag_pattern_is_a_regular_expression() -> None:
    result = CliRunner().invoke(cli, ["tag", "check", "v1.0.0", "--tag-pattern", "("])
    assert result.exit_code == 2
    assert "not a regular expression: missing )" in result.stderr


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (("--moving", "minor,latest"), {}),
        (("--moving", "minor", "--moving", "latest"), {}),
        ((), {"PT_MOVING": "minor, latest"}),
        ((), {"PT_MOVING": '["minor", "latest"]'}),
    ],
)
def test_moving_tags_with_commas_or_one_by_one(words: tuple[str, ...], variables: dict[str, str]) -> None:
    taken: list[tuple[str, ...]] = []

    @click.command()
    @CATALOGUE["moving"]
    def command(moving: tuple[str, ...]) -> None:
        taken.append(moving)

    assert CliRunner().invoke(command, words, env=variables).exit_code == 0
    assert taken == [("minor", "latest")]
