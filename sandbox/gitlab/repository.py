"""Plumbing over a bare repository: what the REST answers and the push checks need to know of it.

All git runs here are isolated from the user's and the system's configuration.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FIELDS = ("%H", "%P", "%an", "%ae", "%aI", "%cn", "%ce", "%cI", "%s", "%(trailers:only,unfold)", "%B")

TAG_FIELDS = (
    "%(refname:lstrip=2)",
    "%(objectname)",
    "%(*objectname)",
    "%(objecttype)",
    "%(creatordate:iso-strict)",
    "%(contents)",
)


class GitError(Exception):
    """git said no; the text is its standard error."""


@dataclass(frozen=True)
class Commit:
    sha: str
    parents: tuple[str, ...]
    author_name: str
    author_email: str
    authored: str
    committer_name: str
    committer_email: str
    committed: str
    title: str
    trailers: tuple[tuple[str, str], ...]
    message: str


@dataclass(frozen=True)
class Tag:
    """A tag: `target` is the tag object of an annotated tag, else the commit."""

    name: str
    target: str
    commit: str
    message: str
    created: str | None


@dataclass(frozen=True)
class Entry:
    """A file in a tree."""

    mode: str
    blob: str
    path: str


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of every git process: no user or system configuration, no prompts, no locale."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        **(extra or {}),
    }


def git(repository: Path, *argv: str, stdin: bytes = b"", extra: Mapping[str, str] | None = None) -> bytes:
    """Run git in a repository and return its output; GitError when it fails."""
    done = subprocess.run(
        ["git", "-C", str(repository), *argv],
        input=stdin,
        capture_output=True,
        env=environment(extra),
        check=False,
    )
    if done.returncode:
        raise GitError(done.stderr.decode(errors="replace").strip())
    return done.stdout


def text(repository: Path, *argv: str, extra: Mapping[str, str] | None = None) -> str:
    return git(repository, *argv, extra=extra).decode(errors="replace").strip()


def create(repository: Path, default_branch: str) -> None:
    """Make an empty bare repository."""
    repository.mkdir(parents=True)
    git(repository, "init", "--quiet", "--bare", f"--initial-branch={default_branch}", "--template=")


def import_tree(repository: Path, source: Path, branch: str, message: str, identity: tuple[str, str]) -> str:
    """Commit the files of a directory as the first commit of a branch and return its sha.

    `.git` directories are left out; everything else counts, whatever ignore files say.
    """
    git(
        source,
        f"--git-dir={repository.resolve()}",
        "add",
        "--all",
        "--force",
        ".",
        extra=_index(repository, source),
    )
    tree = text(repository, "write-tree", extra=_index(repository, None))
    (repository / "import.index").unlink()
    return commit_tree(repository, tree, message, identity, f"refs/heads/{branch}")


def _index(repository: Path, work_tree: Path | None) -> dict[str, str]:
    index = {"GIT_INDEX_FILE": str(repository.resolve() / "import.index")}
    return index if work_tree is None else index | {"GIT_WORK_TREE": str(work_tree.resolve())}


def commit_tree(repository: Path, tree: str, message: str, identity: tuple[str, str], ref: str) -> str:
    """Commit a tree as a first commit and move a ref to it."""
    sha = text(repository, "commit-tree", tree, "-m", message, extra=_identity(identity))
    git(repository, "update-ref", ref, sha)
    return sha


def merge(repository: Path, ends: tuple[str, str], message: str, identity: tuple[str, str], ref: str) -> str:
    """Merge the second commit into the first, which `ref` must still point at; GitError on a conflict or a lost race."""
    target, source = ends
    tree = text(repository, "merge-tree", "--write-tree", target, source)
    sha = text(
        repository, "commit-tree", tree, "-p", target, "-p", source, "-m", message, extra=_identity(identity)
    )
    git(repository, "update-ref", ref, sha, target)
    return sha


def squash(repository: Path, ends: tuple[str, str], message: str, identity: tuple[str, str]) -> str:
    """Make one commit of what the second adds to the merge base of both (GitLab docs: Squash and merge)."""
    target, source = ends
    base = text(repository, "merge-base", target, source)
    return text(
        repository, "commit-tree", f"{source}^{{tree}}", "-p", base, "-m", message, extra=_identity(identity)
    )


def _identity(identity: tuple[str, str]) -> dict[str, str]:
    name, email = identity
    return {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", name), ("EMAIL", email))
    }


def resolve(repository: Path, revision: str) -> str | None:
    """Full commit sha of a branch, tag or commit; None when there is none."""
    for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
        try:
            return text(
                repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
            )
        except GitError:
            continue
    return None


def ref_sha(repository: Path, ref: str) -> str | None:
    """Commit a full ref name points at; None when there is no such ref."""
    try:
        return text(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except GitError:
        return None


def branches(repository: Path, search: str = "") -> list[tuple[str, str]]:
    """Name and commit of each branch. `search` takes GitLab's `^begin` and `end$` forms (docs: Branches API)."""
    lines = text(
        repository, "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads"
    ).splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines]
    return [(name, sha) for name, sha in pairs if _found(name, search)]


