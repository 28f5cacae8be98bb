"""Terraform's JSON lines, told: with the real Terraform, cut anywhere, and with what is no message."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.text.terraform_ui import LONGEST, Applied, Told

ROOT = """
variable "password" {
  default   = "hunter2-planted"
  sensitive = true
}
resource "terraform_data" "good" {
  provisioner "local-exec" { command = "printf 'hello\\\\033[31m from\\\\rhere\\\\n'" }
}
resource "terraform_data" "secret" {
  input = var.password
  provisioner "local-exec" { command = "echo ${var.password}" }
}
output "password" {
  value     = var.password
  sensitive = true
}
"""
BAD = """
resource "terraform_data" "bad" {
  depends_on = [terraform_data.good]
  provisioner "local-exec" { command = "echo dying; exit 3" }
}
"""
SLOW = """
resource "terraform_data" "slow" {
  depends_on = [terraform_data.good]
  provisioner "local-exec" { command = "echo begun; sleep 600" }
}
"""


@pytest.fixture
def root(terraform: Callable[..., bytes], tmp_path: Path) -> Callable[[str], Path]:
    def made(text: str) -> Path:
        (tmp_path / "main.tf").write_text(text)
        terraform(tmp_path, "init")
        return tmp_path

    return made


def applied(root: Path, interrupt_at: str = "") -> tuple[str, Told]:
    """`terraform apply -json`, told as it comes; SIGINT once after a line with `interrupt_at`."""
    told, out = Told(), b""
    argv = [str(shutil.which("terraform")), "apply", "-json", "-auto-approve"]
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1"}
    with subprocess.Popen(argv, cwd=root, env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout
        for line in child.stdout:
            out += told.feed(line)
            if interrupt_at and interrupt_at in line.decode() and b"Executing" not in line:
                child.send_signal(signal.SIGINT)
                interrupt_at = ""
    return (out + told.close()).decode(), told


def test_an_apply_that_works(root: Callable[[str], Path]) -> None:
    text, told = applied(root(ROOT))
    assert sorted(told.applied) == ["terraform_data.good: create", "terraform_data.secret: create"]
    assert (told.errored, told.errors, told.unfinished) == ([], [], [])
    assert told.summary == Applied(2, 0, 0)
    assert "terraform_data.good: Creation complete" in text
    assert "Apply complete! Resources: 2 added, 0 changed, 0 destroyed." in text
    assert "hunter2-planted" not in text
    assert "(local-exec): hello\\x1b[31m from" in text
    assert "\x1b" not in text
    assert "\r" not in text
    assert "@level" not in text


def test_an_apply_that_fails(root: Callable[[str], Path]) -> None:
    text, told = applied(root(ROOT + BAD))
    assert "terraform_data.good: create" in told.applied
    assert told.errored == ["terraform_data.bad: create"]
    assert told.errors == ["local-exec provisioner error"]
    assert told.summary is None
    assert (
        "Error: local-exec provisioner error\n  with terraform_data.bad\n  at main.tf:20\n  Error running"
        in text
    )


def test_an_apply_that_is_interrupted(root: Callable[[str], Path]) -> None:
    text, told = applied(root(ROOT + SLOW), interrupt_at="(local-exec): begun")
    assert "terraform_data.good: create" in told.applied
    assert told.errored == ["terraform_data.slow: create"]
    assert told.summary is None
    assert "Interrupt received." in text


def message(kind: str, **rest: Any) -> bytes:
    return json.dumps({"@message": f"the {kind}", "type": kind, **rest}).encode()


def hook(kind: str, address: str, action: str = "create") -> bytes:
    return message(kind, hook={"resource": {"addr": address}, "action": action})


def test_what_was_started_and_did_not_end() -> None:
    told = Told()
    told.feed(hook("apply_start", "x.a", "delete") + b"\n" + hook("apply_start", "x.a") + b"\n")
    told.feed(hook("apply_complete", "x.a", "delete") + b"\n")
    assert (told.applied, told.unfinished) == (["x.a: delete"], ["x.a: create"])


def test_a_plans_summary_is_not_what_was_done() -> None:
    told = Told()
    told.feed(message("change_summary", changes={"operation": "plan", "add": 5}) + b"\n")
    assert told.summary is None
    told.feed(message("change_summary", changes={"operation": "destroy", "remove": 5, "import": 1}) + b"\n")
    assert told.summary == Applied(0, 0, 5, 1)


@given(
    st.lists(st.binary(max_size=30) | st.builds(hook, st.just("apply_complete"), st.text(max_size=5))),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_where_a_chunk_ends_does_not_matter(lines: list[bytes], sizes: list[int]) -> None:
    data = b"\n".join(lines)
    whole, cut = Told(), Told()
    expected = whole.feed(data) + whole.close()
    out, at = b"", 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        out += cut.feed(data[at : at + size])
        at += size
    assert out + cut.close() == expected
    assert cut.applied == whole.applied
    expected.decode()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda below: (
            st.lists(below)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "hook",
                        "resource",
                        "addr",
                        "diagnostic",
                        "range",
                        "start",
                        "changes",
                        "add",
                        "@message",
                    ]
                ),
                below,
            )
        ),
    ),
    st.sampled_from(["apply_start", "apply_complete", "diagnostic", "change_summary", "other"]),
)
def test_a_message_of_any_shape_is_told(part: Any, kind: str) -> None:
    told = Told()
    line = message(kind, hook=part, diagnostic=part, changes=part)
    assert told.feed(line + b"\n").decode().startswith(f"the {kind}\n")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"plain", "plain\n"),
        (b"", "\n"),
        (b'{"no": "message"}', '{"no": "message"}\n'),
        (b'{"@message": 5}', '{"@message": 5}\n'),
        (b"{broken", "{broken\n"),
        (b"\xff\xfe broken", "\ufffd\ufffd broken\n"),
        (b"\x1b[31mred", "\\x1b[31mred\n"),
        (b'{"@message": "\\ud800"}', "?\n"),
        (b'{"@message": "section_start:1:x\\r\\u001b[0Kx"}', "section_start:1:x\\r\\x1b[0Kx\n"),
    ],
)
def test_what_is_no_message_or_an_odd_one(line: bytes, shown: str) -> None:
    assert Told().feed(line + b"\n").decode() == shown


def test_a_huge_line_is_left_out_and_not_kept() -> None:
    told = Told()
    out = b"".join(told.feed(b"x" * 100_000) for _ in range(50))
    assert len(told._held) <= LONGEST
    out += told.feed(b"x\n" + hook("apply_complete", "x.a") + b"\n")
    assert out == b"(a line of more than %d bytes is left out)\nthe apply_complete\n" % LONGEST
    assert told.applied == ["x.a: create"]
