"""Conventional Commits 1.0.0 (conventionalcommits.org): what a list of commits means for the next version."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_HEADER = re.compile(r"(?P<type>[A-Za-z]+)(?:\((?P<scope>[^()]*)\))?(?P<bang>!)?: +(?P<subject>.+)")
_BREAKING = re.compile(r"^BREAKING[ -]CHANGE: ", re.MULTILINE)
_SILENT = {"build", "chore", "ci", "docs", "refactor", "style", "test"}
_ORDER = ("", "patch", "minor", "major")
_HEADINGS = {"major": "Breaking changes", "minor": "Features", "patch": "Fixes and other changes"}


@dataclass(frozen=True)
class Change:
    """One commit: `kind` is the version part it raises (`major`, `minor`, `patch`, or empty for none)."""

    commit: str
    subject: str
    kind: str


def change(commit: str, message: str) -> Change:
    """Read one commit message. One that does not follow the convention counts as a patch."""
    header, _, body = message.partition("\n")
    found = _HEADER.fullmatch(header.strip())
    if not found:
        return Change(commit, header.strip(), "patch")
    subject = f"{found['scope']}: {found['subject']}" if found["scope"] else found["subject"]
    return Change(
        commit, subject, _kind(found["type"].lower(), breaking=bool(found["bang"] or _BREAKING.search(body)))
    )


def _kind(name: str, *, breaking: bool) -> str:
    if breaking:
        return "major"
    if name == "feat":
        return "minor"
    return "" if name in _SILENT else "patch"


def greatest(changes: Iterable[Change]) -> str:
    """The part of the version that `changes` raise together; empty if none of them needs a release."""
    return max((change.kind for change in changes), key=_ORDER.index, default="")


def notes(changes: Iterable[Change]) -> str:
    """The changes as Markdown, for the tag's message and the GitLab Release."""
    return "\n".join(_note_lines(tuple(changes))).strip() or "No change that needs a release."


def _note_lines(changes: tuple[Change, ...]) -> Iterator[str]:
    for kind, heading in _HEADINGS.items():
        mine = [change for change in changes if change.kind == kind]
        if mine:
            yield from ("", f"**{heading}**", "")  # no #: git strips such lines from a tag's message
            yield from (f"- {escape(change.subject)} ({change.commit[:8]})" for change in mine)


def escape(text: str) -> str:
    """`text` as literal Markdown: a commit subject must not mention people, embed images or open HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#!|~@])", r"\\\1", text)
