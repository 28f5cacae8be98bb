"""Quoting by construction: a value reaches a rendered file only through one of these, and never breaks out of it.

One spelling serves JSON-like languages alike: double quotes around plain characters, all others escaped by code point.
It is a string in YAML 1.2 (7.3.1), TOML 1.0 ("Basic strings"), HCL 1 and HCL 2 ("Template expressions") and, below
U+10000, in JSON. Braces, `$` and `%` are escaped with the rest, so neither Helm's `tpl` (`{{`), which evaluates
`runners.config`, nor Terraform (`${`, `%{`) nor Vault's policy templates find anything in it; nor does a quote end
the literal TOML string (`'''`) that a pod-spec patch stands in.
"""

import json
import shlex
from typing import Any

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_.,:;/+*=@()[]<>!?|^~#")


class Quoted(str):
    """A text that is safe where it will stand. Templates print nothing else (`runner_files`)."""

    __slots__ = ()


def _escaped(character: str) -> str:
    if character in _PLAIN:
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"  # noqa: PLR2004 (the end of the first plane)


def _string(value: str) -> str:
    return '"' + "".join(map(_escaped, value)) + '"'


def _value(value: Any) -> Quoted:
    """A string, number, truth value, or a list of them."""
    if isinstance(value, bool):
        return Quoted("true" if value else "false")
    if isinstance(value, int):
        return Quoted(value)
    if isinstance(value, (tuple, list)):
        return Quoted(f"[{', '.join(_value(item) for item in value)}]")
    if isinstance(value, str):
        return Quoted(_string(value))
    raise TypeError(f"{type(value).__name__} cannot be quoted")


yaml = toml = hcl = _value


def block(value: str, indent: int) -> Quoted:
    """Several lines as a YAML literal block (YAML 1.2, 8.1.2), below a key; only for text without control characters.

    Raises:
        ValueError: the text has a character that a block cannot hold.
    """
    lines = value.strip("\n").split("\n")
    if any(not (character.isascii() and character.isprintable()) for line in lines for character in line):
        raise ValueError("not plain lines")
    # The indentation is said, so a first line that begins with blanks cannot change it.
    return Quoted(f"|{2}-\n" + "\n".join(" " * indent + line if line else "" for line in lines))


def tojson(value: Any) -> Quoted:
    """A whole JSON document, of ASCII."""
    return Quoted(json.dumps(value, indent=2, sort_keys=True))


def shell(value: str) -> Quoted:
    """One word for a POSIX shell."""
    return Quoted(shlex.quote(value))
