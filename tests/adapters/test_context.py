from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from pipeline_tools.adapters.checkout import Checkout
from pipeline_tools.adapters.context import Contexts
from pipeline_tools.errors import PipelineError
from tests.steps.driving import application
from tests.world import git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EPOCH = 1_700_000_000


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return application(tmp_path / "app")


@pytest.fixture
def contexts(app: Path) -> Iterator[Contexts]:
    with Contexts(app, os.environ) as made:
        yield made


def commit(app: Path) -> str:
    git(app, "add", "--all")
    git(app, "commit", "--quiet", "--message", "change")
    return git(app, "rev-parse", "HEAD")


def written(contexts: Contexts, commit: str, *wanted: str) -> dict[str, str]:
    root = contexts.commit(commit, EPOCH, *(wanted or (".",))).root
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_a_dirty_checkout_cannot_leak_in(app: Path, contexts: Contexts) -> None:
    head = git(app, "rev-parse", "HEAD")
    (app / "page").write_text("changed\n")
    (app / "left-over").write_text("x")
    (app / ".git" / "info" / "attributes").write_text("* text eol=crlf\n")
    assert written(contexts, head) == {
        "Dockerfile": "FROM busybox:1.35\nCOPY page /page\n",
        "page": "hello\n",
    }


def test_every_byte_is_the_commits_whatever_its_attributes_say(app: Path, contexts: Contexts) -> None:
    (app / ".gitattributes").write_text("page export-ignore\nid export-subst ident\n* eol=crlf\n")
    content = b"$Format:%H$ $Id$\nzwei\n" + b"\xff" * 3_000_000
    (app / "id").write_bytes(content)
    (app / "-odd *[name] \xfc").write_text("odd")
    root = contexts.commit(commit(app), EPOCH, ".").root
    assert (root / "id").read_bytes() == content
    assert (root / "page").read_text() == "hello\n"
    assert (root / "-odd *[name] \xfc").read_text() == "odd"


def test_modes_times_and_links(app: Path, contexts: Contexts) -> None:
    (app / "bin").mkdir()
    (app / "bin" / "run").write_text("#!/bin/sh\n")
    (app / "bin" / "run").chmod(0o755)
    (app / "link").symlink_to("bin/run")
    before = os.umask(0o077)
    try:
        root = contexts.commit(commit(app), EPOCH, ".").root
    finally:
        os.umask(before)
    modes = {
        path.name: oct(path.lstat().st_mode & 0o777) for path in root.rglob("*") if not path.is_symlink()
    }
    assert modes == {"bin": "0o755", "run": "0o755", "Dockerfile": "0o644", "page": "0o644"}
    assert os.readlink(root / "link") == "bin/run"  # noqa: PTH115 (its text, not a path)
    assert {int(path.lstat().st_mtime) for path in root.rglob("*")} == {EPOCH}


def test_only_what_is_wanted(app: Path, contexts: Contexts) -> None:
    (app / "web").mkdir()
    (app / "web" / "index.html").write_text("web")
    head = commit(app)
    assert written(contexts, head, "./web/", "Dockerfile").keys() == {"web/index.html", "Dockerfile"}


def test_nothing_stays(app: Path) -> None:
    with Contexts(app, os.environ) as contexts:
        root = contexts.commit(git(app, "rev-parse", "HEAD"), EPOCH, ".").root
        assert contexts.commit(git(app, "rev-parse", "HEAD"), EPOCH, ".").root == root
        assert root.exists()
    assert not root.exists()


@pytest.mark.parametrize("path", ["../", "/etc"])
def test_a_path_that_leads_out(app: Path, contexts: Contexts, path: str) -> None:
    with pytest.raises(PipelineError, match="outside the checkout"):
        contexts.commit(git(app, "rev-parse", "HEAD"), EPOCH, path)


def test_what_is_no_part_of_the_commit(app: Path, contexts: Contexts) -> None:
    (app / "big").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(PipelineError, match="big is in Git LFS"):
        contexts.commit(commit(app), EPOCH, ".")
    git(app, "update-index", "--add", "--cacheinfo", f"160000,{'a' * 40},module")
    git(app, "commit", "--quiet", "--message", "a module")
    with pytest.raises(PipelineError, match="module is a submodule"):
        contexts.commit(git(app, "rev-parse", "HEAD"), EPOCH, ".")


def test_what_is_sent_is_measured(app: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x" * 1000)
    (app / "out").symlink_to(tmp_path / "outside")
    (app / "in").symlink_to("page")
    (app / "big.log").write_text("x" * 500)
    (app / ".dockerignore").write_text("# comment\n.git\n*.log\n")
    sent = Contexts.measured(app, app / "Dockerfile")
    names = ("Dockerfile", "page", ".dockerignore")
    assert (sent.files, sent.size) == (3, sum((app / name).stat().st_size for name in names))
    assert sent.leading_out == ("out",)
    assert sent.names == {*names, "in", "out"}


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b" ", b"# caf\xe9\r\n", b"x\n/"])
def test_what_is_sent_is_measured_however_dockerignore_is_written(app: Path, before: bytes) -> None:
    (app / ".dockerignore").write_bytes(before + b".git")
    assert Contexts.measured(app, app / "Dockerfile").files == len(("Dockerfile", "page", ".dockerignore"))


