"""The real Terraform, with its built-in provider only: no network, no plug-in."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def terraform() -> Callable[..., bytes]:
    """Runs `terraform ARGS…` in a folder and gives its stdout."""
    program = shutil.which("terraform")
    if not program:
        pytest.skip("terraform is not installed")

    def run(root: Path, *arguments: str) -> bytes:
        environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}
        done = subprocess.run(
            [program, *arguments], cwd=root, env=environment, check=True, capture_output=True
        )
        return done.stdout

    return run
