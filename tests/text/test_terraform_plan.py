"""A plan's summary: every kind of change, nothing sensitive, one digest for one meaning, little memory."""

import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import terraform_plan
from pipeline_tools.text.terraform_plan import Action, Summary
from pipeline_tools.text.terraform_values import Attribute
from tests.text.plans import KEY, OBJECTS, PLANS, SECRET, plan, resource, summarised, summary

ROOT = """
variable "name" { default = "a" }
variable "password" {
  default   = "hunter2-planted"
  sensitive = true
}
resource "terraform_data" "old" { input = { name = var.name, list = [1, { x = null }], password = var.password } }
resource "terraform_data" "replaced" { triggers_replace = [var.name] }
resource "terraform_data" "forgotten" {}
resource "terraform_data" "same" {}
resource "terraform_data" "each" {
  for_each = toset(var.name == "a" ? ["x\\"y"] : ["z"])
}
output "plain" { value = var.name }
output "hidden" {
  value     = "${var.password}-${var.name}"
  sensitive = true
}
check "name" {
  assert {
    condition     = var.name == "a"
    error_message = "the name is ${var.name}"
  }
}
check "good" {
  assert {
    condition     = var.name != ""
    error_message = "never"
  }
}
"""
CHANGED = (
    ROOT.replace('"old"', '"new"').replace('resource "terraform_data" "forgotten" {}', "")
    + """
moved {
  from = terraform_data.old
  to   = terraform_data.new
}
removed {
  from = terraform_data.forgotten
  lifecycle { destroy = false }
}
import {
  to = terraform_data.imported
  id = "an id"
}
resource "terraform_data" "imported" {}
data "terraform_remote_state" "read" {
  backend = "local"
  config  = { path = terraform_data.replaced.id }
}
"""
)


