"""Facts of the local git checkout. Only read, never written."""

from datetime import UTC
from functools import cached_property
from pathlib import Path

import git
from git.exc import GitError

from pipeline_tools.errors import PipelineError


class Checkout:
    """A git checkout on disk (GitPython over it)."""

    def __init__(self, directory: Path) -> None:
        """Open the checkout that holds `directory`.

        Raises:
            PipelineError: there is none.
        """
        try:
            self._repo = git.Repo(directory, search_parent_directories=True)
            self.root = Path(str(self._repo.working_tree_dir)).resolve()
            self._repo.head.commit  # noqa: B018 (an unborn HEAD is no release either)
        except (GitError, ValueError, OSError) as error:
            reason = "has no commit yet" if isinstance(error, ValueError) else "is not in a git checkout"
            raise PipelineError(
                f"{directory} {reason}", hint="run this in the application repository"
            ) from None

    @cached_property
    def head(self) -> str:
        """The commit checked out, as a full hash."""
        return self._repo.head.commit.hexsha

    @cached_property
    def is_shallow(self) -> bool:
        return (Path(self._repo.common_dir) / "shallow").exists()

    @cached_property
    def origin(self) -> str | None:
        """The address of the `origin` remote as git resolves it."""
        try:
            return str(self._repo.git.remote("get-url", "origin"))
        except GitError:
            return None

    @cached_property
    def tags(self) -> dict[str, str]:
        """Commit by tag name, annotated tags peeled."""
        lines = self._repo.git.for_each_ref(
            "refs/tags", format="%(refname:strip=2)%00%(objectname)%00%(*objectname)"
        )
        rows = [line.split("\0") for line in lines.splitlines()]
        return {name: peeled or target for name, target, peeled in rows}

    def tags_at(self, commit: str) -> list[str]:
        """The names of the tags on a commit."""
        return [name for name, target in self.tags.items() if target == commit]

    def branch(self, name: str) -> str | None:
        """The tip of a branch as last fetched from origin, else of the local one."""
        for ref in (f"refs/remotes/origin/{name}", f"refs/heads/{name}"):
            try:
                return str(self._repo.git.rev_parse("--verify", "--quiet", f"{ref}^{{commit}}"))
            except GitError:
                continue
        return None

    def default_branch(self) -> str | None:
        """What `origin/HEAD` pointed to when this was cloned."""
        try:
            ref = str(self._repo.git.symbolic_ref("--quiet", "refs/remotes/origin/HEAD"))
        except GitError:
            return None
        return ref.removeprefix("refs/remotes/origin/")

    def has(self, commit: str) -> bool:
        try:
            self._repo.git.cat_file("-e", f"{commit}^{{commit}}")
        except GitError:
            return False
        return True

    def contains(self, tip: str, commit: str) -> bool:
        """Whether `commit` is `tip` or an ancestor of it, as far as this checkout's history goes."""
        try:
            self._repo.git.merge_base("--is-ancestor", commit, tip)
        except GitError:
            return False
        return True

    def ancestors(self, commit: str) -> frozenset[str]:
        """`commit` and every commit before it."""
        return frozenset(self._repo.git.rev_list(commit).split())

    def log(self, since: str | None, until: str) -> list[tuple[str, str]]:
        """Hash and message of the commits in `until` and not in `since`, newest first, merges left out."""
        span = f"{since}..{until}" if since else until
        text = self._repo.git.log(span, "--no-merges", "-z", "--format=%H%x0a%B")
        rows = [row.partition("\n") for row in text.split("\0") if row]
        return [(commit, message) for commit, _, message in rows]

    def commit_time(self, commit: str) -> str:
        """The committer's time, ISO 8601 in UTC (as the OCI label `created` wants it: RFC 3339)."""
        when = self._repo.commit(commit).committed_datetime
        return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def changed_files(self) -> list[str]:
        """Tracked files that differ from the commit."""
        text = self._repo.git.status("--porcelain", "-z", "--untracked-files=no")
        return [row[3:] for row in text.split("\0") if row]

    def inside(self, path: str) -> Path:
        """`path`, below the checkout's root.

        Raises:
            PipelineError: it leads out of the checkout, by `..`, as an absolute path or through a link.
        """
        resolved = (self.root / path).resolve()
        if not resolved.is_relative_to(self.root):
            raise PipelineError(f"{path!r} is outside the checkout", hint="give a path inside the repository")
        return resolved
