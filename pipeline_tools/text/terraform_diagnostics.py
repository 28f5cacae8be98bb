"""What terraform and tflint print, as findings.

Sources: developer.hashicorp.com/terraform/cli/commands/fmt and .../validate ("JSON Output Format", format 1.0);
github.com/terraform-linters/tflint, formatter/json.go. Names of files and messages come from the checkout: they are
cut, and none makes this fail.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.findings import Finding, Severity

LONGEST = 300
"""Characters of a message; terraform's details run to pages."""


@dataclass(frozen=True)
class Ran:
    """How a program ended and what it printed, bytes that are no UTF-8 replaced."""

    exit_code: int
    stdout: str
    stderr: str = ""


# terraform fmt -------------------------------------------------------------------------------------------------

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def fmt(text: str, folder: str) -> tuple[Finding, ...]:
    """The findings of `terraform fmt -check -recursive -list=true -diff` in `folder`: one for each place to change."""
    return tuple(
        Finding(_joined(folder, name), line, "fmt", Severity.MINOR, "not formatted", "run terraform fmt")
        for name, line in _changes(text.split("\n"))
    )


def _changes(lines: list[str]) -> Iterator[tuple[str, int]]:
    """The file and first changed line of every hunk; what is inside one is counted, for it may look like a heading."""
    name, place = "", 0
    while place < len(lines):
        hunk = _HUNK.match(lines[place])
        if hunk and name:
            body = _hunk(lines[place + 1 :], int(hunk[2] or 1), int(hunk[4] or 1))
            same = next((index for index, line in enumerate(body) if line[:1] in "+-"), 0)
            yield name, max(int(hunk[1]), 1) + same
            place += len(body)
        elif lines[place].startswith("--- old/"):
            name = lines[place].removeprefix("--- old/").partition("\t")[0]
        place += 1


def _hunk(lines: list[str], old: int, new: int) -> list[str]:
    """The lines of a hunk that has so many of the old and of the new text."""
    body: list[str] = []
    for line in lines:
        if old <= 0 and new <= 0 and not line.startswith("\\"):
            break
        old -= line[:1] in {"-", " ", ""}
        new -= line[:1] in {"+", " ", ""}
        body.append(line)
    return body


# terraform init, terraform validate ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Needs:
    """What `terraform validate` lacks: modules by the file and line that call them, providers by their address."""

    modules: frozenset[tuple[str, int]] = frozenset()
    providers: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.modules or self.providers)


_NO_MODULE = "Module not installed"
_NO_PROVIDER = "Missing required provider"


def validate(text: str, folder: str) -> tuple[Finding, ...]:
    """The findings of `terraform validate -json` in `folder`; what is not installed is none, see `needs`.

    A diagnostic without a place has the folder's first line.

    Raises:
        PipelineError: it is not the JSON of format 1 (exit 1).
    """
    items = _diagnostics(text)
    return tuple(
        _diagnostic(item, folder) for item in items if item.get("summary") not in {_NO_MODULE, _NO_PROVIDER}
    )


def needs(text: str, folder: str) -> Needs:
    """What `terraform validate -json` in `folder` says is not installed: Terraform's own word for what it would fetch.

    Raises:
        PipelineError: it is not the JSON of format 1 (exit 1).
    """
    items = _diagnostics(text)
    modules = (_place(item.get("range"), folder) for item in items if item.get("summary") == _NO_MODULE)
    details = (str(item.get("detail")) for item in items if item.get("summary") == _NO_PROVIDER)
    named = ((re.search(r"requires provider (\S+?),? ", detail), detail) for detail in details)
    return Needs(frozenset(modules), frozenset(found[1] if found else _line(text) for found, text in named))


def _diagnostics(text: str) -> list[dict[str, Any]]:
    data = _object(text, "terraform validate -json")
    if not str(data.get("format_version", "")).startswith("1."):
        raise PipelineError(
            "terraform validate prints another format than 1", hint="use a terraform from 1.11 on"
        )
    return list(_objects(data.get("diagnostics")))


def _diagnostic(item: dict[str, Any], folder: str) -> Finding:
    severity = Severity.MINOR if item.get("severity") == "warning" else Severity.MAJOR
    said = f"{item.get('summary', '')}: {item.get('detail', '')}".strip(": ")
    path, line = _place(item.get("range"), folder)
    return Finding(path, line, "validate", severity, _line(said), "see terraform validate")


def reason(stderr: str) -> str:
    """Why `terraform` failed, in a line: its last error, which is the one that stopped it."""
    found = re.split(r"(?m)^[│╷╵ ]*Error: ", stderr)
    text = re.sub(r"[\s│╷╵]+", " ", found[-1] if len(found) > 1 else stderr)
    return _line(text.strip()) or "terraform failed and said nothing"


# tflint --------------------------------------------------------------------------------------------------------

_TFLINT = {"error": Severity.MAJOR, "warning": Severity.MINOR}


def tflint(text: str, folder: str) -> tuple[Finding, ...]:
    """The findings of `tflint --format=json` run in `folder`; its own errors are findings too.

    Raises:
        PipelineError: it is no JSON object (exit 1).
    """
    data = _object(text, "tflint --format=json")
    found = [_issue(item, folder) for item in _objects(data.get("issues"))]
    return tuple(found + [_failure(item, folder) for item in _objects(data.get("errors"))])


def _issue(item: dict[str, Any], folder: str) -> Finding:
    rule = item["rule"] if isinstance(item.get("rule"), dict) else {}
    path, line = _place(item.get("range"), folder)
    severity = _TFLINT.get(str(rule.get("severity")), Severity.MINOR)
    cure = f"see {link}" if (link := _line(str(rule.get("link") or ""))) else "see tflint"
    name = _line(str(rule.get("name") or "issue"))
    return Finding(path, line, f"tflint:{name}", severity, _line(str(item.get("message", ""))), cure)


def _failure(item: dict[str, Any], folder: str) -> Finding:
    path, line = _place(item.get("range"), folder)
    said = f"{item.get('summary') or ''}: {item.get('message') or ''}".strip(": ")
    return Finding(path, line, "tflint", Severity.MAJOR, _line(said), "mend it, or tflint's configuration")


# What both print -----------------------------------------------------------------------------------------------


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise PipelineError(f"{what} printed no JSON object", hint="run it by hand to see what it says")
    return found


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _place(value: Any, folder: str) -> tuple[str, int]:
    """The file and line of a range (`filename`, `start.line`)."""
    found = value if isinstance(value, dict) else {}
    start = found["start"] if isinstance(found.get("start"), dict) else {}
    line = start.get("line")
    path = _joined(folder, str(found.get("filename") or ""))
    return path, line if isinstance(line, int) and line > 0 else 1


def _joined(folder: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(folder or ".", _line(name)))


def _line(text: str) -> str:
    """A text on one line, cut where it is long."""
    flat = "".join(character if character.isprintable() else " " for character in text)
    flat = " ".join(flat.split())
    return flat if len(flat) <= LONGEST else f"{flat[: LONGEST - 1]}…"
