"""OpenSSH's server on loopback, for git remotes over SSH."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.parts import SSHD
from sandbox.services import plain_env, started

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/host
AuthorizedKeysFile {directory}/client.pub
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
"""


@dataclass(frozen=True)
class SshServer:
    """The server; whoever has the key in `directory` is the user who started it."""

    port: int
    directory: Path

    @classmethod
    @contextlib.contextmanager
    def start(cls, directory: Path) -> Iterator[SshServer]:
        """Serve until the block ends."""
        for name in ("host", "client"):
            key = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
            subprocess.run(key, check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        file = directory / "sshd_config"
        file.write_text(SETTINGS.format(port=port, directory=directory))
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own, for what it does before a login
        argv = (str(SSHD.find("sshd")), "-D", "-e", "-f", str(file))
        with started(
            "sshd", argv, directory / "log", ready=lambda _: _answers(port), seconds=10, env=plain_env()
        ):
            yield cls(port, directory)

    @property
    def command(self) -> str:
        """`GIT_SSH_COMMAND` of somebody who has the key, and knows this server's."""
        known = self.directory / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {(self.directory / 'host.pub').read_text()}")
        options = ("-o BatchMode=yes", "-o IdentitiesOnly=yes", f"-o UserKnownHostsFile={known}")
        return f"ssh -F none -i {self.directory / 'client'} {' '.join(options)}"


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as asked:
        return asked.recv(4) == b"SSH-"
    return False