def test_links_that_lead_round_in_a_circle(app: Path) -> None:
    (app / "a").symlink_to("b")
    (app / "b").symlink_to("a")
    (app / "self").symlink_to("self/deeper")
    (app / "gone").symlink_to("nowhere")
    (app / ".dockerignore").write_text(".git\n")
    sent = Contexts.measured(app, app / "Dockerfile")
    assert (sent.files, sent.leading_out) == (3, ())


@pytest.mark.parametrize("path", ["a", "a/Dockerfile"])
def test_a_path_that_leads_round_in_a_circle(app: Path, contexts: Contexts, path: str) -> None:
    (app / "a").symlink_to("a")
    with pytest.raises(PipelineError, match="links that lead nowhere") as caught:
        contexts.checkout().inside(path)
    assert caught.value.hint


# What is checked out, where that is what is sent ---------------------------------------------------------------


def test_files_that_git_does_not_look_at(app: Path) -> None:
    (app / "web").mkdir()
    (app / "web" / "\xfc index.html").write_text("web")
    commit(app)
    assert Checkout(app).unwatched(".", "Dockerfile").files == ()
    git(app, "update-index", "--assume-unchanged", "page")
    (app / "page").write_text("changed\n")
    assert Checkout(app).changed_files() == []
    assert Checkout(app).unwatched(".").files == ("page",)
    git(app, "update-index", "--no-assume-unchanged", "page")
    git(app, "restore", "page")
    git(app, "sparse-checkout", "set", "--no-cone", "/Dockerfile")
    assert Checkout(app).unwatched(".").files == ("page", "web/\xfc index.html")
    assert Checkout(app / "web" / "..").unwatched("./web", "Dockerfile").files == ("web/\xfc index.html",)


def test_a_folder_with_a_name_of_gits_magic(app: Path) -> None:
    (app / ":!x").mkdir()
    (app / ":!x" / "file").write_text("x")
    commit(app)
    git(app, "update-index", "--skip-worktree", "page")
    assert Checkout(app).unwatched(":!x").files == ()


def test_a_submodule_that_is_not_checked_out(app: Path, tmp_path: Path) -> None:
    module = application(tmp_path / "module")
    git(app, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(module), "module")
    commit(app)
    assert Checkout(app).unwatched(".").submodules == ()
    git(app, "submodule", "--quiet", "deinit", "--force", "module")
    assert Checkout(app).changed_files() == []
    assert Checkout(app).unwatched(".").submodules == ("module",)
    assert Checkout(app).unwatched("page").submodules == ()


def test_a_submodule_that_is_changed_whatever_is_configured(app: Path, tmp_path: Path) -> None:
    module = application(tmp_path / "module")
    git(app, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(module), "module")
    git(app, "config", "--file", ".gitmodules", "submodule.module.ignore", "all")
    commit(app)
    (app / "module" / "untracked").write_text("an artifact of the job before\n")
    assert Checkout(app).changed_files() == []
    (app / "module" / "page").write_text("changed\n")
    assert Checkout(app).changed_files() == ["module"]


def test_a_commits_time_whatever_is_configured(app: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f"* {key.with_suffix('.pub').read_text()}")
    for name, value in {
        "gpg.format": "ssh", "user.signingKey": str(key), "gpg.ssh.allowedSignersFile": str(signers),
        "log.showSignature": "true",
    }.items():  # fmt: skip
        git(app, "config", name, value)
    git(app, "commit", "--quiet", "--allow-empty", "-S", "--message", "signed")
    head = git(app, "rev-parse", "HEAD")
    written = next(line for line in git(app, "cat-file", "commit", head).splitlines() if "committer" in line)
    assert Checkout(app).commit_seconds(head) == int(written.split()[-2])
    assert Checkout(app).log(None, head)[0] == (head, "signed\n")


def test_files_that_the_commit_does_not_have(app: Path) -> None:
    (app / "web" / "dist" / "js").mkdir(parents=True)
    (app / "web" / "index.html").write_text("web")
    (app / ".gitignore").write_text(".env\ndist/\n")
    commit(app)
    sent = ("index.html", ".env", "dist/js/a", "dist/b")
    checkout = Checkout(app)
    assert checkout.unknown_files("web", sent) == ["web/.env", "web/dist/"]
    assert checkout.unknown_files(".", ("page", "Dockerfile", ".git/config", "x", "web/y")) == [
        ".git/", "web/y", "x",
    ]  # fmt: skip


def test_a_submodules_files_are_known(app: Path, tmp_path: Path) -> None:
    module = application(tmp_path / "module")
    git(app, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(module), "module")
    commit(app)
    assert Checkout(app).unknown_files(".", ("module/page", "module/other")) == ["module/other"]


def test_a_file_that_was_renamed(app: Path) -> None:
    git(app, "mv", "page", "renamed-page")
    assert sorted(Checkout(app).changed_files()) == ["page", "renamed-page"]
