"""Writes the parts of the documentation that follow from the code: `python -m docs.generate`, or `make docs`.

Such a part stands between `<!-- generated: NAME -->` and `<!-- end -->`; all else on a page is written by hand.
`tests/docs` fails when a page is not what this would write.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING
from functools import partial
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from pipeline_tools.cli import cli
from pipeline_tools.text import binding as bindings
from pipeline_tools.text import env_rules, runner_rules, terraform_rules
from pipeline_tools.text.findings import Rule
from pipeline_tools.text.schema import described

HERE = Path(__file__).parent
TEMPLATES = HERE.parent / "ci_templates"
EXAMPLES = HERE.parent / "examples"
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

# The templates' inputs -----------------------------------------------------------------------------------------


def inputs(template: str) -> str:
    """A row for each input of a template."""
    header = next(iter(YAML(typ="safe", pure=True).load_all((TEMPLATES / template).read_text())))
    rows = [
        (f"`{name}`", entry.get("type", "string"), _default(entry), entry["description"])
        for name, entry in header["spec"]["inputs"].items()
    ]
    return table(("input", "type", "default", "meaning"), rows)


def _default(entry: dict[str, Any]) -> str:
    if "default" not in entry:
        return "required"
    value = entry["default"]
    return f"`{value if isinstance(value, str) else json.dumps(value)}`" if value != "" else "empty"


def example(name: str) -> str:
    """An example repository's own file."""
    return f"```yaml\n{(EXAMPLES / name / '.gitlab-ci.yml').read_text()}```\n"


# The command line ----------------------------------------------------------------------------------------------


def leaves(
    group: click.Group, context: click.Context, words: str = ""
) -> Iterator[tuple[str, click.Command]]:
    """Every command that is not a group, under its full name."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, context, f"{words}{name} ")
        elif command is not None:
            yield words + name, command


def _all() -> list[tuple[str, click.Command]]:
    return list(leaves(cli, click.Context(cli)))


def commands() -> str:
    """A section for each command."""
    return "\n".join(_section(name, command) for name, command in _all())


def _section(name: str, command: click.Command) -> str:
    words = " ".join(param.make_metavar(click.Context(command)) for param in _arguments(command))
    usage = f"pipeline-tools {name} [OPTIONS]{f' {words}' if words else ''}"
    flags = ", ".join(f"`{_flag(option)}`" for option in _options(command))
    help_text = "\n".join(line.strip() for line in (command.help or "").strip().splitlines())
    return f"### {name}\n\n```text\n{usage}\n```\n\n{help_text}\n\nOptions: {flags}\n"


def _arguments(command: click.Command) -> list[click.Argument]:
    return [param for param in command.params if isinstance(param, click.Argument)]


def _options(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option)]


def _flag(option: click.Option) -> str:
    return max(option.opts, key=len)


def options() -> str:
    """A row for each option, of whatever command: a name has one meaning everywhere."""
    found = {_flag(option): option for _, command in _all() for option in _options(command)}
    rows = [
        (_spelling(option), _variables(option), (option.help or "").replace("|", "\\|"))
        for _, option in sorted(found.items())
    ]
    return table(("option", "variable", "meaning"), rows)


def _variables(option: click.Option) -> str:
    names = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
    return ", ".join(f"`{name}`" for name in names)


def _spelling(option: click.Option) -> str:
    names = "/".join([_flag(option), *option.secondary_opts])
    value = "" if option.is_flag else " " + option.make_metavar(click.Context(click.Command("")))
    return f"`{names}{value}`".replace("|", "\\|")


# The binding file and the lint ---------------------------------------------------------------------------------


def binding() -> str:
    """A table for each class of the binding file."""
    return "\n".join(_part(cls, where) for cls, where in bindings.PARTS)


def _part(cls: type[Any], where: str) -> str:
    rows = [
        (f"`{field.name}`", kind.says, _field_default(field.default), field.metadata["doc"])
        for field, kind in described(cls)
    ]
    doc = (cls.__doc__ or "").splitlines()[0]
    heading = f"### {where or 'The file'}\n\n{doc}\n\n"
    return heading + table(("key", "value", "default", "meaning"), rows)


def _field_default(value: object) -> str:
    if value is MISSING:
        return "required"
    return "none" if value in (None, ()) else "empty" if value == "" else f"`{json.dumps(value)}`"


def env() -> str:
    """A table for each class of the env repository's rules."""
    return "\n".join(_part(cls, where) for cls, where in env_rules.PARTS)


def rules(of: Mapping[str, Rule] = runner_rules.RULES) -> str:
    """A row for each rule of `runner lint`, or of another check."""
    rows = [(f"`{name}`", rule.severity.value, rule.message, rule.cure) for name, rule in of.items()]
    return table(
        ("rule", "severity", "says", "cure"),
        [tuple(cell.replace("|", "\\|") for cell in row) for row in rows],
    )


def providers() -> str:
    """The providers that roots may use, on a line."""
    return ", ".join(f"`{address}`" for address in sorted(terraform_rules.ALLOWED)) + ".\n"


# Pages ---------------------------------------------------------------------------------------------------------


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Render a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


PARTS: dict[str, Callable[[], str]] = {
    "inputs": partial(inputs, "release.yml"),
    "example": partial(example, "app"),
    "terraform_inputs": partial(inputs, "terraform.yml"),
    "terraform_example": partial(example, "infra"),
    "commands": commands,
    "options": options,
    "binding": binding,
    "env_rules": env,
    "rules": rules,
    "terraform_rules": lambda: rules(terraform_rules.RULES),
    "terraform_providers": providers,
}


def page(text: str) -> str:
    """The page with its generated parts written anew."""
    return PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}{part[3]}", text)


def main() -> int:
    for path in sorted(HERE.rglob("*.md")):
        before = path.read_text()
        after = page(before)
        if after != before:
            path.write_text(after)
            sys.stdout.write(f"{path.relative_to(HERE.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
