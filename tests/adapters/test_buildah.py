from __future__ import annotations

import base64
import json
import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pipeline_tools
from pipeline_tools.adapters.buildah import Buildah
from pipeline_tools.adapters.credential_agent import Agent
from pipeline_tools.adapters.registry import Registries
from pipeline_tools.errors import Denied, PipelineError, Unavailable
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.recipes import BuildSecret, Recipe
from pipeline_tools.text.references import Repository
from sandbox import parts
from sandbox.pytest_parts import require
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER, READER, READER_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pipeline_tools.adapters.layout import Layout
    from sandbox.registry import Registry

pytestmark = pytest.mark.servers

EPOCH = 1_700_000_000
SLEPT = 4
"""Seconds that a build takes, and a login is good for."""
BASE = 'FROM scratch\nCOPY busybox /bin/busybox\nSHELL ["/bin/busybox", "sh", "-c"]\n'
LOGIN = Credential(CI_USER, Secret(CI_PASSWORD))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go; what is left behind is seen there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A context with a static busybox, which needs no base image."""
    require(parts.BUILDAH, parts.BUSYBOX)
    folder = tmp_path / "context"
    folder.mkdir()
    shutil.copy(str(parts.BUSYBOX.find("busybox")), folder / "busybox")
    (folder / "page").write_text("hello\n")
    return folder


@pytest.fixture
def buildah(registry: Registry, tmp_path: Path, temporary: Path) -> Buildah:
    """Buildah that may speak http with the test's registry, as it would be configured for that."""
    return builder_for(registry, tmp_path, {registry.host: LOGIN}.get)


