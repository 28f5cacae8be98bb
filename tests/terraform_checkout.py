"""Terraform roots on the disk, and the real terraform for tests of what reads them."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipeline_tools.text.terraform_diagnostics import Ran


class Checkout:
    """The files below a folder, as `terraform check` asks for them."""

    def __init__(self, path: Path, bundled: tuple[str, ...] = ()) -> None:
        self.path, self._bundled = path, bundled

    def configuration(self, folder: str) -> Mapping[str, str]:
        found = [item for pattern in ("*", "tests/*") for item in sorted((self.path / folder).glob(pattern))]
        return {str(item.relative_to(self.path)): item.read_text() for item in found if item.is_file()}

    def bundled(self, root: str) -> tuple[str, ...]:
        return self._bundled


class Terraform:
    """terraform as it is installed, without a registry: no network, no mirror, its data outside the checkout.

    `linted` is what tflint is to have printed. `calls` are the commands that were run.
    """

    def __init__(self, checkout: Path, data: Path, linted: Ran | None = None) -> None:
        self.checkout, self.data, self.linted = checkout, data, linted
        self.calls: list[tuple[str, str]] = []

    def fmt(self, folder: str) -> Ran:
        return self._run(folder, "fmt", "-check", "-recursive", "-list=true", "-diff", "-no-color")

    def get(self, folder: str) -> Ran:
        return self._run(folder, "get", "-no-color")

    def init(self, folder: str) -> Ran:
        return self._run(folder, "init", "-backend=false", "-input=false", "-lockfile=readonly", "-no-color")

    def validate(self, folder: str) -> Ran:
        return self._run(folder, "validate", "-json")

    def test(self, folder: str) -> Ran:
        return self._run(folder, "test", "-no-color")

    def tflint(self, folder: str) -> Ran | None:
        self.calls.append(("tflint", folder))
        return self.linted

    def _run(self, folder: str, *words: str) -> Ran:
        self.calls.append((words[0], folder))
        self.data.mkdir(exist_ok=True)
        rules = self.data / "rc"
        # An empty mirror stands for the registry: what is not there cannot be had, and nobody is asked.
        rules.write_text(f'provider_installation {{\n  filesystem_mirror {{ path = "{self.data}" }}\n}}\n')
        environment = {
            "PATH": os.environ["PATH"],
            "TF_DATA_DIR": str(self.data / folder.replace("/", "-")),
            "TF_CLI_CONFIG_FILE": str(rules),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }
        ran = subprocess.run(
            ["terraform", *words],
            cwd=self.checkout / folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)