@pytest.fixture(scope="module")
def real(terraform: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """A plan of the real Terraform with all that its built-in provider can do."""
    root = tmp_path_factory.mktemp("root")
    (root / "main.tf").write_text(ROOT)
    terraform(root, "init")
    terraform(root, "apply", "-auto-approve")
    (root / "main.tf").write_text(CHANGED)
    terraform(root, "plan", "-out=plan", "-var=name=b")
    return terraform_plan.read(io.BytesIO(terraform(root, "show", "-json", "plan")), KEY)


def test_every_kind_of_change(real: Summary) -> None:
    assert {change.address: change.action for change in real.changes} == {
        "terraform_data.new": Action.UPDATE,
        "terraform_data.replaced": Action.REPLACE,
        "terraform_data.forgotten": Action.FORGET,
        'terraform_data.each["x\\"y"]': Action.DELETE,
        'terraform_data.each["z"]': Action.CREATE,
        "terraform_data.imported": Action.NO_OP,
        "data.terraform_remote_state.read": Action.READ,
    }
    by_address = {change.address: change for change in real.changes}
    assert by_address["terraform_data.replaced"].replaced_by == ("triggers_replace",)
    assert by_address["terraform_data.new"].previous_address == "terraform_data.old"
    assert by_address["terraform_data.imported"].importing == "an id"
    assert by_address['terraform_data.each["x\\"y"]'].reason == "delete_because_each_key"
    counts = terraform_plan.Counts(1, 1, 1, 1, move=1, import_=1, forget=1, read=1)
    assert real.counts == counts
    assert real.widget() == {"create": 2, "update": 1, "delete": 2}


def test_outputs_and_checks(real: Summary) -> None:
    hidden, plain = real.outputs
    assert (hidden.name, hidden.is_sensitive, plain.name, plain.is_sensitive) == (
        "hidden",
        True,
        "plain",
        False,
    )
    assert plain.attributes == (Attribute("", '"a"', '"b"', is_sensitive=False),)
    assert plain.references == ("var.name",)
    assert [(check.address, check.status, check.problems) for check in real.checks] == [
        ("check.name", "fail", ("the name is b",))
    ]
    assert real.checks_passed == 1


def test_a_sensitive_value_that_the_provider_gives_back_unmarked(real: Summary) -> None:
    assert SECRET not in repr(real)
    moved = next(change for change in real.changes if change.is_move)
    given_back = next(found for found in moved.attributes if found.path == "output.password")
    assert given_back.is_sensitive
    assert str(given_back.before).startswith("hmac-sha256:")


def test_drift_deferred_and_deposed() -> None:
    # The built-in provider knows neither.
    made = summarised(
        resource("x.a", ["delete"], deposed="00ab"),
        resource_drift=[resource("x.b", before={"n": 1}, after={"n": 2}), resource("x.c", ["no-op"])],
        deferred_changes=[
            {"reason": "absent_prereq", "resource_change": resource("x.d", ["create"], after={"n": 1})}
        ],
        errored=True,
        complete=False,
        applyable=False,
    )
    assert [change.address for change in made.changes] == ["x.a (deposed 00ab)"]
    assert [change.address for change in made.drift] == ["x.b"]
    assert [(found.reason, found.change.address) for found in made.deferred] == [("absent_prereq", "x.d")]
    assert (made.counts.drift, made.counts.deferred) == (1, 1)
    assert (made.is_errored, made.is_complete, made.is_applyable) == (True, False, False)


def attributes(**change: Any) -> tuple[Attribute, ...]:
    return summarised(resource(**change)).changes[0].attributes


def test_only_what_changes() -> None:
    found = attributes(
        before={"same": 1, "gone": "x", "null": None, "deep": {"a b": [1, 2], "c": True}, "later": 1},
        after={"same": 1.0, "new": {}, "null": None, "deep": {"a b": [1, 3], "c": 1}},
        after_unknown={"later": True, "deep": {"a b": [False, False]}},
    )
    assert found == (
        Attribute('deep["a b"][1]', "2", "3", is_sensitive=False),
        Attribute("deep.c", "true", "1", is_sensitive=False),
        Attribute("gone", '"x"', None, is_sensitive=False),
        Attribute("later", "1", "(known after apply)", is_sensitive=False),
        Attribute("new", None, "{}", is_sensitive=False),
    )


@pytest.mark.parametrize(
    "marks",
    [
        {"after_sensitive": True},
        {"before_sensitive": {"deep": True}},
        {"before_sensitive": {"deep": [False, {"password": True}]}, "after_sensitive": {}},
    ],
)
def test_a_mark_on_one_side_hides_both(marks: dict[str, Any]) -> None:
    sides: dict[str, Any] = {
        "before": {"deep": [1, {"password": SECRET}], "url": f"https://u:{SECRET}@h"},
        "after": {"deep": [1, {"password": SECRET + "2"}], "url": f"https://u:{SECRET}2@h"},
    }
    keyed, unkeyed = (summarised(resource(**sides, **marks), key=key) for key in (KEY, b""))
    assert SECRET not in repr(keyed) + repr(unkeyed)
    assert all(found.is_sensitive for found in keyed.changes[0].attributes)
    assert (keyed.has_unkeyed, unkeyed.has_unkeyed) == (False, True)
    assert {found.after for found in unkeyed.changes[0].attributes} == {"(sensitive value)"}


def test_sensitive_values_can_be_compared() -> None:
    def digest(value: str, key: bytes = KEY) -> str:
        made = summarised(
            resource(before={"a": "x"}, after={"a": value}, after_sensitive={"a": True}), key=key
        )
        return made.changes[0].digest

    assert digest("one") == digest("one") != digest("two")
    assert digest("one", b"other") != digest("one")


def test_sensitive_and_unknown() -> None:
    marks: dict[str, Any] = {"after_sensitive": {"a": True}, "before": {"a": "x"}}
    (wholly,) = attributes(**marks, after={}, after_unknown={"a": True})
    assert wholly.after == "(sensitive value, known after apply)"
    partly = [
        attributes(**marks, after={"a": {"known": known}}, after_unknown={"a": {"later": True}})[0].after
        for known in ("one", "two")
    ]
    assert partly[0] != partly[1], "the known part can be compared"


def test_long_values_and_many_of_them() -> None:
    after = {f"attribute{number:03}": "x" * 390 for number in range(100)}
    long = {**after, "a": "y" * 500}
    made, other = (
        summarised(resource(after=value)).changes[0] for value in (long, {**long, "attribute099": "z"})
    )
    assert str(made.attributes[0].after).startswith("sha256:")
    assert str(made.attributes[0].after).endswith("(502 characters)")
    assert len(made.attributes) < 25
    assert len(made.attributes) + made.attributes_left_out == 101
    assert made.attributes == other.attributes
    assert made.digest != other.digest, "what is left out is in the digest"


def shuffled(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        names = rng.sample(list(value), len(value))
        return {name: shuffled(value[name], rng) for name in names}
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


@given(PLANS, st.randoms(use_true_random=False))
def test_neither_the_order_of_keys_nor_the_format_matters(made: dict[str, Any], rng: random.Random) -> None:
    rewritten = json.dumps(shuffled(made, rng), indent=1, ensure_ascii=False).encode()
    assert terraform_plan.read(io.BytesIO(rewritten), KEY) == summary(made)


@given(OBJECTS, OBJECTS, OBJECTS)
def test_one_digest_is_one_meaning(before: Any, one: Any, other: Any) -> None:
    first, second = (summarised(resource(before=before, after=after)).changes[0] for after in (one, other))
    assert (first.digest == second.digest) == (first.attributes == second.attributes)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("1000", "1e3"),
        ("0.5", "5e-1"),
        ("1e300", "10e299"),
        ("1e50", "1" + "0" * 50),
        ("0", "-0.0e77"),
        ("0." + "123" * 20, "0." + "123" * 20 + "00"),
        ("1e999999999", "10e999999998"),
    ],
)
def test_a_number_is_its_value(one: str, other: str) -> None:
    text = json.dumps(plan(resource(after={"n": "NUMBER"})))
    found = [
        terraform_plan.read(io.BytesIO(text.replace('"NUMBER"', spelt).encode())).changes
        for spelt in (one, other)
    ]
    assert found[0] == found[1]


