"""Dockerfiles, as far as rules ask: instructions with their lines, stages, the images that are pulled.

Source: docs.docker.com, "Dockerfile reference" (Format, Parser directives, Here-Documents, FROM, COPY --from).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ESCAPE = re.compile(r"#\s*escape\s*=\s*([`\\])", re.IGNORECASE)
_HEREDOC = re.compile(r"<<(-?)([\"']?)([A-Za-z_][A-Za-z0-9_]*)\2")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^}]*))?\})")
_FLAG = re.compile(r"""--((?:\\.?|"(?:\\.|[^"\\])*(?:"|\\?$)|'(?:\\.|[^'\\])*(?:'|\\?$)|[^\s"'\\])*)\s*""")
_MOUNTED = re.compile(r"(?:^|,)from=([^,]+)", re.IGNORECASE)


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
    # Not `splitlines`: to builders only a newline ends a line.
    lines = [line.removesuffix("\r") for line in text.lstrip("\ufeff").split("\n")]
    continuation = re.compile(re.escape(_escape(lines)) + r"[ \t]*$")
    number = 0
    while number < len(lines):
        begin, number, joined = _joined(lines, number, continuation)
        found = _instruction(begin, joined)
        if found.word in {"RUN", "COPY", "ADD", "ONBUILD"}:
            number = _after_heredocs(lines, number, found.rest)
        if found.word:
            yield found


def _joined(lines: list[str], number: int, continuation: re.Pattern[str]) -> tuple[int, int, str]:
    """From line `number` on: the line where an instruction begins, the number after it, and its text on one line."""
    begin, joined = number + 1, ""
    while number < len(lines):
        line = lines[number]
        number += 1
        if not line.strip() or line.lstrip().startswith("#"):
            begin += not joined
            continue
        part, continues = continuation.subn("", line)
        # Nothing between them: a word may go on in the next line.
        joined += part
        if not continues:
            break
    return begin, number, joined


def _instruction(line: int, text: str) -> Instruction:
    """Its word ends at any white space, as it does for builders."""
    word, rest = (*text.split(maxsplit=1), "", "")[:2]
    return Instruction(line, word.upper(), rest.strip())


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
    return next((stages[number] for number in _numbers(stages, target)), None)


def up_to(stages: tuple[Stage, ...], target: str | None) -> tuple[Stage, ...]:
    """The stages that may be built for `target`: docker's own builder builds all before it, needed or not."""
    numbers = _numbers(stages, target) if target else []
    return stages[: numbers[-1] + 1] if numbers else stages


def _numbers(stages: tuple[Stage, ...], target: str) -> list[int]:
    """The stages that `target` may mean: of two of one name docker takes the first, BuildKit the last."""
    named = [number for number, stage in enumerate(stages) if stage.name == target.lower()]
    return named or [number for number in range(len(stages)) if str(number) == target]


def pulled(stages: tuple[Stage, ...]) -> Iterator[Pulled]:
    """Every image that is pulled, once a line: not `scratch`, and no stage of this file."""
    return iter(dict.fromkeys(_pulled(stages)))


def _pulled(stages: tuple[Stage, ...]) -> Iterator[Pulled]:
    numbers = {str(number) for number in range(len(stages))}
    # The stages so far by name, each with what it leaves to those that begin from it.
    triggers: dict[str, tuple[Instruction, ...]] = {}
    for stage in stages:
        base = stage.image.lower()
        if base not in {"scratch", *triggers}:
            yield Pulled(stage.begin.line, stage.image)
        for instruction in (*triggers.get(base, ()), *stage.instructions):
            for image in _flagged(instruction):
                if image.lower() not in {"scratch", *triggers, *numbers}:
                    yield Pulled(instruction.line, image)
        triggers[stage.name] = tuple(
            _instruction(item.line, item.rest) for item in stage.instructions if item.word == "ONBUILD"
        )


def _flagged(instruction: Instruction) -> Iterator[str]:
    """The images that the flags of a `COPY` or `RUN` name."""
    for flag in _flags(instruction.rest):
        name, _, value = flag.partition("=")
        if (instruction.word, name) == ("COPY", "from") and value:
            yield value
        if (instruction.word, name) == ("RUN", "mount"):
            yield from _MOUNTED.findall(value)


def _flags(rest: str) -> Iterator[str]:
    """The flags before an instruction's own words, without `--`, quotes and backslashes, as builders read them."""
    at = 0
    while (found := _FLAG.match(rest, at)) and found[1]:
        yield re.sub(r"\\(.)|[\"']", r"\1", found[1])
        at = found.end()


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
