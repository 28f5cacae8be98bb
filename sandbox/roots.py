"""Root file systems to build images from where no image can be pulled."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pwd
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BUSYBOX = Path("/bin/busybox")
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnobody:x:65534:\n",
}
# Weight that no test looks at.
LEFT_OUT = ("./var/cache/apt/*", "./var/lib/apt/lists/*", "./usr/share/doc/*", "./usr/share/man/*")


class RootError(RuntimeError):
    """debootstrap failed; the message ends with its last lines."""


def busybox_tar(binary: Path = BUSYBOX) -> bytes:
    """An uncompressed tar of the static busybox with a link for each of its applets."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for directory in ("bin", "etc", "root", "tmp"):
            _add(tar, directory, kind=tarfile.DIRTYPE, mode=0o1777 if directory == "tmp" else 0o755)
        _add(tar, "bin/busybox", binary.read_bytes(), mode=0o755)
        for applet in _applets(binary):
            _add(tar, f"bin/{applet}", kind=tarfile.SYMTYPE, target="busybox")
        for path, text in ACCOUNTS.items():
            _add(tar, path, text.encode())
    return buffer.getvalue()


def debian_tar(suite: str = "bookworm", packages: Sequence[str] = ()) -> Path:
    """A tar of Debian's minimal system with `packages`, made once per user and machine (about 30 s).

    Needs root and Debian's package servers the first time. RootError when debootstrap fails.
    """
    target = cache_directory() / f"debian-{suite}-{_key(suite, packages)}.tar"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="pt-root-") as made:
            _debootstrap(suite, packages, Path(made))
            _pack(Path(made), target)
    return target


def cache_directory() -> Path:
    """Outside every checkout. From the account, not from $HOME, which tests point elsewhere."""
    given = os.environ.get("XDG_CACHE_HOME")
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    return (Path(given) if given else home / ".cache") / "pipeline-tools" / "sandbox"


def _debootstrap(suite: str, packages: Sequence[str], root: Path) -> None:
    include = [f"--include={','.join(packages)}"] if packages else []
    argv = ["debootstrap", "--variant=minbase", *include, suite, str(root)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RootError("\n".join([f"debootstrap: exit {done.returncode}", *done.stdout.splitlines()[-15:]]))


def _pack(root: Path, target: Path) -> None:
    left_out = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    with _replacing(target) as part:
        subprocess.run(
            ["tar", "--create", "--numeric-owner", "--one-file-system", *left_out, f"--file={part}", "."],
            cwd=root,
            check=True,
        )


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A file beside `target` that becomes it when the block succeeds: a cut-off run leaves no half."""
    part = target.with_suffix(f".{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _key(suite: str, packages: Sequence[str]) -> str:
    what = "\0".join([suite, os.uname().machine, *LEFT_OUT, *sorted(packages)])
    return hashlib.sha256(what.encode()).hexdigest()[:12]


def _applets(binary: Path) -> list[str]:
    listed = subprocess.run(
        [str(binary), "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    return [name for name in listed if name != "busybox"]


def _add(
    tar: tarfile.TarFile,
    path: str,
    content: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    target: str = "",
) -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, len(content)
    tar.addfile(entry, io.BytesIO(content))