def test_numbers_that_no_float_tells_apart() -> None:
    text = json.dumps(plan(resource(before={"n": "ONE"}, after={"n": "OTHER"})))
    made = text.replace('"ONE"', "0." + "1" * 40).replace('"OTHER"', "0." + "1" * 41)
    (found,) = terraform_plan.read(io.BytesIO(made.encode())).changes
    assert [attribute.path for attribute in found.attributes] == ["n"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'"x"',
        b'{"format_version": "1.0", "values": {}}',
        json.dumps(plan(format_version="2.0")).encode(),
        json.dumps(plan(format_version=None)).encode(),
        json.dumps(plan(resource(actions=["explode"]))).encode(),
        json.dumps(plan({"address": "x"})).encode(),
        json.dumps(plan(resource(), resource_drift=[5])).encode(),
        json.dumps(plan(resource())).encode()[:-9],
        json.dumps(plan(resource())).encode() + b"}",
        json.dumps(plan(resource(after={"a": "X"}))).encode().replace(b"X", b"\xff\xfe"),
        json.dumps(plan(resource(after={"a": "X"}))).encode().replace(b'"X"', b"9" * 5000),
        json.dumps(plan(resource(after={"a": "X"}))).encode().replace(b'"X"', b"[" * 90_000 + b"]" * 90_000),
        b'{"unknown":' + b"[" * 90_000,
    ],
)
def test_what_is_no_plan_is_one_line(content: bytes) -> None:
    with pytest.raises(PipelineError, match="what terraform show -json printed") as raised:
        terraform_plan.read(io.BytesIO(content))
    assert "\n" not in raised.value.message
    assert raised.value.hint


@given(PLANS, st.data())
def test_a_cut_plan_never_passes(made: dict[str, Any], data: st.DataObject) -> None:
    content = json.dumps(made).encode()
    end = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(PipelineError):
        terraform_plan.read(io.BytesIO(content[:end]))


def test_the_memory_for_fifty_megabytes(tmp_path: Path) -> None:
    before = {f"attribute_{number}": {"name": "v" * 290} for number in range(16)}
    after = {name: {"name": "w" * 290} for name in before}
    one = json.dumps(resource("x.y", before=before, after=after))
    file = tmp_path / "plan.json"
    with file.open("w") as out:
        out.write(json.dumps(plan())[:-1].replace('"resource_changes": []', '"resource_changes": ['))
        out.write(",".join(one.replace("x.y", f"x.y[{number}]") for number in range(5000)) + "]}")
    assert file.stat().st_size > 50_000_000
    program = (
        "import re, sys; from pipeline_tools.text import terraform_plan as p;"
        "found = p.read(open(sys.argv[1], 'rb'));"
        # Not getrusage: its ru_maxrss begins with what pytest had when it forked.
        "print(len(found.changes), re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], check=True, capture_output=True, text=True
    )
    changes, kibibytes = map(int, done.stdout.split())
    assert changes == 5000
    assert kibibytes <= 100 * 1024
