"""`python -m sandbox.gitlab`: one JSON line, then service until the end of input or SIGTERM."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

pytestmark = pytest.mark.servers
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("end", ["input", "signal"])
def test_it_serves_until_told(tmp_path: Path, source: Path, end: str) -> None:
    argv = [
        sys.executable,
        "-m",
        "sandbox.gitlab",
        "--directory",
        str(tmp_path / "d"),
        "--project",
        f"platform/env={source}",
    ]
    with subprocess.Popen(
        argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        shown = json.loads(process.stdout.readline())
        token = shown["projects"]["platform/env"]["token"]
        answer = requests.get(
            f"{shown['url']}/api/v4/projects/platform%2Fenv", headers={"PRIVATE-TOKEN": token}, timeout=10
        )
        assert answer.json()["default_branch"] == "main"
        if end == "input":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
