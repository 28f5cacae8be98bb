"""A stand-in GitLab with one project, and a git that knows nothing of the user's configuration."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gitlab as client
import pytest

from sandbox.gitlab import Gitlab, Project

CONFIG = """\
spec:
  inputs:
    target:
      options: [green, blue]
      default: green
    size:
      default: "1"
---
deploy:
  script: [make deploy]
"""
IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Ann"), ("EMAIL", "ann@example.com"))
}


@dataclass(frozen=True)
class Git:
    """git in one working tree."""

    tree: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.devnull,
            "LC_ALL": "C.UTF-8",
            **IDENTITY,
            **self.environment,
        }
        environment |= {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }
        done = subprocess.run(
            ["git", "-C", str(self.tree), *argv], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    def out(self, *argv: str) -> str:
        return self.run(*argv).stdout.strip()

    def commit(self, name: str, content: str, message: str = "Change") -> str:
        (self.tree / name).write_text(content)
        self.run("add", "--all")
        self.run("commit", "--quiet", "-m", message)
        return self.out("rev-parse", "HEAD")


def with_token(url: str, token: str, user: str = "oauth2") -> str:
    return url.replace("http://", f"http://{user}:{token}@")


def clone(url: str, tree: Path, *options: str) -> Git:
    Git(tree.parent).run("clone", "--quiet", *options, url, str(tree))
    return Git(tree)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tree = tmp_path / "source"
    (tree / "overlays").mkdir(parents=True)
    (tree / ".gitlab-ci.yml").write_text(CONFIG)
    (tree / "overlays" / "kustomization.yaml").write_text("images: []\n")
    return tree


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Gitlab]:
    with Gitlab.start(tmp_path / "gitlab", step=None) as running:
        yield running


@pytest.fixture
def project(server: Gitlab, source: Path) -> Project:
    return server.create_project("platform/env", source=source)


@pytest.fixture
def token(server: Gitlab, project: Project) -> str:
    return server.create_token(project, "bumper", scopes={"api", "write_repository"})


@pytest.fixture
def work(project: Project, token: str, tmp_path: Path) -> Git:
    return clone(with_token(project.http_url, token), tmp_path / "work")


@pytest.fixture
def api(server: Gitlab, token: str) -> Iterator[client.Gitlab]:
    with client.Gitlab(server.url, private_token=token, timeout=10) as session:
        yield session
