"""The command line: commands loaded when they are called, and the one error boundary."""

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from types import FrameType

    from pipeline_tools.console import Console

COMMANDS = {
    "tag": "Check, choose or create a release tag.",
    "build": "Build an image of this commit and push it once, as a candidate.",
    "push": "Publish the candidate's digest under the release tag.",
    "bump": "Write the published image into the env repository, in one commit.",
    "trigger": "Start a pipeline of the env repository whose commit is, or contains, the bump.",
    "release": "Tag check, build, push, bump and trigger, in one go.",
    "vault": "Lend a command what Vault keeps, for as long as it runs.",
    "runner": "Render, check and bind GitLab runners from one binding file.",
    "terraform": "Check, plan and apply Terraform roots as they were reviewed; find drift; remove locks.",
}
"""Every command with its one-line help, so that `--help` and completion load none of them."""


LATE = frozenset(
    {
        "pipeline_tools.adapters.gitlab",
        "pipeline_tools.adapters.google",
        "pipeline_tools.commands.bumping",
        "pipeline_tools.commands.registry_access",
        "pipeline_tools.steps.image_check",
        "pipeline_tools.steps.proposing",
        "pipeline_tools.steps.rendering",
        "pipeline_tools.text.env_rules",
    }
)
"""What many runs do without, or not at once. Whoever imports one of these as a module has it executed when something of
it is first used; `from … import name` executes it there and then."""


class Late:
    """Finds the modules of `LATE` for the import system (`importlib.abc.MetaPathFinder`, which takes 3 ms to import)."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in LATE else None
        if spec and spec.loader:
            spec.loader = LazyLoader(spec.loader)
        return spec


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the program stands, so that `with` and `finally` clean up."""


class LazyGroup(click.Group):
    """The root group. A command lives in `pipeline_tools.commands.<name>`, under its own name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            importlib.import_module(f"pipeline_tools.commands.{cmd_name}"), cmd_name
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's signature)
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [
            CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        from pipeline_tools.console import Console  # noqa: PLC0415 (laziness lives here)

        in_ci = os.environ.get("GITLAB_CI") == "true"
        console = ctx.obj = Console(gitlab=in_ci)
        if _wants_json(ctx):
            console.output = "json"
        if not in_ci:
            ctx.default_map = _include_inputs()
        with _boundary(ctx, console, _command(ctx)):
            return super().invoke(ctx)


def _include_inputs() -> Any:
    from pathlib import Path  # noqa: PLC0415 (laziness lives here)

    from pipeline_tools.settings import IncludeInputs  # noqa: PLC0415 (laziness lives here)

    return IncludeInputs(
        Path.cwd(),
        frozenset(
            {
                *COMMANDS,
                "check",
                "next",
                "create",
                "exec",
                "doctor",
                "plan",
                "apply",
                "destroy",
                "drift",
                "unlock",
            }
        ),
    )


def _wants_json(ctx: click.Context) -> bool:
    """Whether JSON was asked for, known before the command's own options can be parsed or refused."""
    words = [*ctx._protected_args, *ctx.args]  # noqa: SLF001 (click keeps the subcommand's words there)
    words = words[: words.index("--")] if "--" in words else words
    asked = ("--output", "json") in pairwise(words)
    if asked or "--output=json" in words:
        return True
    return os.environ.get("PT_OUTPUT") == "json" and not any(word.startswith("--output") for word in words)


@contextmanager
def _boundary(ctx: click.Context, console: "Console", command: str) -> Iterator[None]:
    """Turns every end into its exit code (DESIGN, "The command line"), once."""
    exit_code, failure = 0, None
    try:
        yield
    except (click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except BaseException as error:  # noqa: BLE001 (the one boundary)
        exit_code, failure = _exit_code(error), error
    if isinstance(failure, click.ClickException):
        failure.show(file=sys.stderr)
    console.finish(command, exit_code, failure)
    if exit_code:
        ctx.exit(exit_code)


def _exit_code(error: BaseException) -> int:
    from pipeline_tools.console import EXIT_BUG, EXIT_INTERRUPTED, EXIT_TERMINATED  # noqa: PLC0415 (laziness)
    from pipeline_tools.errors import PipelineError  # noqa: PLC0415 (laziness lives here)

    if isinstance(error, (PipelineError, click.ClickException)):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED
    return EXIT_BUG


def _command(ctx: click.Context) -> str:
    """The command's words: `bump`, `tag check`."""
    words = [word for word in (*ctx._protected_args, *ctx.args) if not word.startswith("-")]  # noqa: SLF001 (as above)
    depth = 2 if words[:1] in (["tag"], ["vault"], ["runner"], ["terraform"]) else 1
    return " ".join(words[:depth])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="pipeline-tools", message="%(version)s")
def cli() -> None:
    """Carry a release from a git tag to a running workload.

    Every option can come from the variable its help names; secrets only from there or from a file.
    """


def _terminate(_number: int, _frame: "FrameType | None") -> NoReturn:
    raise Terminated


def main() -> None:
    """The console script. Outside the boundary there is only what click itself finds wrong, and an early signal."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.meta_path.insert(0, Late())
    try:
        sys.exit(cli(prog_name="pipeline-tools", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        sys.exit(_exit_code(error.__cause__ or error))
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the interpreter would fail on closing it
        sys.exit(1)
