"""A Docker engine of our own, for as long as a test run or the demo lasts."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import docker

from sandbox import roots
from sandbox.bridge import bridge
from sandbox.services import plain_env, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sandbox.bridge import Bridge
    from sandbox.services import Service

SYSTEM_SOCKET = Path("/var/run/docker.sock")
START_SECONDS = 60.0
ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers at `url`; `owned` is false when it was running before us."""

    url: str
    owned: bool

    @classmethod
    @contextlib.contextmanager
    def start(cls, directory: Path, *, reuse: bool = True) -> Iterator[Engine]:
        """Lend an engine for the length of the block; StartError with the end of dockerd's log.

        An engine that already answers at DOCKER_HOST or at the usual socket is used as it is. Only a Unix
        socket counts: an engine on another host could not reach a registry on our 127.0.0.1.
        """
        if reuse and (url := running_engine()):
            yield cls(url, owned=False)
            return
        directory.mkdir(parents=True, exist_ok=True)
        # Not inside `directory`: a socket's address has 107 characters, and pytest's paths are longer.
        with tempfile.TemporaryDirectory(prefix="pt-docker-") as run, bridge() as net:
            try:
                with _dockerd(Path(run), directory, net):
                    engine = cls(f"unix://{run}/docker.sock", owned=True)
                    try:
                        yield engine
                    finally:
                        engine.remove_containers()
            finally:
                _unmount_below(Path(run), directory)
                shutil.rmtree(directory / "data", ignore_errors=True)

    def client(self) -> docker.DockerClient:
        """A client to be closed by the caller; `with contextlib.closing(engine.client()) as client:`."""
        return docker.DockerClient(base_url=self.url)

    def import_busybox(self, tag: str = "busybox:1.35") -> str:
        """Make `tag` an image of Debian's static busybox, a shell in 2 MB; returns the image's id."""
        with tempfile.TemporaryDirectory() as made:
            tar = Path(made, "busybox.tar")
            tar.write_bytes(roots.busybox_tar())
            return self._import(tar, tag, "sh")

    def import_debian(
        self, tag: str = "debian:bookworm-slim", suite: str = "bookworm", packages: Sequence[str] = ()
    ) -> str:
        """Make `tag` an image of Debian's minimal system; returns the image's id."""
        return self._import(roots.debian_tar(suite, packages), tag, "bash")

    def remove_containers(self) -> None:
        """End every container at once; stopping dockerd would grant each its ten seconds."""
        with contextlib.closing(self.client()) as client:
            for container in client.containers.list(all=True):
                container.remove(force=True)

    def _import(self, tar: Path, tag: str, shell: str) -> str:
        name, _, version = tag.rpartition(":")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        changes = [f"ENV PATH={path}", f'CMD ["{shell}"]']
        with contextlib.closing(self.client()) as client:
            client.api.import_image_from_file(str(tar), repository=name, tag=version, changes=changes)
            return str(client.images.get(tag).id)


def running_engine() -> str | None:
    """The address of an engine that is already there and answers."""
    urls = [os.environ.get("DOCKER_HOST", ""), f"unix://{SYSTEM_SOCKET}"]
    paths = [url.removeprefix("unix://") for url in urls if url.startswith("unix://")]
    return next((f"unix://{path}" for path in paths if _answers(Path(path))), None)


@contextlib.contextmanager
def _dockerd(run: Path, directory: Path, net: Bridge) -> Iterator[Service]:
    argv = [
        "dockerd",
        f"--host=unix://{run}/docker.sock",
        f"--exec-root={run}/exec",
        f"--pidfile={run}/docker.pid",
        f"--data-root={directory}/data",
        f"--bridge={net.name}",
        f"--mtu={net.mtu}",
        "--iptables=false",
        "--ip6tables=false",
    ]
    env = plain_env()
    log = directory / "dockerd.log"
    with started(
        "dockerd", argv, log, ready=lambda _: _answers(run / "docker.sock"), seconds=START_SECONDS, env=env
    ) as it:
        yield it


def _answers(path: Path) -> bool:
    """Whether an engine says OK to GET /_ping on this socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(64)
        except OSError:
            return False


def _unmount_below(*directories: Path) -> None:
    """Undo the mounts a daemon that was killed leaves; a mounted directory cannot be removed."""
    prefixes = tuple(f"{directory.resolve()}/" for directory in directories)
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()]
    for point in sorted((p for p in mounted if p.startswith(prefixes)), key=len, reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True, env=plain_env())
