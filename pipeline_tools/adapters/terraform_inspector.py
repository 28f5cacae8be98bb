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


CONFIGURATION = "provider_installation {\n  direct {}\n}\n"
"""Where providers come from when nobody says: not from `terraform.d` below the checkout, as it would be without."""


class Inspector:
    """The tools, on the checkout at `root`; `scratch` takes what `init` fetches, and nothing is taken from the checkout.

    Each gives what the program printed and its exit code, to be judged by who asked.
    """

    def __init__(self, binary: str, root: Path, environment: Environment, scratch: Path) -> None:
        self._binary, self._root, self._scratch = binary, root, scratch
        self._env = {name: value for name, value in environment.items() if name in KEPT}
        self._env |= {"TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}

    def fmt(self, folder: str) -> Ran:
        return self._run(folder, "fmt", "-check", "-recursive", "-list=true", "-diff", "-no-color")

    def get(self, folder: str) -> Ran:
        return self._run(folder, "get", "-no-color")

    def init(self, folder: str) -> Ran:
        return self._run(folder, "init", "-backend=false", "-input=false", "-lockfile=readonly", "-no-color")

    def validate(self, folder: str) -> Ran:
        return self._run(folder, "validate", "-json")

    def tflint(self, folder: str) -> Ran | None:
        """None where it is not installed."""
        if shutil.which("tflint", path=self._env.get("PATH", os.defpath)) is None:
            return None
        return self._ran(folder, "tflint", "--format=json")

    def _run(self, folder: str, *words: str) -> Ran:
        return self._ran(folder, self._binary, *words)

    def _ran(self, folder: str, *argv: str) -> Ran:
        environment = {**self._env, **self._places(folder)}
        done = process.ended(*argv, environment=environment, directory=self._root / folder)
        return Ran(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def _places(self, folder: str) -> dict[str, str]:
        """Where Terraform keeps what it fetches, and what it reads for itself."""
        data = self._scratch / "check" / (folder.replace("/", "-") or "root")
        data.mkdir(parents=True, exist_ok=True)
        rules = self._env.get("TF_CLI_CONFIG_FILE")
        if rules is None:
            file = self._scratch / "check" / "terraform.rc"
            file.write_text(CONFIGURATION)
            rules = str(file)
        return {"TF_DATA_DIR": str(data), "TF_CLI_CONFIG_FILE": rules}
