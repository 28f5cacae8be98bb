"""Signed bumps: real keys, and git's own `verify-commit`."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import parts
from sandbox.pytest_parts import require
from tests.world import DIGEST, World, error

pytestmark = pytest.mark.servers

IMAGE = f"demo-app=registry.example.com/apps/demo-app:1.0.0@{DIGEST}"
BUMP = ("bump", "--env-project", "platform/env", "--overlay", "overlays/dev", "--no-render", "--image", IMAGE)
MEMORY = Path("/dev/shm")  # noqa: S108 (looked at, not written to)


def run(*argv: str, **environment: str) -> str:
    done = subprocess.run(
        argv,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def ssh_key(tmp_path: Path) -> Path:
    require(parts.SSHD)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bump", "-f", str(tmp_path / "id"))
    return tmp_path / "id"


@pytest.fixture
def gnupg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A key ring with one secret key."""
    require(parts.GPG)
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    new = ("--quick-gen-key", "Bump <bump@example.com>", "ed25519", "sign", "never")
    run("gpg", "--batch", "--quiet", "--passphrase", "", *new, GNUPGHOME=str(home))
    yield home
    run("gpgconf", "--kill", "all", GNUPGHOME=str(home))


def armoured(home: Path) -> str:
    return run("gpg", "--batch", "--armor", "--export-secret-keys", GNUPGHOME=str(home))


def verify(world: World, *configuration: str, **environment: str) -> str:
    """What git says of the tip's signature; it fails where that is not good."""
    bare = str(world.env_project.repository)
    done = subprocess.run(
        ["git", "-C", bare, *configuration, "verify-commit", "-v", "main"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def verify_ssh(world: World, key: Path) -> str:
    allowed = key.with_name("allowed")
    allowed.write_text(f"bump@example.com {key.with_suffix('.pub').read_text()}")
    return verify(world, "-c", f"gpg.ssh.allowedSignersFile={allowed}")


def left_over() -> list[str]:
    return [str(path) for path in MEMORY.glob("pipeline-tools-signing-*")]


@pytest.mark.parametrize("form", ["value", "file", "crlf", "option"])
def test_an_ssh_key_signs(world: World, ssh_key: Path, form: str) -> None:
    text = ssh_key.read_text()
    if form == "option":
        world.run(*BUMP, "--signing-key-file", str(ssh_key))
    else:
        values = {"value": text, "file": str(ssh_key), "crlf": text.rstrip().replace("\n", "\r\n")}
        world.run(*BUMP, PT_SIGNING_KEY=values[form])
    assert 'Good "git" signature for bump@example.com' in verify_ssh(world, ssh_key)
    assert left_over() == []


def test_a_gpg_key_signs(world: World, gnupg: Path) -> None:
    world.run(*BUMP, PT_SIGNING_KEY=armoured(gnupg))
    assert 'Good signature from "Bump <bump@example.com>"' in verify(world, GNUPGHOME=str(gnupg))
    assert left_over() == []


def test_a_commit_that_is_replayed_is_signed_too(world: World, ssh_key: Path) -> None:
    raced: list[str] = []

    def race(*_: object) -> None:
        if not raced:
            raced.append(world.env_commit("README.md", "mine\n"))

    world.gitlab.push_hook(world.env_project, "race", race)
    world.run(*BUMP, PT_SIGNING_KEY=ssh_key.read_text())
    assert world.env("rev-parse", "main^") == raced[0]
    assert verify_ssh(world, ssh_key)


def test_the_key_is_no_argument_and_in_no_childs_environment(
    world: World, ssh_key: Path, tmp_path: Path
) -> None:
    programs, seen = tmp_path / "bin", tmp_path / "seen"
    programs.mkdir()
    for name in ("git", "ssh-keygen"):
        path = programs / name
        path.write_text(f'#!/bin/sh\n( echo "$0 $*"; env ) >> {seen}\nexec {shutil.which(name)} "$@"\n')
        path.chmod(0o755)
    result = world.process(
        *BUMP, "-v", PATH=f"{programs}:{os.environ['PATH']}", PT_SIGNING_KEY=ssh_key.read_text()
    )
    secret = ssh_key.read_text().splitlines()[1]
    assert "ssh-keygen -Y sign" in seen.read_text()
    assert secret not in seen.read_text() + result.stdout + result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not a key at all", "neither a key nor the path of a file"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "neither a GPG nor an SSH private key",
        ),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
            "the commit cannot be signed",
        ),
        (
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n-----END PGP PRIVATE KEY BLOCK-----",
            "gpg does not take the signing key",
        ),
    ],
)
def test_what_is_no_key_changes_nothing(world: World, text: str, expected: str) -> None:
    tip = world.env_tip
    result = world.run(*BUMP, PT_SIGNING_KEY=text, exit_code=1 if text.startswith("-----") else 2)
    assert expected in result.stderr
    assert text not in result.stderr
    assert world.env_tip == tip
    assert left_over() == []


def test_a_key_with_a_passphrase_says_so(world: World, ssh_key: Path) -> None:
    run("ssh-keygen", "-q", "-p", "-N", "a passphrase", "-f", str(ssh_key))
    _, hint = error(world.run(*BUMP, PT_SIGNING_KEY=ssh_key.read_text(), exit_code=1))
    assert "without a passphrase" in hint
