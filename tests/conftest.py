"""What every test gets: an environment without the user's, and the real parts by name."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from typing import TYPE_CHECKING

import hypothesis
import pytest

from sandbox import parts
from sandbox.engine import Engine
from sandbox.gitlab import Gitlab
from sandbox.google_storage import GoogleStorage
from sandbox.kubernetes_tokens import Cluster, Issuer
from sandbox.object_storage import ObjectStorage
from sandbox.openbao import OpenBao
from sandbox.pytest_parts import REQUIRED, require
from sandbox.registry import Htpasswd, Registry
from sandbox.terraform_provider import Cloud
from sandbox.token_server import PULL, TokenAuth
from tests.google_world import GoogleWorld
from tests.infra_world import InfraWorld, Kept
from tests.vault_world import VaultWorld
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What would change the outcome of a test from outside: CI's variables, ours, and those of the tools we drive.
FOREIGN = (
    "ARGOCD_",
    "AWS_",
    "BAO_",
    "CI_",
    "CLOUDSDK_",
    "CLOUD_",
    "GCE_",
    "GITLAB_",
    "GIT_",
    "GOOGLE_",
    "KUBE",
    "PT_",
    "RELEASE_",
    "SCW_",
    "TF_",
    "VAULT_",
)
FIXED = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "TZ": "UTC",
}
HOME = pytest.StashKey[str]()

# The part behind a fixture marks its tests, for `-m`.
MARKS = {
    "world": (pytest.mark.servers,),
    "infra": (pytest.mark.servers,),
    "kept": (pytest.mark.servers,),
    "engine": (pytest.mark.docker, pytest.mark.servers),
    "bao": (pytest.mark.servers,),
    "object_storage": (pytest.mark.servers,),
    "google_storage": (pytest.mark.servers,),
    "cloud": (pytest.mark.servers,),
    "registry": (pytest.mark.registry, pytest.mark.servers),
    "token_registry": (pytest.mark.registry, pytest.mark.servers),
    "google_world": (pytest.mark.registry, pytest.mark.servers),
    "kustomize": (pytest.mark.kustomize,),
    "gitlab_ci_local": (pytest.mark.gitlab_ci_local,),
}

CI_USER, CI_PASSWORD = "ci", "ci-registry-password"
READER, READER_PASSWORD = "reader", "reader-registry-password"


def pytest_configure(config: pytest.Config) -> None:
    """Before anything else, and in each worker: this process forgets where it runs."""
    home = config.stash[HOME] = tempfile.mkdtemp(prefix="pt-home-")
    if os.environ.pop("CI", "") == "true":
        # Workers are started from the environment that is cleaned here.
        os.environ[REQUIRED] = "1"
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        del os.environ[name]
    os.environ.update(FIXED, HOME=home, DOCKER_CONFIG=f"{home}/.docker")
    os.environ.pop("XDG_CONFIG_HOME", None)
    time.tzset()
    # How long an example takes says more about the machine than about the code.
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[HOME], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before `-m` looks at the marks."""
    for item in items:
        for fixture in MARKS.keys() & set(getattr(item, "fixturenames", ())):
            for mark in MARKS[fixture]:
                item.add_marker(mark)


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A home of its own for each test; a test that finds the user's git configuration fails at once."""
    for name, value in FIXED.items():
        assert os.environ.get(name) == value, (
            f"{name} was changed: a test would read this machine's configuration"
        )
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / ".docker"))


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A real Docker engine that has the image busybox:1.35."""
    require(parts.DOCKER, parts.BUSYBOX)
    with Engine.start(tmp_path_factory.mktemp("engine")) as started:
        started.import_busybox("busybox:1.35")
        yield started


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A real registry with basic authentication for CI_USER; repositories under immutable/ keep their tags."""
    require(parts.REGISTRY)
    auth = Htpasswd({CI_USER: CI_PASSWORD})
    with Registry.start(
        tmp_path_factory.mktemp("registry"), auth=auth, immutable_tags="immutable/.*"
    ) as started:
        yield started


@pytest.fixture(scope="session")
def token_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A real registry with token authentication: CI_USER may do everything, READER only pull."""
    require(parts.REGISTRY)
    auth = TokenAuth({CI_USER: CI_PASSWORD, READER: READER_PASSWORD}, {READER: {"*": PULL}})
    with Registry.start(tmp_path_factory.mktemp("token-registry"), auth=auth) as started:
        yield started


@pytest.fixture
def google_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleWorld]:
    """Google's tokens, and a real registry that takes them."""
    require(parts.REGISTRY)
    with GoogleWorld.start(tmp_path / "artifacts") as world:
        # google-auth reads GCE_METADATA_HOST when it is imported: in this process it is too late for that.
        monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", world.google.host)
        yield world


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """A real OpenBao, with what its root token wrote into it."""
    require(parts.OPENBAO)
    with OpenBao.start(tmp_path_factory.mktemp("bao")) as started:
        yield started


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Kubernetes API server that reviews the tokens it signed."""
    with Cluster.start() as started:
        yield started


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStorage]:
    """Object storage with S3's API, for Terraform's states."""
    with ObjectStorage.start(tmp_path_factory.mktemp("object-storage")) as started:
        yield started


@pytest.fixture
def google_storage() -> Iterator[GoogleStorage]:
    """Google Cloud Storage, for Terraform's states; empty."""
    with GoogleStorage.start() as started:
        yield started


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    """An empty cloud, and the Terraform provider that fills it."""
    require(parts.TERRAFORM)
    return Cloud.make(tmp_path / "cloud")


@pytest.fixture(scope="module")
def vault(bao: OpenBao, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> VaultWorld:
    """A bound platform on the OpenBao, with mounts of its own for each test file."""
    world = VaultWorld(
        bao, cluster, Issuer.make("https://gitlab.example.com"), tmp_path_factory.mktemp("job")
    )
    world.bind()
    return world


@pytest.fixture
def repository() -> str:
    """A repository name that no other test has."""
    return f"acme/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def kustomize(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real kustomize, first on PATH."""
    require(parts.KUSTOMIZE)
    return _first_on_path(monkeypatch, "kustomize")


@pytest.fixture
def gitlab_ci_local(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real gitlab-ci-local, first on PATH."""
    require(parts.GITLAB_CI_LOCAL, parts.RSYNC)
    return _first_on_path(monkeypatch, "gitlab-ci-local")


def _first_on_path(monkeypatch: pytest.MonkeyPatch, program: str) -> Path:
    # The environment's own directory last: Node is there when it came as a Python package.
    monkeypatch.setenv("PATH", f"{parts.NODE_BIN}:{os.environ['PATH']}:{parts.ROOT / '.venv' / 'bin'}")
    return parts.NODE_BIN / program


@pytest.fixture
def infra(tmp_path: Path) -> Iterator[InfraWorld]:
    """The GitLab stand-in with an infra repository, and a checkout of it; Terraform is real."""
    require(parts.TERRAFORM)
    with Gitlab.start(tmp_path / "gitlab", step=0.02) as gitlab:
        yield InfraWorld.make(gitlab, tmp_path)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """An infra repository as some preparation left it, which is made once a module."""
    require(parts.TERRAFORM)
    directory = tmp_path_factory.mktemp("kept")
    with Gitlab.start(directory / "gitlab", step=0.02) as gitlab:
        yield Kept(InfraWorld.make(gitlab, directory), directory)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The GitLab stand-in with the example repositories, and a checkout of the app."""
    with Gitlab.start(tmp_path / "gitlab", step=0.02) as gitlab:
        yield World.make(gitlab, tmp_path)
