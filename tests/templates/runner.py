"""gitlab-ci-local as the runner: pipelines of an example repository, their jobs for real."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sandbox.gitlab import Gitlab
from tests.templates.template import FOLDER
from tests.world import git

TAG_PIPELINE = ("--unset-variable", "CI_COMMIT_BRANCH")
STATE = ".gitlab-ci-local"


def publish(
    gitlab: Gitlab, directory: Path, old: str = "", new: str = "", *, name: str = "release.yml"
) -> None:
    """Give the stand-in our own project, with this checkout's template under the tag that the examples include.

    `old` and `new` change the template's text. The project is public: gitlab-ci-local clones without a login.
    """
    text = (FOLDER / name).read_text()
    assert old in text
    source = directory / "pipeline-tools"
    (source / "ci_templates").mkdir(parents=True)
    (source / "ci_templates" / name).write_text(text.replace(old, new) if old else text)
    project = gitlab.create_project("platform/pipeline-tools", source=source, visibility="public")
    git(project.repository, "tag", "v0.1.0", project.default_branch)


def with_inputs(app: Path, **inputs: Any) -> None:
    """Change inputs of the one include in a checkout; `project`, `ref` and `file` stay as the example has them."""
    path = app / ".gitlab-ci.yml"
    document = YAML(typ="safe").load(path.read_text())
    (include,) = document["include"]
    include["inputs"] |= inputs
    with path.open("w") as file:
        YAML().dump(document, file)
    git(app, "add", "--all")


@dataclass(frozen=True)
class Runner:
    """Runs in a checkout; `variables` are those of the project, from the file that gitlab-ci-local has for them."""

    checkout: Path
    home: Path

    def set(self, variables: dict[str, str]) -> None:
        """Set the project's variables: with the checkout they would be in its copies."""
        path = self.home / STATE / "variables.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            YAML().dump({"global": variables}, file)

    def secrets(self) -> list[str]:
        """What no log may show."""
        document = YAML(typ="safe").load((self.home / STATE / "variables.yml").read_text())
        return [value for name, value in document["global"].items() if not name.endswith("_USER")]

    def run(self, *words: str, **predefined: str) -> subprocess.CompletedProcess[str]:
        """Run `gitlab-ci-local` with GitLab's predefined variables, some of them other than it guesses them."""
        given = [word for name, value in predefined.items() for word in ("--variable", f"{name}={value}")]
        # Without colours and without this process's own environment: a job gets what the runner gives it.
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "NO_COLOR": "1",
            "NO_PROXY": "127.0.0.1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }
        argv = ["gitlab-ci-local", "--home", str(self.home), *given, *words]
        if predefined:
            argv += ["--ignore-predefined-vars", ",".join(predefined)]
        return subprocess.run(
            argv, cwd=self.checkout, env=environment, capture_output=True, text=True, check=False, timeout=240
        )

    def on_tag(self, tag: str, *words: str, **predefined: str) -> subprocess.CompletedProcess[str]:
        """Run a pipeline of a tag."""
        return self.run(
            *TAG_PIPELINE, *words, **{"CI_COMMIT_TAG": tag, "CI_COMMIT_REF_NAME": tag, **predefined}
        )

    def jobs(self, done: subprocess.CompletedProcess[str]) -> list[str]:
        """The jobs that would run, from `--list-json`."""
        assert done.returncode == 0, done.stderr
        return [job["name"] for job in json.loads(done.stdout) if job["when"] != "never"]

    def artifact(self, job: str, name: str) -> Path:
        return self.checkout / STATE / "artifacts" / job / name


EXECUTE = ("--shell-isolation", "--no-artifacts-to-source", "--force-shell-executor")
"""Each job in a copy of the tracked files, by this machine's shell; artifacts go from job to job only."""
