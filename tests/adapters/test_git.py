"""Remote repositories: what no stand-in that behaves can show."""

import os
import socket
import time
from pathlib import Path

import pytest

from pipeline_tools.adapters.git import Remote
from pipeline_tools.errors import Unavailable
from tests.world import git


def test_a_silent_server_is_given_up() -> None:
    """It takes the connection and the request, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/platform/env.git"
        began = time.monotonic()
        with Remote(url, dict(os.environ), silence=1) as remote, pytest.raises(Unavailable) as caught:
            remote.head()
        assert time.monotonic() - began < 15
        assert url in caught.value.message


def partial(directory: Path, *, filters: bool) -> str:
    """A repository of thirty overlays; whether its server leaves out blobs when asked to. Its address."""
    git(directory, "init", "--quiet", "--initial-branch=main")
    for number in range(30):
        folder = directory / "apps" / f"app{number}"
        folder.mkdir(parents=True)
        (folder / "kustomization.yaml").write_text(f"images: [] # {number}\n")
    git(directory, "add", ".")
    git(directory, "commit", "--quiet", "--message=first")
    git(directory, "config", "uploadpack.allowFilter", str(filters).lower())
    return f"file://{directory}"


@pytest.mark.parametrize(("filters", "requests"), [(True, 1), (False, 0)])
def test_many_files_are_brought_at_once(tmp_path: Path, filters: bool, requests: int) -> None:
    """Git's own way in a partial clone is a request for every file; what is there is not asked for again."""
    trace = tmp_path / "trace"
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    url = partial(source, filters=filters)
    with Remote(url, {**os.environ, "GIT_TRACE": str(trace)}) as remote:
        tip = remote.fetch("main")
        trace.write_text("")
        remote.materialise(tip, ("apps",), target)
        files = remote.files(tip)
        texts = remote.contents(files.values())
        assert trace.read_text().count("built-in: git upload-pack") == requests
    assert len(list(target.glob("apps/*/kustomization.yaml"))) == 30
    assert texts[files["apps/app7/kustomization.yaml"]] == b"images: [] # 7\n"
