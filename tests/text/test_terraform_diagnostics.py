"""What terraform 1.11.4 printed, word for word, and tflint by its source, as findings."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import terraform_diagnostics as diagnostics
from pipeline_tools.text.findings import Severity

FMT = """\
main.tf
--- old/main.tf
+++ new/main.tf
@@ -1,9 +1,9 @@
 terraform {
   required_version = ">= 1.11"
-    backend "http" {}
+  backend "http" {}
 }
 variable "x" {
-type = string
+  type    = string
   default = var.y
 }
 resource "terraform_data" "a" {
@@ -13,5 +13,5 @@
{BLANK}
{BLANK}
 resource "terraform_data" "b" {
-      input=1
+  input = 1
 }
mod/m.tf
--- old/mod/m.tf
+++ new/mod/m.tf
@@ -1,3 +1,3 @@
 locals {
-a=1
+  a = 1
 }
""".replace("{BLANK}", " ")


def test_fmt_names_each_place() -> None:
    found = [(item.path, item.line, item.rule) for item in diagnostics.fmt(FMT, "envs/dev")]
    assert found == [
        ("envs/dev/main.tf", 3, "fmt"), ("envs/dev/main.tf", 16, "fmt"), ("envs/dev/mod/m.tf", 2, "fmt"),
    ]  # fmt: skip


def test_a_line_that_looks_like_a_heading_is_none() -> None:
    """A removed line `-- old/x` reads `--- old/x` in a diff."""
    text = "--- old/a.tf\n+++ new/a.tf\n@@ -1,2 +1,1 @@\n--- old/evil.tf\n-@@ -9,9 +9,9 @@\n+x = 1\n"
    assert [(item.path, item.line) for item in diagnostics.fmt(text, ".")] == [("a.tf", 1)]


VALIDATE = json.dumps(
    {
        "format_version": "1.0",
        "valid": False,
        "error_count": 1,
        "warning_count": 1,
        "diagnostics": [
            {
                "severity": "error",
                "summary": "Variables not allowed",
                "detail": "Variables may not be used here.",
                "range": {
                    "filename": "../modules/a/main.tf",
                    "start": {"line": 7, "column": 13, "byte": 108},
                    "end": {"line": 7, "column": 16, "byte": 111},
                },
            },
            {"severity": "warning", "summary": "Deprecated", "detail": "Long\nago."},
        ],
    }
)
WITHOUT_PROVIDER = json.dumps(
    {
        "format_version": "1.0",
        "valid": False,
        "error_count": 1,
        "warning_count": 0,
        "diagnostics": [
            {
                "severity": "error",
                "summary": "Missing required provider",
                "detail": "This configuration requires provider registry.terraform.io/scaleway/scaleway, but ...",
            }
        ],
    }
)


def test_validate_names_file_and_line() -> None:
    error, warning = diagnostics.validate(VALIDATE, "envs/dev")
    assert (error.path, error.line, error.severity) == ("envs/modules/a/main.tf", 7, Severity.MAJOR)
    assert error.message == "Variables not allowed: Variables may not be used here."
    assert (warning.line, warning.severity, warning.message) == (1, Severity.MINOR, "Deprecated: Long ago.")


def test_what_is_not_installed_is_no_finding_but_a_need() -> None:
    assert diagnostics.validate(WITHOUT_PROVIDER, "r") == ()
    assert diagnostics.needs(WITHOUT_PROVIDER, "r").providers == {"registry.terraform.io/scaleway/scaleway"}
    assert not diagnostics.needs(VALIDATE, "r")


def test_a_need_that_is_said_otherwise_is_still_one() -> None:
    text = WITHOUT_PROVIDER.replace("requires provider", "wants")
    (said,) = diagnostics.needs(text, "r").providers
    assert "wants" in said


def test_why_init_failed() -> None:
    stderr = """
Error: Failed to query available provider packages

Could not retrieve the list of available versions for provider
scaleway/scaleway: could not connect to registry.example.com
"""
    assert diagnostics.reason(stderr) == (
        "Failed to query available provider packages Could not retrieve the list of available versions for provider "
        "scaleway/scaleway: could not connect to registry.example.com"
    )
    assert diagnostics.reason("╷\n│ Error: No\n│ \n│ way\n╵\n") == "No way"
    assert diagnostics.reason("") == "terraform failed and said nothing"


TFLINT = json.dumps(
    {
        "issues": [
            {
                "rule": {
                    "name": "terraform_unused_declarations",
                    "severity": "warning",
                    "link": "https://example.com/rule.md",
                },
                "message": 'variable "x" is declared but not used',
                "range": {
                    "filename": "variables.tf",
                    "start": {"line": 3, "column": 1},
                    "end": {"line": 3, "column": 13},
                },
                "callers": [],
            }
        ],
        "errors": [{"message": "no such plugin"}],
    }
)


def test_tflint() -> None:
    issue, error = diagnostics.tflint(TFLINT, "r")
    assert (issue.path, issue.line, issue.rule) == (
        "r/variables.tf",
        3,
        "tflint:terraform_unused_declarations",
    )
    assert (issue.severity, issue.cure) == (Severity.MINOR, "see https://example.com/rule.md")
    assert (error.path, error.line, error.message) == ("r", 1, "no such plugin")


@pytest.mark.parametrize("text", ["", "[]", "Error: x", "[" * 100_000])
def test_what_is_no_json_is_said(text: str) -> None:
    for read in (diagnostics.validate, diagnostics.tflint):
        with pytest.raises(PipelineError, match="printed no JSON object"):
            read(text, "r")


def test_another_format_is_said() -> None:
    with pytest.raises(PipelineError, match="another format"):
        diagnostics.validate('{"format_version": "2.0"}', "r")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["issues", "errors", "rule", "range", "start", "line", "filename", "diagnostics"]
            ),
            inner,
        )
    ),
    max_leaves=15,
)


@given(VALUES, st.text(max_size=60) | st.lists(st.sampled_from(FMT.splitlines()), max_size=9).map("\n".join))
def test_no_output_is_too_odd(value: object, text: str) -> None:
    document = {"format_version": "1.0", "diagnostics": [value], "issues": [value], "errors": [value]}
    for read in (diagnostics.validate, diagnostics.tflint):
        for whole in (value, document):
            with contextlib.suppress(PipelineError):
                read(json.dumps(whole), "r")
    diagnostics.fmt(text, "r")
    assert "\n" not in diagnostics.reason(text)
