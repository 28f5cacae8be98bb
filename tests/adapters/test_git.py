"""Remote repositories: what no stand-in that behaves can show."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from pipeline_tools.adapters.git import Remote
from pipeline_tools.adapters.signing import Signature
from pipeline_tools.errors import PipelineError, Unavailable
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


FILE = "apps/app7/overlays/dev/kustomization.yaml"
ANNA = Signature(("Anna", "anna@example.com"), ("Anna", "anna@example.com"))


def nested(directory: Path, *settings: str) -> str:
    """A repository of a few overlays, with all kinds of neighbours; its server is set up so. Its address."""
    git(directory, "init", "--quiet", "--initial-branch=main")
    for number in range(9):
        for stage in ("dev", "prod"):
            folder = directory / f"apps/app{number}/overlays/{stage}"
            folder.mkdir(parents=True)
            (folder / "kustomization.yaml").write_text(f"images: [] # {number} {stage}\n")
            (folder / "large.yaml").write_text("# large\n" * 1000)
    folder = directory / "apps/app7/overlays/dev"
    (folder / "über uns \u2028.yaml").write_text("{}\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("large.yaml")
    git(directory, "add", ".")
    git(directory, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},apps/app7/module")
    git(directory, "commit", "--quiet", "--message=first")
    for setting in ("receive.denyCurrentBranch=ignore", "uploadpack.allowFilter=true", *settings):
        git(directory, "config", *setting.split("="))
    return f"file://{directory}"


SERVERS = {
    "gitlab's": ("uploadpack.allowAnySHA1InWant=true",),
    "one that forbids filters by depth": ("uploadpackfilter.tree.allow=false",),
    "one that forbids all filters": ("uploadpackfilter.allow=false",),
    "one without filters": ("uploadpack.allowFilter=false",),
}


@pytest.mark.parametrize("version", ["0", "2"])
@pytest.mark.parametrize("settings", SERVERS.values(), ids=SERVERS)
def test_one_file_is_changed_whatever_the_server_knows(
    tmp_path: Path, settings: tuple[str, ...], version: str
) -> None:
    """Protocol version 0 gives no objects that no branch points to, unless the server is told to."""
    url = nested(tmp_path, *settings)
    protocol = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "protocol.version",
        "GIT_CONFIG_VALUE_0": version,
    }
    with Remote(url, {**os.environ, **protocol}) as remote:
        tip = remote.fetch("main")
        assert remote.read(tip, FILE) == b"images: [] # 7 dev\n"
        commit = remote.commit(tip, {FILE: b"images: []\n"}, "Bump\n", ANNA)
        assert remote.push(commit, "main") == ""
    assert git(tmp_path, "diff", "--raw", "main^", "main").split()[-2:] == ["M", FILE]
    assert git(tmp_path, "show", f"main:{FILE}") == "images: []"
    subprocess.run(("git", "-C", tmp_path, "fsck", "--strict", "--no-dangling"), check=True)


def test_little_more_is_fetched_than_the_way_to_a_file(tmp_path: Path) -> None:
    """The root and its folders, then the one application: its trees and the small files in them."""
    url = nested(tmp_path, *SERVERS["gitlab's"])
    trace = tmp_path / "trace"
    with Remote(url, {**os.environ, "GIT_TRACE": str(trace)}) as remote:
        tip = remote.fetch("main")
        remote.read(tip, FILE)
        assert trace.read_text().count("built-in: git upload-pack") == 2
        store = remote._scratch.directory
        text = git(store, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)").split()
    assert {kind: text.count(kind) for kind in set(text)} == {"commit": 1, "tree": 6, "blob": 5}


def test_what_is_foreseen_is_there_when_it_is_asked_for(tmp_path: Path) -> None:
    url = nested(tmp_path, *SERVERS["gitlab's"])
    trace = tmp_path / "trace"
    with Remote(url, {**os.environ, "GIT_TRACE": str(trace)}) as remote:
        remote.foresee(None, [FILE, "no/such/folder"])
        assert remote.head() == "main"
        tip = remote.fetch("main")
        before = trace.read_text()
        assert remote.read(tip, FILE) == b"images: [] # 7 dev\n"
        assert trace.read_text() == before, "no process more"


def test_what_was_foreseen_in_vain_is_not_taken(tmp_path: Path) -> None:
    """Another branch is asked for, or the same again after somebody pushed."""
    url = nested(tmp_path)
    git(tmp_path, "branch", "other")
    with Remote(url, os.environ) as remote:
        remote.foresee("other", [])
        first = remote.fetch("main")
        git(tmp_path, "commit", "--quiet", "--allow-empty", "--message=second")
        assert remote.fetch("main") == git(tmp_path, "rev-parse", "main").strip() != first


def test_a_failure_that_was_foreseen_is_told_to_who_asks() -> None:
    with Remote("http://127.0.0.1:1/platform/env.git", os.environ) as remote:
        remote.foresee("main", [])
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
            remote.fetch("main")


def test_closing_does_not_wait_for_what_was_foreseen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/platform/env.git"
        began = time.monotonic()
        with Remote(url, os.environ, silence=60) as remote:
            remote.foresee("main", [])
            connection, _ = server.accept()
        assert time.monotonic() - began < 30
        connection.close()


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with Remote(nested(tmp_path), os.environ) as remote:
        tip = remote.fetch("main")
        assert remote.entries(tip, "apps/app7/module") == []
        assert remote.entries(tip, FILE) == []
        for path in ("apps/none", f"{FILE}/more", "apps/app7", "apps/app7/module"):
            with pytest.raises(PipelineError, match="has no file"):
                remote.read(tip, path)
