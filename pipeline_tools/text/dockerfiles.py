"""Dockerfiles, as far as rules ask: instructions with their lines, stages, the images that are pulled.

Source: docs.docker.com, "Dockerfile reference" (Format, Parser directives, Here-Documents, FROM, COPY --from).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ESCAPE = re.compile(r"#\s*escape\s*=\s*([`\\])", re.IGNORECASE)
_HEREDOC = re.compile(r"<<(-?)([\"']?)([A-Za-z_][A-Za-z0-9_]*)\2")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^}]*))?\})")
_FROM_FLAG = re.compile(r"(?:--from=|--mount=\S*\bfrom=)([^\s,]+)")


@dataclass(frozen=True)
class Instruction:
    """One instruction: the `line` it begins on (from 1), its word in capitals, and the rest on one line."""

    line: int
    word: str
    rest: str


@dataclass(frozen=True)
class Stage:
    """A stage: its `FROM`, the `name` given to it, and its instructions."""

    begin: Instruction
    image: str
    name: str
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True)
class Pulled:
    """An image that a line pulls, as far as its variables are known."""

    line: int
    image: str


def instructions(text: str) -> Iterator[Instruction]:
    """The instructions; comments, continuations and here-documents taken care of."""
    lines = text.lstrip("\ufeff").splitlines()
    escape = _escape(lines)
    number = 0
    while number < len(lines):
        begin, joined = number + 1, ""
        while number < len(lines):
            line = lines[number].strip()
            number += 1
            if line.startswith("#") or not line:
                begin += not joined
                continue
            joined += line.removesuffix(escape)
            if not line.endswith(escape):
                break
            joined = joined.rstrip() + " "
        word, _, rest = joined.strip().partition(" ")
        if word.upper() in {"RUN", "COPY", "ADD"}:
            number = _after_heredocs(lines, number, rest)
        if word:
            yield Instruction(begin, word.upper(), rest.strip())


def _escape(lines: list[str]) -> str:
    """The escape character; its directive stands before anything that is no directive."""
    for line in lines:
        if found := _ESCAPE.fullmatch(line.strip()):
            return found[1]
        if not re.fullmatch(r"#\s*\w+\s*=.*", line.strip()):
            break
    return "\\"


def _after_heredocs(lines: list[str], number: int, rest: str) -> int:
    """The number of the line after the here-documents that `rest` opens; one that does not end is none."""
    for dash, _, end in _HEREDOC.findall(rest):
        for at in range(number, len(lines)):
            if (lines[at].lstrip("\t") if dash else lines[at]) == end:
                number = at + 1
                break
    return number


def stages(text: str, build_args: Mapping[str, str]) -> tuple[Stage, ...]:
    """The stages, their images with variables replaced by build arguments and by the defaults before the first FROM."""
    found: list[tuple[Instruction, list[Instruction]]] = []
    known: dict[str, str] = {}
    for instruction in instructions(text):
        if instruction.word == "FROM":
            found.append((instruction, []))
        elif found:
            found[-1][1].append(instruction)
        elif instruction.word == "ARG":
            known |= _defaults(instruction.rest, known | dict(build_args))
    return tuple(_stage(begin, tuple(body), known | dict(build_args)) for begin, body in found)


def chosen(stages: tuple[Stage, ...], target: str | None) -> Stage | None:
    """The stage that is built: by name or number, else the last; None where there is none."""
    if not target:
        return stages[-1] if stages else None
    named = [stage for stage in stages if stage.name == target.lower()]
    numbered = [stages[int(target)]] if target.isdigit() and int(target) < len(stages) else []
    return next(iter([*named, *numbered]), None)


def pulled(stages: tuple[Stage, ...]) -> Iterator[Pulled]:
    """Every image that is pulled: not `scratch`, and no stage of this file."""
    names = {str(number) for number in range(len(stages))}
    before: set[str] = set()
    for stage in stages:
        if stage.image.lower() not in {"scratch", *before}:
            yield Pulled(stage.begin.line, stage.image)
        for instruction in stage.instructions:
            if instruction.word in {"COPY", "ADD", "RUN"}:
                for image in _FROM_FLAG.findall(instruction.rest):
                    if image.lower() not in {"scratch", *before, *names}:
                        yield Pulled(instruction.line, image)
        before.add(stage.name)


def _stage(begin: Instruction, body: tuple[Instruction, ...], known: Mapping[str, str]) -> Stage:
    words = [word for word in begin.rest.split() if not word.startswith("--")]
    is_named = len(words) > 2 and words[1].upper() == "AS"  # noqa: PLR2004 (FROM image AS name)
    name = words[2].lower() if is_named else ""
    return Stage(begin, _expanded(words[0] if words else "", known), name, body)


def _defaults(rest: str, known: Mapping[str, str]) -> dict[str, str]:
    rows = [word.partition("=") for word in rest.split()]
    return {name: _expanded(value.strip("\"'"), known) for name, equals, value in rows if equals}


def _expanded(text: str, known: Mapping[str, str]) -> str:
    """Variables replaced; one that is not known stays as it is written."""

    def value(found: re.Match[str]) -> str:
        name, sign, other = found[1] or found[2], found[3] or "", found[4] or ""
        is_set = bool(known.get(name)) if sign.startswith(":") else name in known
        if sign.endswith("+"):
            return other if is_set else ""
        if is_set:
            return known[name]
        return other if sign.endswith("-") else found[0]

    return _VARIABLE.sub(value, text)
