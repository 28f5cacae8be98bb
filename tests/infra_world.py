"""An infra repository on the GitLab stand-in, its merge requests and jobs; Terraform is real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gitlab as python_gitlab
import pyrage

from sandbox.gitlab import Access, Gitlab
from tests.world import EXAMPLES, Ended, git

if TYPE_CHECKING:
    from sandbox.gitlab import Project

COMMAND = (sys.executable, "-m", "pipeline_tools", "terraform")
KEY = "passport-key-of-the-tests"
PASSWORD = "first-password-of-the-tests"


@dataclass
class InfraWorld:
    """`checkout` is a clone of the project; `root` the one it has first. `tip` is the default branch's commit."""

    gitlab: Gitlab
    project: Project
    checkout: Path
    token: str
    identity: str
    root: str = "hello"
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, gitlab: Gitlab, directory: Path) -> InfraWorld:
        source = directory / "source"
        for name in ("hello", "modules"):
            shutil.copytree(
                EXAMPLES / "infra" / name, source / name, ignore=shutil.ignore_patterns(".terraform*")
            )
        for name in (".gitignore", ".gitlab-ci.yml"):
            shutil.copy(EXAMPLES / "infra" / name, source / name)
        project = gitlab.create_project("platform/infra", source=source)
        gitlab.protect_branch(project, "main")
        token = gitlab.create_token(
            project, "infra", access_level=Access.MAINTAINER, scopes={"api", "write_repository"}
        )
        identity = str(pyrage.x25519.Identity.generate())
        world = cls(gitlab, project, directory / "infra", token, identity)
        address = project.http_url.replace("://", f"://oauth2:{token}@")
        git(directory, "clone", "--quiet", address, str(world.checkout))
        return world

    @property
    def head(self) -> str:
        return git(self.checkout, "rev-parse", "HEAD")

    # The repository ------------------------------------------------------------------------------------------

    @property
    def tip(self) -> str:
        return git(self.project.repository, "rev-parse", "main")

    def write(self, path: str, text: str) -> None:
        file = self.checkout / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.checkout / path).read_text()
        assert old in text
        self.write(path, text.replace(old, new))

    def commit(self, message: str) -> str:
        """Everything that is changed, on the branch that is checked out, pushed."""
        git(self.checkout, "add", "--all")
        git(self.checkout, "commit", "--quiet", "-m", message)
        git(self.checkout, "push", "--quiet", "origin", "HEAD")
        return git(self.checkout, "rev-parse", "HEAD")

    def propose(self, branch: str, message: str = "a change") -> int:
        """Push what is changed on a branch of its own; the merge request's iid."""
        git(self.checkout, "checkout", "--quiet", "-B", branch)
        self.commit(message)
        made = self.api.mergerequests.create(
            {"source_branch": branch, "target_branch": "main", "title": message}
        )
        return int(made.iid)

    def merge(self, iid: int, *, squash: bool = False) -> str:
        """Merge it, and check main out."""
        self.api.mergerequests.get(iid).merge(squash=squash)
        return self.main()

    def main(self) -> str:
        git(self.checkout, "fetch", "--quiet", "origin")
        git(self.checkout, "checkout", "--quiet", "-B", "main", "origin/main")
        return self.tip

    @property
    def api(self) -> Any:
        """The project as its maintainer's token has it."""
        client = python_gitlab.Gitlab(self.gitlab.url, private_token=self.token)
        return client.projects.get(self.project.path)

    def notes(self, iid: int) -> list[str]:
        return [note.body for note in self.api.mergerequests.get(iid).notes.list(get_all=True)]

    # Jobs ----------------------------------------------------------------------------------------------------

    def job(
        self, name: str = "plan", *, merge_request: int | None = None, role: Access = Access.MAINTAINER
    ) -> dict[str, str]:
        """The variables of a running job of its own user, in the pipeline of the commit that is checked out."""
        user = self.gitlab.create_user(f"user-of-{name}-{len(self.project.jobs)}")
        self.gitlab.add_member(self.project, user, role)
        job = self.gitlab.create_job(self.project, name, user)
        page = f"{self.project.web_url}/-"
        return {
            "GITLAB_CI": "true",
            "CI_JOB_TOKEN": self.gitlab.job_token(self.project, job=job),
            "CI_JOB_ID": str(job.id),
            "CI_JOB_URL": f"{page}/jobs/{job.id}",
            "CI_PIPELINE_URL": f"{page}/pipelines/{int(self.head[:6], 16)}",
            "CI_SERVER_URL": self.gitlab.url,
            "CI_PROJECT_PATH": self.project.path,
            "CI_PROJECT_DIR": str(self.checkout),
            "CI_COMMIT_REF_NAME": "main" if merge_request is None else "a-branch",
            "PT_GITLAB_TOKEN": self.token,
            "PT_PASSPORT_KEY": KEY,
            "PT_PLAN_RECIPIENT": str(pyrage.x25519.Identity.from_str(self.identity).to_public()),
            "TF_VAR_password": PASSWORD,
            **({"CI_MERGE_REQUEST_IID": str(merge_request)} if merge_request else {}),
            **({"PT_PLAN_IDENTITY": self.identity} if name in {"apply", "destroy"} else {}),
        }

    def run(
        self, *words: str, exit_code: int = 0, job: dict[str, str] | None = None, **variables: str | None
    ) -> Ended:
        """A command as a job runs it."""
        done = subprocess.run(
            (*COMMAND, *words),
            cwd=self.checkout,
            env=self.environment(job if job is not None else self.job(words[0]), variables),
            capture_output=True,
            check=False,
        )
        ended = Ended(done.stdout.decode(), done.stderr.decode())
        assert done.returncode == exit_code, f"{words}: {done.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ended

    def environment(
        self, job: dict[str, str], variables: dict[str, str | None] | None = None
    ) -> dict[str, str]:
        every = {**os.environ, **job, "PT_ROOT": self.root, **self.variables, **(variables or {})}
        return {name: value for name, value in every.items() if value is not None}

    def start(self, *words: str, job: dict[str, str], **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            (*COMMAND, *words),
            cwd=self.checkout,
            env=self.environment(job, dict(variables)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def json(
        self, *words: str, exit_code: int = 0, job: dict[str, str] | None = None, **variables: str | None
    ) -> Any:
        return json.loads(
            self.run(*words, "--output", "json", exit_code=exit_code, job=job, **variables).stdout
        )

    # What there is -------------------------------------------------------------------------------------------

    def passport(self, root: str | None = None) -> dict[str, Any]:
        slug = (root or self.root).replace("/", "-")
        found: dict[str, Any] = json.loads((self.checkout / "plans" / slug / "passport.json").read_text())
        return found

    def state(self, name: str = "hello") -> dict[str, Any] | None:
        """The state as GitLab has it."""
        found = self.project.terraform_states.get(name)
        return json.loads(found.latest.content) if found and found.latest else None


Prepare = Callable[[InfraWorld], None]


class Kept:
    """One world for a module's tests, brought back for each to what a preparation left: to make it anew takes seconds."""

    def __init__(self, world: InfraWorld, directory: Path) -> None:
        self._directory = directory
        self._kept: dict[Prepare, Callable[[], InfraWorld]] = {}
        self._fresh = self._keep(world)

    def after(self, prepare: Prepare) -> InfraWorld:
        """The world as `prepare` left it, which is run for the first test that asks."""
        if prepare not in self._kept:
            world = self._fresh()
            prepare(world)
            self._kept[prepare] = self._keep(world)
        return self._kept[prepare]()

    def _keep(self, world: InfraWorld) -> Callable[[], InfraWorld]:
        folder = Path(tempfile.mkdtemp(dir=self._directory))
        restore = world.gitlab.snapshot(folder / "gitlab")
        shutil.copytree(world.checkout, folder / "checkout", symlinks=True)

        def again() -> InfraWorld:
            restore()
            shutil.rmtree(world.checkout)
            shutil.copytree(folder / "checkout", world.checkout, symlinks=True)
            project = world.gitlab.project(world.project.path)
            return replace(world, project=project, variables=dict(world.variables))

        return again
