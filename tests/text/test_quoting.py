"""No value breaks out of where it was printed, in any of the languages that are rendered."""

import json
import subprocess
import tomllib
from collections.abc import Callable

import hcl2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError
from ruamel.yaml import YAML

from pipeline_tools.text import quoting, runner_files

# What a YAML or TOML file, an argument and HCL 1 can hold: text without lone surrogates and NUL.
Test = Callable[[str], None]

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
HOSTILE = (
    'a"\nb: c',
    "'''\n[runners.kubernetes]\nprivileged = true",
    "{{ .Values.x }}",
    "${file(1)}%{if}",
    "\\",
    "#\x85\u2028",
    "\U0001f600",
    "$(id)`id`';id",
    "null",
    "0x1f",
)


def hostile(test: Test) -> Test:
    """The test on known attacks too."""
    for text in HOSTILE:
        test = example(text)(test)
    return settings(max_examples=150, deadline=None)(test)


def rendered(template: str, **values: object) -> str:
    return runner_files.jinja().from_string(template).render(values)


@hostile
@given(TEXT)
def test_yaml(text: str) -> None:
    document = rendered("a:\n  b: {{ x | yaml }}\n  c: [{{ x | yaml }}]\nd: 1\n", x=text)
    assert YAML(typ="safe", pure=True).load(document) == {"a": {"b": text, "c": [text]}, "d": 1}


@hostile
@given(TEXT)
def test_toml_inside_helm_inside_yaml(text: str) -> None:
    """As in `runners.config`: TOML in a YAML block, with YAML in a literal TOML string, read by Helm's `tpl`."""
    document = rendered(
        "config: |\n  a = {{ x | toml }}\n  l = {{ [x] | toml }}\n  p = '''\n    k: {{ x | yaml }}\n  '''\n",
        x=text,
    )
    config = YAML(typ="safe", pure=True).load(document)["config"]
    assert "{{" not in config
    found = tomllib.loads(config)
    assert (found["a"], found["l"]) == (text, [text])
    assert YAML(typ="safe", pure=True).load(found["p"]) == {"k": text}


@hostile
@given(TEXT)
def test_hcl(text: str) -> None:
    spelled = str(quoting.hcl(text))
    assert "${" not in spelled
    assert "%{" not in spelled
    assert "\n" not in spelled
    found = hcl2.loads(rendered("path {{ x | hcl }} {\n  a = {{ x | hcl }}\n}\nb = 1\n", x=text))
    assert set(found) - {"__comments__", "__inline_comments__"} == {"path", "b"}
    assert len(found["path"]) == 1


@hostile
@given(TEXT)
def test_json(text: str) -> None:
    assert json.loads(rendered("{{ x | tojson }}", x={"a": [text]})) == {"a": [text]}


@settings(max_examples=20, deadline=None)
@given(TEXT)
@example(HOSTILE[0])
@example(HOSTILE[7])
def test_shell(text: str) -> None:
    script = rendered("printf %s {{ x | shell }}; printf end", x=text)
    answer = subprocess.run(("sh", "-c", script), capture_output=True, check=True)
    assert answer.stdout.decode() == text + "end"


def test_a_template_cannot_print_what_is_not_quoted() -> None:
    with pytest.raises(TypeError, match="without quoting"):
        rendered("{{ x }}", x="a")
    with pytest.raises(TypeError, match="without quoting"):
        rendered("{{ x | yaml ~ y }}", x="a", y="b")
    with pytest.raises((UndefinedError, TypeError), match="ndefined"):
        rendered("{{ y | yaml }}")


def test_a_block_takes_plain_lines_only() -> None:
    assert quoting.block("a\nb\n", 2) == "|2-\n  a\n  b"
    with pytest.raises(ValueError, match="plain"):
        quoting.block("a\x07", 2)


@pytest.mark.parametrize("value", [None, 1.5, {"a": 1}])
def test_what_has_no_spelling_is_an_error(value: object) -> None:
    with pytest.raises(TypeError):
        quoting.yaml(value)


def test_an_identifier_is_one() -> None:
    assert rendered("{{ x | identifier }}", x="gsa-dev") == "gsa-dev"
    with pytest.raises(ValueError, match="identifier"):
        rendered("{{ x | identifier }}", x="a b")
