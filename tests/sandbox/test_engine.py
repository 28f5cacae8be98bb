from __future__ import annotations

import contextlib
import io
import os
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox import bridge, parts
from sandbox.engine import Engine, running_engine
from sandbox.pytest_parts import require
from sandbox.services import StartError, started

if TYPE_CHECKING:
    import docker


@pytest.fixture
def own_engine(tmp_path: Path, engine: Engine) -> Engine:
    """A second engine while the session's is up, and gone before the test looks."""
    with Engine.start(tmp_path / "second", reuse=False) as second:
        assert second.url != engine.url
        assert second.import_busybox("b:1").startswith("sha256:")
        with contextlib.closing(second.client()) as client:
            client.containers.run("b:1", ["sleep", "600"], detach=True)
    return second


def build(client: docker.DockerClient, dockerfile: str, tag: str = "made:0") -> str:
    """Build without the cache; what the steps printed."""
    stream = client.api.build(
        fileobj=io.BytesIO(dockerfile.encode()), tag=tag, rm=True, nocache=True, decode=True
    )
    lines: list[dict[str, str]] = list(stream)
    assert not [line for line in lines if "error" in line]
    return "".join(line.get("stream", "") for line in lines)


def test_an_image_is_built_and_run(engine: Engine) -> None:
    with contextlib.closing(engine.client()) as client:
        build(client, "FROM busybox:1.35\nRUN echo made > /made\n", tag="made:1")
        assert client.containers.run("made:1", ["cat", "/made"], remove=True) == b"made\n"


def test_busybox_has_its_applets_and_accounts(engine: Engine) -> None:
    with contextlib.closing(engine.client()) as client:
        said = client.containers.run(
            "busybox:1.35", ["sh", "-c", "id -un; which httpd"], user="nobody", remove=True
        )
    assert said == b"nobody\n/bin/httpd\n"


def test_a_build_step_has_a_network(engine: Engine) -> None:
    with contextlib.closing(engine.client()) as client:
        said = build(client, "FROM busybox:1.35\nRUN ip route\n")
    assert "default via " in said


def test_a_second_engine_leaves_nothing_behind(own_engine: Engine) -> None:
    socket = Path(own_engine.url.removeprefix("unix://"))
    assert not socket.parent.exists()
    assert str(socket.parent) not in Path("/proc/self/mountinfo").read_text("utf-8")
    second = f"{bridge.PREFIX}{os.getpid()}-1"
    assert not (bridge.INTERFACES / second).exists()
    rules = bridge._run("iptables", "-w", "-S") + bridge._run("iptables", "-w", "-t", "nat", "-S")
    assert second not in rules


def test_what_a_killed_run_left_is_swept(engine: Engine) -> None:
    left = f"{bridge.PREFIX}9999999-0"
    bridge._up(bridge.Bridge(left, IPv4Network("10.232.0.0/24"), 1500))
    with bridge.bridge():
        assert not (bridge.INTERFACES / left).exists()


def test_an_engine_that_answers_is_used(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    with Engine.start(tmp_path / "unused") as same:
        assert same == Engine(engine.url, owned=False)
    assert not (tmp_path / "unused").exists()


def test_an_engine_on_another_host_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.engine.SYSTEM_SOCKET", Path("/nowhere/docker.sock"))
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert running_engine() is None


def test_a_part_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    argv = ["sh", "-c", "echo no such option; exit 3"]
    log = tmp_path / "log"
    with (
        pytest.raises(StartError, match=r"it ended with exit code 3; the end of .*\n  no such option"),
        started("it", argv, log, ready=lambda _: False, seconds=5),
    ):
        pass


def test_a_part_that_hangs_is_ended_at_the_deadline(tmp_path: Path) -> None:
    with (
        pytest.raises(StartError, match=r"it was not ready within 0\.1 s"),
        started("it", ["sleep", "60"], tmp_path / "log", ready=lambda _: False, seconds=0.1),
    ):
        pass


def test_debian_is_made_once_and_apt_works_in_it(engine: Engine) -> None:
    require(parts.DEBOOTSTRAP)
    engine.import_debian("debian:bookworm-slim")
    with contextlib.closing(engine.client()) as client:
        said = build(client, "FROM debian:bookworm-slim\nRUN . /etc/os-release && echo $ID $VERSION_ID\n")
    assert "debian 12" in said