def builder_for(registry: Registry, directory: Path, source: Callable[[str], Credential | None]) -> Buildah:
    configuration = directory / "registries.conf"
    configuration.write_text(f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
    environment = {**os.environ, "CONTAINERS_REGISTRIES_CONF": str(configuration)}
    return Buildah(environment, partial(lent, source, [registry.host]))


@contextmanager
def lent(
    source: Callable[[str], Credential | None], hosts: list[str], environment: Mapping[str, str]
) -> Iterator[Mapping[str, str]]:
    """As `build` lends the logins of a run."""
    with Agent(source, hosts) as agent:
        yield agent.variables(environment)


def _dockerfile(context: Path, text: str) -> Path:
    (context / "Dockerfile").write_text(text)
    return context


def build(buildah: Buildah, context: Path, dockerfile: str, recipe: Recipe | None = None) -> Built:
    _dockerfile(context, dockerfile)
    used = recipe or Recipe(epoch=EPOCH)
    with buildah.building(used, context, context / "Dockerfile", "made:0") as layout:
        return Built(layout)


class Built:
    """What is known of an image after its layout is gone."""

    def __init__(self, layout: Layout) -> None:
        self.top = layout.top
        self.described = layout.described()
        self.files = dict(_files(layout))

    @property
    def digest(self) -> str:
        return self.top.digest


def _files(layout: Layout) -> list[tuple[str, bytes]]:
    found = []
    for blob in layout.top.layers():
        with tarfile.open(layout.path / "blobs" / blob.digest.replace(":", "/")) as tar:
            for entry in tar:
                content = tar.extractfile(entry) if entry.isfile() else None
                found.append((entry.name, content.read() if content else b""))
    return found


@pytest.mark.parametrize("driver", ["vfs", "overlay"])
def test_the_same_files_at_another_time_are_the_same_digest(
    buildah: Buildah, context: Path, temporary: Path, driver: str
) -> None:
    builder = Buildah(buildah.environment, buildah.lent, driver)
    dockerfile = f"{BASE}COPY page /www/\nRUN /bin/busybox echo made > /made\nUSER 65534\n"
    first = build(builder, context, dockerfile)
    os.utime(context / "page", (1, 1))
    again = build(builder, context, dockerfile)
    assert again.digest == first.digest
    (context / "page").write_text("other\n")
    assert build(builder, context, dockerfile).digest != first.digest
    assert list(temporary.iterdir()) == []


def test_an_image_says_what_it_was_asked_to(buildah: Buildah, context: Path) -> None:
    recipe = Recipe({"made.by": "us, and = you"}, {"WHO": "me; false"}, "first", epoch=EPOCH)
    made = build(
        buildah,
        context,
        f"{BASE[:12]} AS first{BASE[12:]}ARG WHO\nARG SOURCE_DATE_EPOCH\nRUN echo $WHO $SOURCE_DATE_EPOCH > /who\nUSER 7\nFROM scratch\n",
        recipe,
    )
    (described,) = made.described
    assert (described.user, described.labels) == ("7", {"made.by": "us, and = you"})
    assert made.files["who"] == f"me; false {EPOCH}\n".encode()
    assert described.size > (context / "busybox").stat().st_size
    assert described.layers[-1].made_by


def test_what_dockerignore_names_stays_away(buildah: Buildah, context: Path) -> None:
    (context / "secret.env").write_text("x")
    (context / ".dockerignore").write_text("*.env\nDockerfile\nbusybox\n")
    assert build(buildah, context, "FROM scratch\nCOPY . /all/\n").files.keys() == {
        "all", "all/.dockerignore", "all/page",
    }  # fmt: skip


@pytest.mark.parametrize(
    "ignore",
    [
        b"\xef\xbb\xbfsecret.env\nbusybox\n",
        b" secret.env \n\tbusybox",
        b"# caf\xe9\r\n/x/../secret.env/\r\nbusybox\r\n",
        b"*\n! page\n!/Dockerfile\n!.dockerignore\n",
    ],
)
def test_what_dockerignore_names_stays_away_however_it_is_written(
    buildah: Buildah, context: Path, ignore: bytes
) -> None:
    (context / "secret.env").write_text("x")
    (context / ".dockerignore").write_bytes(ignore)
    assert build(buildah, context, "FROM scratch\nCOPY . /all/\n").files.keys() == {
        "all", "all/.dockerignore", "all/Dockerfile", "all/page",
    }  # fmt: skip


def test_a_containerignore_does_not_take_the_dockerignores_place(buildah: Buildah, context: Path) -> None:
    (context / "secret.env").write_text("x")
    (context / "loop").symlink_to("loop")
    (context / ".dockerignore").write_text("secret.env\nbusybox\n")
    (context / ".containerignore").write_text("page\n")
    assert build(buildah, context, "FROM scratch\nCOPY . /all/\n").files.keys() == {
        "all", "all/.containerignore", "all/.dockerignore", "all/Dockerfile", "all/loop", "all/page",
    }  # fmt: skip


@pytest.mark.parametrize("name", [".containerignore", "Dockerfile.dockerignore"])
def test_other_names_of_a_dockerignore(buildah: Buildah, context: Path, name: str) -> None:
    (context / "secret.env").write_text("x")
    (context / name).write_text("\ufeffsecret.env\nbusybox\n*ignore\n")
    assert build(buildah, context, "FROM scratch\nCOPY . /all/\n").files.keys() == {
        "all", "all/Dockerfile", "all/page",
    }  # fmt: skip


def test_a_link_out_of_the_context_is_not_followed(buildah: Buildah, context: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("what nobody may have")
    (context / "link").symlink_to(tmp_path / "outside")
    made = build(buildah, context, "FROM scratch\nCOPY . /all/\n")
    assert b"what nobody may have" not in b"".join(made.files.values())
    with pytest.raises(PipelineError):
        build(buildah, context, "FROM scratch\nCOPY link /taken\n")


def test_a_build_that_fails_shows_its_last_lines_and_leaves_nothing(
    buildah: Buildah, context: Path, temporary: Path
) -> None:
    with pytest.raises(PipelineError, match="the reason: denied 403") as caught:
        build(buildah, context, f"{BASE}RUN echo the reason: denied 403; exit 7\n")
    assert type(caught.value) is PipelineError
    assert "exit status 7" in caught.value.message
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["FROM scratch\nENV a=b timeout\n", "FROM scratch\nENV denied\n", "FROM scratch\nTIMEOUT 3\n", "EOF\n"],
)
def test_a_dockerfile_that_is_wrong(buildah: Buildah, context: Path, text: str) -> None:
    # The file's path stands in the message, and may have any words too.
    denied = context / "denied"
    denied.mkdir()
    with pytest.raises(PipelineError) as caught:
        build(buildah, denied, text)
    assert type(caught.value) is PipelineError


def test_a_here_document_is_for_buildkit(buildah: Buildah, context: Path) -> None:
    with pytest.raises(PipelineError, match='Unknown instruction: "TIMEOUT"') as caught:
        build(buildah, context, f"{BASE}RUN <<EOF\ntimeout 3 true\nEOF\n")
    assert type(caught.value) is PipelineError
    assert "--builder buildkit" in caught.value.hint


def test_a_base_image_that_cannot_be_pulled(buildah: Buildah, context: Path, registry: Registry) -> None:
    with pytest.raises(Unavailable):
        build(buildah, context, "FROM 127.0.0.1:9/no/body:1\n")
    stranger = Buildah(buildah.environment, partial(lent, lambda _: None, [registry.host]))
    with pytest.raises(Denied):
        build(stranger, context, f"FROM {registry.host}/acme/base:1\n")


def test_a_base_image_behind_a_login(
    buildah: Buildah,
    context: Path,
    registry: Registry,
    repository: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images.put_image(registry, repository, "1")
    with caplog.at_level(logging.DEBUG, "pipeline_tools"):
        made = build(buildah, context, f"FROM {registry.host}/{repository}:1\nCOPY page /\n")
    assert made.files == {"file": b"two", "page": b"hello\n"}
    assert "$ setpriv " in caplog.text
    assert CI_PASSWORD not in caplog.text


def test_no_login_is_written(
    buildah: Buildah, context: Path, registry: Registry, repository: str, temporary: Path
) -> None:
    """Every file of the build that is there when a login is given, but for layers and programs."""
    seen: list[bytes] = []

    def source(_: str) -> Credential:
        files = (path for path in temporary.rglob("*") if path.is_file() and path.name != "busybox")
        seen.extend(path.read_bytes() for path in files)
        return LOGIN

    builder = Buildah(buildah.environment, partial(lent, source, [registry.host]))
    recipe = Recipe(epoch=EPOCH, cache=f"{registry.host}/{repository}/cache")
    build(builder, context, f"{BASE}RUN echo made > /made\n", recipe)
    assert images.contents(registry, f"{repository}/cache")
    pair = base64.b64encode(f"{LOGIN.user}:{CI_PASSWORD}".encode())
    assert seen
    assert not [text for text in seen if CI_PASSWORD.encode() in text or pair in text]
    assert list(temporary.iterdir()) == []


def test_a_login_that_changes_in_mid_build_is_used(
    context: Path, token_registry: Registry, repository: str, tmp_path: Path, temporary: Path
) -> None:
    """First one that may only pull, as a token is good for nothing once it ended; the cache takes one that may push."""
    began = time.monotonic()
    asked: list[str] = []

    def source(_: str) -> Credential:
        early = time.monotonic() - began < SLEPT
        asked.append(READER if early else CI_USER)
        return Credential(READER, Secret(READER_PASSWORD)) if early else LOGIN

    place = Repository(token_registry.host, repository)
    builder = builder_for(token_registry, tmp_path, source)
    with builder.building(
        Recipe(epoch=EPOCH), _dockerfile(context, BASE), context / "Dockerfile", "base:1"
    ) as base:
        base.push(place, "base", Registries(lambda _: LOGIN).at(place))
    began = time.monotonic()
    run = f'FROM {place}:base\nRUN ["/bin/busybox", "sleep", "{SLEPT}"]\n'
    build(builder, context, run, Recipe(epoch=EPOCH, cache=f"{place}/cache"))
    assert {READER, CI_USER} == set(asked)
    assert images.contents(token_registry, f"{repository}/cache")


def test_a_secret_is_mounted_and_in_no_layer(
    buildah: Buildah, context: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "token").write_text("of-a-file")
    builder = Buildah({**buildah.environment, "LENT": "of-a-variable"}, buildah.lent)
    secrets = (BuildSecret("one", path=str(tmp_path / "token")), BuildSecret("two", variable="LENT"))
    mounts = "--mount=type=secret,id=one --mount=type=secret,id=two"
    run = f"RUN {mounts} /bin/busybox wc -c /run/secrets/one /run/secrets/two > /sizes\n"
    with caplog.at_level(logging.DEBUG, "pipeline_tools"):
        made = build(builder, context, BASE + run, Recipe(epoch=EPOCH, secrets=secrets))
    assert b"9 /run/secrets/one" in made.files["sizes"]
    assert b"13 /run/secrets/two" in made.files["sizes"]
    everything = b"".join(made.files.values()) + made.top.raw + caplog.text.encode()
    assert b"of-a-" not in everything


def test_two_platforms_are_an_index(buildah: Buildah, context: Path) -> None:
    recipe = Recipe(platforms=("linux/amd64", "linux/arm64"), epoch=EPOCH)
    made = build(buildah, context, "FROM scratch\nCOPY page /\n", recipe)
    assert set(made.top.platforms()) == {"linux/amd64", "linux/arm64"}
    assert {image.platform for image in made.described} == {"linux/amd64", "linux/arm64"}


def test_layers_are_kept_in_a_repository(
    buildah: Buildah, context: Path, registry: Registry, repository: str, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Recipe(cache=f"{registry.host}/{repository}", epoch=EPOCH)
    dockerfile = f"{BASE}RUN echo once > /once\n"
    first = build(buildah, context, dockerfile, recipe)
    assert images.contents(registry, repository)
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "pipeline_tools"):
        again = build(buildah, context, dockerfile, recipe)
    assert "Cache pulled from remote" in caplog.text
    assert again.files["once"] == first.files["once"]


SCRIPT = """
import logging, os, sys
from pathlib import Path
from pipeline_tools.adapters.buildah import Buildah
from pipeline_tools.adapters.credential_agent import Agent
from pipeline_tools.text.recipes import Recipe
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
context = Path(sys.argv[1])
with Buildah(os.environ).building(Recipe(), context, context / "Dockerfile", "made:0"):
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_killed_in_mid_build(context: Path, temporary: Path, number: signal.Signals) -> None:
    """Interrupted, it leaves nothing; killed, its folder stays for whoever cleans the pod, but nothing more runs."""
    mark = f"7{os.getpid()}{int(number)}"
    (context / "Dockerfile").write_text(f"{BASE}RUN /bin/busybox sleep {mark}\n")
    environment = {**os.environ, "TMPDIR": str(temporary)}
    argv = [sys.executable, "-c", SCRIPT, str(context)]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as child:
        _wait_for(lambda: _running(mark))
        child.send_signal(number)
    _wait_for(lambda: not _running(mark))
    if number == signal.SIGINT:
        assert list(temporary.iterdir()) == []


def _wait_for(it: object) -> None:
    assert callable(it)
    deadline = time.monotonic() + 20
    while not it():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _running(mark: str) -> list[str]:
    """The programs that run with `mark` for an argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        found += [str(path)] if mark.encode() in words else []
    return found


def test_it_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="buildah is not installed"):
        Buildah({"PATH": str(tmp_path)}).ready()


def test_a_pod_that_forbids_namespaces(tmp_path: Path) -> None:
    """As `unshare` of a pod with the default profile says it."""
    for name, text in {
        "buildah": "exit 0",
        "setpriv": "echo unshare failed: Operation not permitted >&2; exit 1",
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    with pytest.raises(PipelineError, match=r"Operation not permitted.*seccomp: .*AppArmor: ") as caught:
        Buildah({"PATH": str(tmp_path)}).ready()
    assert "Unconfined" in caught.value.hint


def test_what_it_cannot_do() -> None:
    both = ("linux/amd64", "linux/arm64")
    assert Buildah({}).lacks(Recipe(platforms=both)) == ()
    assert Buildah({}).lacks(Recipe(platforms=both, cache="r.example.com/a")) == (
        "--cache with several platforms",
    )
    assert Buildah({}).lacks(Recipe(attest=True)) == ("--attest",)


def test_the_layout_names_one_image(tmp_path: Path) -> None:
    from pipeline_tools.adapters.layout import Layout  # noqa: PLC0415

    (tmp_path / "index.json").write_text(json.dumps({"manifests": []}))
    with pytest.raises(PipelineError, match="left 0 images"):
        _ = Layout(tmp_path).top


# Without root --------------------------------------------------------------------------------------------------

ROOTLESS = """
import logging, sys
from pathlib import Path
from pipeline_tools.adapters.buildah import Buildah
from pipeline_tools.text.recipes import Recipe
logging.basicConfig(level=logging.INFO)
here = Path(sys.argv[1])
environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(here), "XDG_RUNTIME_DIR": str(here)}
builder = Buildah(environment)
builder.ready()
with builder.building(Recipe(epoch=1), here / "context", here / "context/Dockerfile", "made:0") as made:
    print("made", made.top.digest)
"""
NOBODY_S = 20_002
"""A user id that no one has, and no range of others."""


@pytest.fixture
def home(context: Path) -> Iterator[Path]:
    """A folder of anybody's, with this package and a context that runs something as another user."""
    python = Path("/usr/bin/python3")
    if os.geteuid() or not python.exists() or sys.version_info[:2] not in _versions(python):
        pytest.skip("it takes root to be somebody else, and a python that others may run")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own are closed to others
    shutil.copytree(Path(pipeline_tools.__file__).parent, folder / "pipeline_tools")
    shutil.copytree(context, folder / "context")
    (folder / "context/Dockerfile").write_text(
        f"{BASE}RUN /bin/busybox id\nUSER 65534\nRUN /bin/busybox id\n"
    )
    yield folder
    shutil.rmtree(folder)


def _versions(python: Path) -> list[tuple[int, int]]:
    done = subprocess.run(
        (python, "-c", "import sys; print(*sys.version_info[:2])"), capture_output=True, check=True
    )
    return [tuple(map(int, done.stdout.split()))]  # type: ignore[list-item]


def as_user(number: int, home: Path) -> subprocess.CompletedProcess[str]:
    for path in (home, *home.rglob("*")):
        os.chown(path, number, number)
    user = ("setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups")
    argv = (*user, "/usr/bin/python3", "-c", ROOTLESS, str(home))
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(home)}
    return subprocess.run(argv, cwd=home, env=environment, capture_output=True, text=True, check=False)


def test_without_root_it_builds_as_the_ids_that_are_set_apart(home: Path) -> None:
    before = set(home.iterdir())
    name = f"pt-{os.getpid()}"
    subprocess.run(("useradd", "--no-create-home", name), check=True)
    try:
        done = as_user(pwd.getpwnam(name).pw_uid, home)
    finally:
        subprocess.run(("userdel", name), check=True)
    assert done.returncode == 0, done.stderr
    assert "made sha256:" in done.stdout
    assert {path for path in home.iterdir() if path.name.startswith("pt-build-")} == set(), (
        "all is cleaned up"
    )
    assert before <= set(home.iterdir())


def test_without_root_and_without_other_ids_it_says_what_is_missing(home: Path) -> None:
    done = as_user(NOBODY_S, home)
    assert done.returncode == 1
    assert "without root this user has no other ids" in done.stderr
    assert not list(home.glob("pt-build-*"))
