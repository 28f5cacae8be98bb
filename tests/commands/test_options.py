"""What the options refuse by themselves, before any step."""

from click.testing import CliRunner

from pipeline_tools.cli import cli


def test_a_tag_pattern_is_a_regular_expression() -> None:
    result = CliRunner().invoke(cli, ["tag", "check", "v1.0.0", "--tag-pattern", "("])
    assert result.exit_code == 2
    assert "not a regular expression: missing )" in result.stderr
