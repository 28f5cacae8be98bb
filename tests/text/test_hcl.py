"""HCL and its JSON as blocks with lines, whatever stands in the file."""

import contextlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline_tools.text import hcl
from pipeline_tools.text.hcl import Expression, Malformed

NATIVE = r"""# a comment
terraform {
  required_version = ">= 1.11"
  backend "http" {}
}

module "x" {
  source  = "./mod\u0041\"$${y}"
  on      = true
  none    = null
  list    = [1, -2, "a", { b = 1.5, "c" : [] }]
  joined  = "${var.x}-y"
  called  = upper("x")
  bracket = ("x")
  text    = <<-EOT
    source = "../no"
  EOT
}
"""


def test_native_values_and_their_lines() -> None:
    whole = hcl.read(NATIVE, "main.tf")
    (settings,), (module,) = tuple(whole.of("terraform")), tuple(whole.of("module"))
    assert (settings.line, settings.line_of("required_version"), settings.blocks[0].line) == (2, 3, 4)
    assert module.labels == ("x",)
    assert module.value("source") == './modA"${y}'
    assert (module.value("on"), module.value("none"), module.value("absent")) == (True, None, None)
    assert module.value("list") == [1, Expression("-2"), "a", {"b": 1.5, "c": []}]
    assert module.line_of("bracket") == 14
    assert module.line_of("absent") == module.line


@pytest.mark.parametrize("name", ["joined", "called", "bracket", "text"])
def test_what_must_be_evaluated_is_an_expression(name: str) -> None:
    (module,) = hcl.read(NATIVE, "main.tf").of("module")
    assert isinstance(module.value(name), Expression)


def test_json_is_the_same_blocks() -> None:
    text = """{
  "//": "a comment",
  "terraform": [{"backend": {"http": {}}, "required_version": ">= 1.11"}],
  "module": {
    "x": [
      {"source": "./a"},
      {"source": "./${b}"}
    ]
  },
  "resource": {"a_b": {"c": {"provider": "a.west", "data": {"external": {"k": {}}},
\t"provisioner": {"local-exec": {"command": "x"}}}}}
}"""
    whole = hcl.read(text, "main.tf.json")
    (settings,) = whole.of("terraform")
    assert [(block.type, block.labels, block.line) for block in settings.blocks] == [
        ("backend", ("http",), 3)
    ]
    first, second = whole.of("module")
    assert (first.labels, first.value("source"), first.line_of("source")) == (("x",), "./a", 6)
    assert second.value("source") == Expression("./${b}")
    (resource,) = whole.of("resource")
    assert resource.labels == ("a_b", "c")
    assert resource.value("provider") == "a.west"
    assert [(block.type, block.labels) for block in resource.blocks] == [("provisioner", ("local-exec",))]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tf", 'x = 1\ny = "\n', r"a\.tf:2: malformed HCL"),
        ("a.tf", "x {\n\n", r"a\.tf:\d+: malformed HCL"),
        ("a.tf", "x {\n  a = 1\n  a = 2\n}\n", r"a\.tf:1: an attribute is given twice"),
        ("a.tf", "x = \x00", r"a\.tf:1: malformed HCL"),
        ("a.tf", "a {" * 50 + "}" * 50, r"nested more than 40"),
        ("a.tf", "x = " + "[" * 5000 + "]" * 5000, r"nested more than 40"),
        ("a.tf", "#" * (hcl.LARGEST + 1), r"more than 262144 characters"),
        ("a.tf.json", '{\n"a": 1,\n"b": }', r"a\.tf\.json:3: malformed JSON"),
        ("a.tf.json", '{"module": {}, "module": {}}', r"a name given twice"),
        ("a.tf.json", "[" * 100_000, r"malformed JSON"),
        ("a.tf.json", "[]", r"no JSON object"),
        ("a.tf.json", "", r"a\.tf\.json:1: malformed JSON"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(name: str, text: str, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        hcl.read(text, name)


PIECES = st.sampled_from(
    ["terraform", "module", '"x"', "{", "}", "=", "\n", "[", "]", "source", '"./a"', "${", "<<E", "\nE\n", "#", "/*",
     "*/", "\\", '"', "for", "in", ":", "null", "1", "-", ",", "(", ")", "\x00", "é", "\r\n", "\ufeff", "%{", "$${"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map(" ".join) | st.text(max_size=80))
@example('x "\\N{}" {}')
@example("a { ${ }")
def test_no_text_is_too_odd(text: str) -> None:
    """There are blocks, or an error with its line; never a traceback."""
    with contextlib.suppress(Malformed):
        list(hcl.read(text, "a.tf").below())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["terraform", "backend", "module", "source", "x", "provider", "data", "", "a.b", "//"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(VALUES)
def test_no_json_is_too_odd(value: object) -> None:
    with contextlib.suppress(Malformed):
        list(hcl.read(json.dumps(value), "a.tf.json").below())
