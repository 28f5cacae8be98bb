"""The world a release lives in: the GitLab stand-in with the example repositories, and a checkout of the app."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from pipeline_tools.cli import cli
from sandbox.gitlab import Access, Gitlab, Project

EXAMPLES = Path(__file__).parent.parent / "examples"
DIGEST = "sha256:" + "ab" * 32
ANNA = {
    "GIT_AUTHOR_NAME": "Anna",
    "GIT_AUTHOR_EMAIL": "anna@example.com",
    "GIT_COMMITTER_NAME": "Anna",
    "GIT_COMMITTER_EMAIL": "anna@example.com",
}


def git(directory: Path, *words: str, stdin: str | None = None) -> str:
    """Run git as Anna; its output without the last newline."""
    argv = ("git", "-C", str(directory), *words)
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, check=False, env={**os.environ, **ANNA}
    )
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout.rstrip("\n")


@dataclass
class World:
    """`app` is a checkout of the app project; `variables` is what a job would have."""

    gitlab: Gitlab
    app_project: Project
    env_project: Project
    app: Path
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, gitlab: Gitlab, directory: Path) -> "World":
        app = gitlab.create_project("shop/demo-app", source=EXAMPLES / "app")
        env = gitlab.create_project("platform/env", source=EXAMPLES / "env")
        token = gitlab.create_token(
            app, "developer", scopes={"api", "write_repository"}, access_level=Access.MAINTAINER
        )
        world = cls(gitlab, app, env, directory / "app")
        world.clone(app, token, world.app)
        world.variables = {
            "PT_GITLAB_TOKEN": token,
            "PT_ENV_TOKEN": gitlab.create_token(env, "bump", scopes={"write_repository", "read_api"}),
            "PT_TRIGGER_TOKEN": gitlab.trigger_token(env),
        }
        return world

    def clone(self, project: Project, token: str, directory: Path, *words: str) -> Path:
        """Clone a project as a job does it: the address keeps no credential, a header carries it."""
        address = project.http_url.replace("://", f"://oauth2:{token}@")
        git(directory.parent, "clone", "--quiet", *words, address, str(directory))
        git(directory, "remote", "set-url", "origin", project.http_url)
        git(
            directory,
            "config",
            "credential.helper",
            f"!f() {{ echo username=oauth2; echo password={token}; }}; f",
        )
        return directory

    # The app repository --------------------------------------------------------------------------------------

    def commit(self, message: str, *, push: bool = True) -> str:
        """A commit on the app's branch that changes one file."""
        page = self.app / "www" / "index.html"
        page.write_text(page.read_text() + f"<p>{message}</p>\n")
        git(self.app, "commit", "--quiet", "--all", "-m", message)
        if push:
            git(self.app, "push", "--quiet", "origin", "HEAD")
        return git(self.app, "rev-parse", "HEAD")

    def tag(self, name: str, *, push: bool = True) -> None:
        git(self.app, "tag", name)
        if push:
            git(self.app, "push", "--quiet", "origin", name)

    # The env repository --------------------------------------------------------------------------------------

    def env(self, *words: str) -> str:
        """A git command in the env project's own repository."""
        return git(self.env_project.repository, *words)

    @property
    def env_tip(self) -> str:
        return self.env("rev-parse", "main")

    def env_file(self, path: str = "overlays/dev/kustomization.yaml") -> str:
        return self.env("show", f"main:{path}")

    def env_commit(self, path: str, text: str, message: str = "by hand") -> str:
        """Somebody else's commit in the env repository, straight into it."""
        bare = self.env_project.repository
        index = bare / "test-index"
        blob = git(bare, "hash-object", "-w", "--stdin", stdin=text)
        command = ("-c", "core.bare=true")
        environment = {**os.environ, **ANNA, "GIT_INDEX_FILE": str(index)}
        for words in (
            ("read-tree", "main"),
            ("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}"),
        ):
            subprocess.run(("git", "-C", str(bare), *command, *words), env=environment, check=True)
        tree = subprocess.run(
            ("git", "-C", str(bare), "write-tree"),
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        index.unlink()
        commit = git(bare, "commit-tree", tree, "-p", "main", "-m", message)
        git(bare, "update-ref", "refs/heads/main", commit)
        return commit

    def snapshot(self) -> dict[str, str]:
        """Every ref of both projects and every file of the checkout: what a dry run must leave alone."""
        refs = {
            f"{project.path} {line}": ""
            for project in (self.app_project, self.env_project)
            for line in git(project.repository, "for-each-ref").splitlines()
        }
        files = {
            str(path): path.read_bytes().hex()
            for path in sorted(self.app.rglob("*"))
            if path.is_file() and path.name != "index"
        }
        pipelines = {str(p.id): p.status for p in self.gitlab.pipelines(self.env_project)}
        return {**refs, **files, **pipelines}

    # The command line ----------------------------------------------------------------------------------------

    def run(self, *words: str, exit_code: int = 0, **variables: str | None) -> Result:
        """A command in the checkout, with the job's variables; `None` takes one away."""
        before = Path.cwd()
        os.chdir(self.app)
        try:
            result = CliRunner().invoke(
                cli, [str(word) for word in words], env={**self.variables, **variables}
            )
        finally:
            os.chdir(before)
        assert result.exit_code == exit_code, (
            f"{words}: {result.exit_code}\n{result.output}\n{result.exception!r}"
        )
        return result

    def process(self, *words: str, exit_code: int = 0, **variables: str | None) -> "Ended":
        """The same in a process of its own: for what it says byte by byte, and what its environment hands on."""
        environment = {**os.environ, **self.variables, **variables}
        done = subprocess.run(
            (sys.executable, "-m", "pipeline_tools", *words),
            cwd=self.app,
            env={name: value for name, value in environment.items() if value is not None},
            capture_output=True,
            check=False,
        )
        assert done.returncode == exit_code, f"{words}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
        return Ended(done.stdout.decode(), done.stderr.decode())

    def json(self, *words: str, exit_code: int = 0, **variables: str | None) -> Any:
        """The envelope of a command."""
        return json.loads(self.run(*words, "--output", "json", exit_code=exit_code, **variables).stdout)

    def fresh_app(self, directory: Path, *words: str) -> Path:
        """Another checkout of the app, shallow if asked; it takes the place of the first."""
        shutil.rmtree(directory, ignore_errors=True)
        return self.clone(self.app_project, self.variables["PT_GITLAB_TOKEN"], directory, *words)


@dataclass(frozen=True)
class Ended:
    """What a process said."""

    stdout: str
    stderr: str


def error(result: Result | Ended) -> tuple[str, str]:
    """The one line that says what is wrong, and the hint."""
    lines = [line for line in result.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
    assert len(lines) == 2, result.stderr
    return lines[0].removeprefix("error: "), lines[1].removeprefix("hint: ")
