"""kustomize as a subprocess: `kustomize build`, or `kubectl kustomize` where only that is installed."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline_tools.adapters import process
from pipeline_tools.adapters.process import CommandFailed, Environment
from pipeline_tools.errors import PipelineError


@dataclass(frozen=True)
class Kustomize:
    """Renders overlays with the binary found on the environment's PATH."""

    environment: Environment

    def build(self, folder: Path, shown: str) -> str:
        """The manifests of the kustomization in `folder`, as YAML documents.

        Args:
            folder: where its file is.
            shown: its name for messages, the end of that path.

        Raises:
            PipelineError: kustomize is not installed, or refuses the folder; its words are in the message.
        """
        try:
            return process.run(*self._command(), str(folder), environment=self.environment).decode()
        except CommandFailed as error:
            reason = error.stderr.replace(str(folder).removesuffix(shown), "").splitlines()
            raise PipelineError(
                f"{shown} does not render: {reason[-1] if reason else 'no reason given'}",
                hint="run kustomize build there; --no-render where a base is remote",
            ) from None

    def _command(self) -> tuple[str, ...]:
        path = self.environment.get("PATH")
        for command in (("kustomize", "build"), ("kubectl", "kustomize")):
            if shutil.which(command[0], path=path):
                return command
        raise PipelineError(
            "kustomize is not installed", hint="install kustomize or kubectl, or give --no-render"
        )
