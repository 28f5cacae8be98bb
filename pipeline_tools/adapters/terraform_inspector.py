"""Terraform and tflint as they look at a configuration that may be a stranger's: without backend, state or credentials."""

import os
import shutil
from pathlib import Path

from pipeline_tools.adapters import process
from pipeline_tools.adapters.process import Environment
from pipeline_tools.text.terraform_diagnostics import Ran

KEPT = frozenset(
    {
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "NO_PROXY",
        "PATH",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TF_CLI_CONFIG_FILE",
        "TF_PLUGIN_CACHE_DIR",
        "TMPDIR",
        "https_proxy",
        "http_proxy",
        "no_proxy",
    }
)
"""All that these children get of the environment: `validate` starts the providers that a checkout names."""


class Inspector:
    """The tools, on the checkout at `root`; `scratch` takes what `init` fetches, and nothing is taken from the checkout."""

    def __init__(self, binary: str, root: Path, environment: Environment, scratch: Path) -> None:
        self._binary, self._root, self._scratch = binary, root, scratch
        self._env = {name: value for name, value in environment.items() if name in KEPT}
        self._env |= {"TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}

    def fmt(self, folder: str) -> Ran:
        return self._run(folder, "fmt", "-check", "-recursive", "-list=true", "-diff", "-no-color")

    def init(self, folder: str) -> Ran:
        return self._run(folder, "init", "-backend=false", "-input=false", "-lockfile=readonly", "-no-color")

    def validate(self, folder: str) -> Ran:
        return self._run(folder, "validate", "-json")

    def tflint(self, folder: str) -> Ran | None:
        """None where it is not installed."""
        if shutil.which("tflint", path=self._env.get("PATH", os.defpath)) is None:
            return None
        return _ran(
            process.ended("tflint", "--format=json", environment=self._env, directory=self._root / folder)
        )

    def _run(self, folder: str, *words: str) -> Ran:
        data = self._scratch / "data" / folder
        data.mkdir(parents=True, exist_ok=True)
        environment = {**self._env, "TF_DATA_DIR": str(data)}
        argv = (self._binary, f"-chdir={self._root / folder}", *words)
        return _ran(process.ended(*argv, environment=environment))


def _ran(done: process.Done) -> Ran:
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
