from __future__ import annotations

import pytest

from pipeline_tools.text import ignores


@pytest.mark.parametrize(
    ("content", "patterns"),
    [
        (b"", ()),
        (b"\xef\xbb\xbf# comment\n\n a b \n", ("a b",)),
        (b"\t*.env\r\n!  /kept/\r\n", ("*.env", "!kept")),
        (b"./a//b/../c\n//d\n../e\n", ("a/c", "d", "../e")),
        (b".\n/\n!\n!.\n", ()),
        (b"caf\xe9\n caf\xc3\xa9", ("caf\udce9", "café")),
        (b" # no comment", ("# no comment",)),
    ],
)
def test_patterns(content: bytes, patterns: tuple[str, ...]) -> None:
    assert ignores.patterns(content) == patterns
