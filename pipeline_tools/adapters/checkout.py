"""Facts of the local git checkout. Only read, never written."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath

from pipeline_tools.adapters import paths, process
from pipeline_tools.adapters.process import CommandFailed, Environment
from pipeline_tools.errors import PipelineError
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret

try:
    import git
    from git.exc import GitError
except ImportError as missing:  # GitPython looks for the program when it is imported
    raise PipelineError("git is not installed", hint="install git, or put it on the PATH") from missing

_TRUSTED_ONLY = (
    "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "log.showSignature=false",
)  # fmt: skip
"""What a checkout's own configuration would start is not for us to run, nor to have its words in an answer."""
_SUBMODULE = "160000"


@dataclass(frozen=True)
class Unwatched:
    """Tracked `files` that are assume-unchanged or sparse, and `submodules` that are not checked out."""

    files: tuple[str, ...] = ()
    submodules: tuple[str, ...] = ()


class Checkout:
    """A git checkout on disk (GitPython over it)."""

    def __init__(self, directory: Path) -> None:
        """Open the checkout that holds `directory`.

        Raises:
            PipelineError: there is none, it has no commit yet, or git does not trust its owner.
        """
        try:
            self._repo = git.Repo(directory, search_parent_directories=True)
        except (GitError, ValueError, OSError):
            raise PipelineError(
                f"{directory} is not in a git checkout", hint="run this in the application repository"
            ) from None
        self.root = Path(str(self._repo.working_tree_dir)).resolve()
        self.head = self._head(directory)

    def _head(self, directory: Path) -> str:
        """The commit checked out, as a full hash."""
        try:
            return self._git("rev-parse", "--verify", "HEAD^{commit}")
        except PipelineError as error:
            if "dubious ownership" in error.message:
                raise PipelineError(
                    f"git does not trust {directory}: it belongs to another user",
                    hint=f"git config --global --add safe.directory {self.root}",
                ) from None
            raise PipelineError(f"{directory} has no commit yet", hint="commit something first") from None

    @property
    def is_shallow(self) -> bool:
        return (Path(self._repo.common_dir) / "shallow").exists()

    @cached_property
    def origin(self) -> str | None:
        """The address of the `origin` remote as git resolves it."""
        return self._try("remote", "get-url", "origin")

    @cached_property
    def tags(self) -> dict[str, str]:
        """Commit by tag name, annotated tags peeled."""
        form = "--format=%(refname:strip=2)%00%(objectname)%00%(*objectname)"
        rows = [line.split("\0") for line in self._git("for-each-ref", form, "refs/tags").splitlines()]
        return {name: peeled or target for name, target, peeled in rows}

    def tags_at(self, commit: str) -> list[str]:
        """The names of the tags on a commit."""
        return [name for name, target in self.tags.items() if target == commit]

    def branch(self, name: str) -> str | None:
        """The tip of a branch as last fetched from origin, else of the local one."""
        refs = (f"refs/remotes/origin/{name}", f"refs/heads/{name}")
        tips = (self._try("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}") for ref in refs)
        return next((tip for tip in tips if tip), None)

    def default_branch(self) -> str | None:
        """What `origin/HEAD` pointed to when this was cloned."""
        ref = self._try("symbolic-ref", "--quiet", "refs/remotes/origin/HEAD")
        return ref.removeprefix("refs/remotes/origin/") if ref else None

    def has(self, commit: str) -> bool:
        return self._try("cat-file", "-e", f"{commit}^{{commit}}") is not None

    def contains(self, tip: str, commit: str) -> bool:
        """Whether `commit` is `tip` or an ancestor of it, as far as this checkout's history goes."""
        return self._try("merge-base", "--is-ancestor", commit, tip) is not None

    def ancestors(self, commit: str) -> frozenset[str]:
        """`commit` and every commit before it."""
        return frozenset(self._git("rev-list", commit).split())

    def log(self, since: str | None, until: str) -> list[tuple[str, str]]:
        """Hash and message of the commits in `until` and not in `since`, newest first, merges left out."""
        span = f"{since}..{until}" if since else until
        text = self._git("log", span, "--no-merges", "-z", "--format=%H%x0a%B")
        rows = [row.partition("\n") for row in text.split("\0") if row]
        return [(commit, message) for commit, _, message in rows]

    def commit_time(self, commit: str) -> str:
        """The committer's time, ISO 8601 in UTC (as the OCI label `created` wants it: RFC 3339)."""
        return datetime.fromtimestamp(self.commit_seconds(commit), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def commit_seconds(self, commit: str) -> int:
        """The committer's time, in seconds since 1970."""
        # Asked of git itself: GitPython's own way leaves a `git cat-file --batch` running.
        return int(self._git("show", "--no-patch", "--format=%ct", commit))

    def changed_files(self) -> list[str]:
        """Tracked files that differ from the commit."""
        # Said here, not left to .gitmodules, which may hide a changed submodule; -z has a second field for a rename.
        words = ("--untracked-files=no", "--ignore-submodules=untracked", "--no-renames")
        text = self._git("status", "--porcelain", "-z", *words)
        return [row[3:] for row in text.split("\0") if row]

    def unwatched(self, *wanted: str) -> Unwatched:
        """What `git status` does not look at, at or below paths (git-ls-files(1), "-v" and "-t"); nothing without paths."""
        rows = list(self._index(wanted)) if wanted else []
        modules = [path for _, mode, path in rows if mode == _SUBMODULE]
        return Unwatched(
            tuple(path for flag, _, path in rows if flag == "S" or flag.islower()),
            tuple(path for path in modules if not (self.root / path / ".git").exists()),
        )

    def _index(self, wanted: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
        """Flag, mode and path of what the index has at or below paths."""
        # The index knows nothing below a link, and a folder may be named as git's magic is: ":!x".
        specs = [str(self.inside(path).relative_to(self.root)) for path in wanted]
        words = ("-C", str(self.root), "--literal-pathspecs", "ls-files", "-v", "--stage", "-z", "--", *specs)
        for row in self._git(*words).split("\0"):
            if row:
                meta, _, path = row.partition("\t")
                flag, mode, *_ = meta.split(" ")
                yield flag, mode, path

    def unknown_files(self, folder: str, names: Iterable[str]) -> list[str]:
        """Which of `names`, files relative to `folder`, are not tracked; a folder with no tracked file is one, `dist/`."""
        prefix = self.inside(folder).relative_to(self.root)
        listed = self._git("-C", str(self.root), "ls-files", "--recurse-submodules", "-z")
        tracked = frozenset(listed.split("\0"))
        folders = {str(parent) for path in tracked for parent in PurePosixPath(path).parents}
        found = (PurePosixPath(prefix, name) for name in names)
        return sorted({_topmost(path, folders) for path in found if str(path) not in tracked})

    def object_id(self, path: str) -> str | None:
        """The id of the tree or blob at `path` in HEAD; None where HEAD has no such path."""
        return self._try("rev-parse", "--verify", "--quiet", f"HEAD:{path}" if path != "." else "HEAD^{tree}")

    def differing(self, folder: str) -> list[tuple[str, str]]:
        """Files at or below a path that are not as HEAD has them, with git's code: `??` untracked, `!!` ignored."""
        words = ("status", "--porcelain", "-z", "--untracked-files=all", "--ignored=matching", "--no-renames")
        # A folder may be named as git's magic is: ":!x" would be everything else.
        text = self._git("-C", str(self.root), "--literal-pathspecs", *words, "--", folder)
        return [(row[:2], row[3:]) for row in text.split("\0") if row]

    def changed_between(self, base: str, tip: str) -> list[str] | None:
        """Paths that differ between two commits; None where the checkout does not have `base`."""
        if not self.has(base):
            return None
        text = self._git("diff", "--name-only", "--no-renames", "-z", base, tip)
        return [path for path in text.split("\0") if path]

    def files(self) -> list[str]:
        """Every file of HEAD, by its path."""
        return [path for path in self._git("ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0") if path]

    def inside(self, path: str) -> Path:
        """`path`, below the checkout's root.

        Raises:
            PipelineError: it leads out of the checkout, by `..`, as an absolute path or through a link.
        """
        return paths.inside(self.root, path)

    def credential(self, url: str, environment: Environment) -> Credential | None:
        """The login that git itself would use for `url` here, from the helpers of its configuration; nobody is asked.

        Source: git-credential(1), "INPUT/OUTPUT FORMAT".
        """
        silent = {**environment, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": ""}
        words = ("git", *_TRUSTED_ONLY, "-C", str(self.root), "credential", "fill")
        try:
            answer = process.run(*words, environment=silent, stdin=f"url={url}\n\n".encode())
        except CommandFailed:
            return None
        found = dict(line.split("=", 1) for line in answer.decode().splitlines() if "=" in line)
        return Credential(found["username"], Secret(found["password"])) if found.get("password") else None

    def _git(self, *words: str) -> str:
        """Run git in the checkout; its output without the last newline.

        Raises:
            PipelineError: git refuses; its last line is in the message.
        """
        code, out, said = self._repo.git.execute(
            ["git", *_TRUSTED_ONLY, *words], with_extended_output=True, with_exceptions=False
        )
        if code:
            last = (str(said).splitlines() or [f"ended with {code}"])[-1]
            raise PipelineError(
                f"git {words[0]} in {self.root}: {last}", hint="is the commit or ref in this checkout?"
            )
        return str(out)

    def _try(self, *words: str) -> str | None:
        """What git answers, or None where it refuses: there is no such thing."""
        try:
            return self._git(*words)
        except PipelineError:
            return None


def _topmost(path: PurePosixPath, folders: AbstractSet[str]) -> str:
    """The first folder on the way to `path` that is none of `folders`, else `path` itself."""
    unknown = [parent for parent in path.parents if str(parent) not in folders]
    return f"{unknown[-1]}/" if unknown else str(path)
