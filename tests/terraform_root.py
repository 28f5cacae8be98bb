"""The real Terraform in a folder, with a backend and nothing else from outside."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BACKEND = """\
terraform {
  backend "http" {}
}
"""
RESOURCES = """\
resource "terraform_data" "one" {{
  input = "{value}"
}}
output "one" {{
  value = terraform_data.one.output
}}
"""
SLOW = """\
resource "terraform_data" "slow" {
  depends_on = [terraform_data.one]
  provisioner "local-exec" {
    command = "touch begun; while [ ! -e go ]; do sleep 0.05; done"
  }
}
"""
"""A resource that is made when the file `go` is there; `begun` says that Terraform has come to it."""


@dataclass(frozen=True)
class Terraform:
    """A root module in `directory`; `variables` is what the backend gets from the environment."""

    directory: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def write(self, text: str) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "main.tf").write_text(text)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Terraform itself, for what has to be looked at or stopped while it runs."""
        return subprocess.Popen(
            ("terraform", *words),
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "CHECKPOINT_DISABLE": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            **self.variables,
        }

    def run(self, *words: str, exit_code: int = 0) -> str:
        """What it says, both streams together."""
        process = self.start(*words, "-no-color")
        output, _ = process.communicate(timeout=120)
        assert process.returncode == exit_code, f"{words}: {process.returncode}\n{output}"
        return output

    def apply(self, *words: str, exit_code: int = 0) -> str:
        return self.run("apply", "-auto-approve", *words, exit_code=exit_code)

    def state(self) -> Any:
        return json.loads(self.run("state", "pull"))


def gitlab_backend(url: str, project: int, state: str, user: str, password: str) -> dict[str, str]:
    """The `http` backend's variables as GitLab's own template sets them (docs: GitLab-managed Terraform state)."""
    address = f"{url}/api/v4/projects/{project}/terraform/state/{state}"
    return {
        "TF_HTTP_ADDRESS": address,
        "TF_HTTP_LOCK_ADDRESS": f"{address}/lock",
        "TF_HTTP_LOCK_METHOD": "POST",
        "TF_HTTP_UNLOCK_ADDRESS": f"{address}/lock",
        "TF_HTTP_UNLOCK_METHOD": "DELETE",
        "TF_HTTP_USERNAME": user,
        "TF_HTTP_PASSWORD": password,
        "TF_HTTP_RETRY_WAIT_MIN": "1",
    }