def _found(name: str, search: str) -> bool:
    if search.startswith("^"):
        return name.startswith(search[1:])
    if search.endswith("$"):
        return name.endswith(search[:-1])
    return search.lower() in name.lower()


def tags(repository: Path, pattern: str = "refs/tags") -> list[Tag]:
    """List tags, the last updated first."""
    form = "%1f".join(TAG_FIELDS) + "%1e"
    out = git(repository, "for-each-ref", "--sort=-creatordate", f"--format={form}", pattern).decode(
        errors="replace"
    )
    return [_tag(record.lstrip("\n")) for record in out.split("\x1e") if record.strip()]


def _tag(record: str) -> Tag:
    name, target, commit, kind, created, message = record.split("\x1f", len(TAG_FIELDS) - 1)
    if kind != "tag":
        return Tag(name, target, target, "", None)
    return Tag(name, target, commit, message.rstrip("\n"), created)


def tag(repository: Path, name: str) -> Tag | None:
    return next((found for found in tags(repository, f"refs/tags/{name}") if found.name == name), None)


def commits(repository: Path, *arguments: str) -> list[Commit]:
    """Commits that `git log` selects."""
    form = "%x1f".join(FIELDS)
    out = git(repository, "log", "-z", f"--format={form}", *arguments).decode(errors="replace")
    return [_commit(record) for record in out.split("\0") if record]


def _commit(record: str) -> Commit:
    sha, parents, an, ae, at, cn, ce, ct, title, trailers, message = record.split("\x1f", len(FIELDS) - 1)
    pairs = tuple(_pair(line) for line in trailers.splitlines() if ":" in line)
    return Commit(
        sha, tuple(parents.split()), an, ae, at, cn, ce, ct, title, pairs, message.rstrip("\n") + "\n"
    )


def _pair(line: str) -> tuple[str, str]:
    key, value = line.split(":", 1)
    return key.strip(), value.strip()


def commit(repository: Path, sha: str) -> Commit:
    return commits(repository, "-1", sha)[0]


def is_ancestor(repository: Path, old: str, new: str, extra: Mapping[str, str] | None = None) -> bool:
    try:
        git(repository, "merge-base", "--is-ancestor", old, new, extra=extra)
    except GitError:
        return False
    return True


def merge_base(repository: Path, shas: list[str]) -> str | None:
    try:
        return text(repository, "merge-base", *shas)
    except GitError:
        return None


def entry(repository: Path, sha: str, path: str) -> Entry | None:
    """The file at a path, or None (also for a directory)."""
    out = (
        git(repository, "ls-tree", "-z", "--full-tree", sha, "--", path).decode(errors="replace").rstrip("\0")
    )
    if not out or "\0" in out:
        return None
    meta, name = out.split("\t", 1)
    mode, kind, blob = meta.split()
    return Entry(mode, blob, name) if kind == "blob" and name == path else None


def blob(repository: Path, sha: str) -> bytes:
    return git(repository, "cat-file", "blob", sha)


def refs_containing(repository: Path, sha: str) -> Iterator[tuple[str, str]]:
    """Type and name of each branch and tag that contains a commit."""
    for kind, place in (("branch", "refs/heads"), ("tag", "refs/tags")):
        names = text(repository, "for-each-ref", f"--contains={sha}", "--format=%(refname:lstrip=2)", place)
        yield from ((kind, name) for name in names.splitlines())
