"""Moving a branch of the env repository, and what it means when it does not move. Not a step, but the end of the bump."""

from typing import TYPE_CHECKING

from pipeline_tools.errors import Stale
from pipeline_tools.text import git_answers

if TYPE_CHECKING:
    from pipeline_tools.adapters.git import Remote


def move(
    remote: "Remote",
    branch: str,
    known: str | None,
    commit: str,
    options: tuple[str, ...] = (),
    *,
    is_ours: bool = False,
) -> None:
    """Push `commit` to `branch`, which was at `known` when it was read (None: there was none).

    Args:
        remote: the env repository.
        branch: its short name.
        known: where it was.
        commit: in the remote's scratch repository.
        options: push options.
        is_ours: the branch belongs to us alone, so that it may be moved to anything that `known` is not part of.

    Raises:
        Stale: it has moved since; Denied or Refused: it has not, and the server says no;
        Unavailable: the server could not be reached.
    """
    said = remote.push(commit, branch, options, instead_of=(known or "") if is_ours else None)
    if not said:
        return
    tip = remote.tip(branch)
    if tip == commit:  # it was accepted, and only the answer was lost
        return
    if tip != known:
        raise Stale(f"{branch} moved to {(tip or 'nothing')[:8]}")
    raise git_answers.refusal(remote.url, branch, said)
