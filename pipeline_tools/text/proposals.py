"""The merge request of a bump: what it says, and what can be read of it again."""

import re
from dataclasses import dataclass

from pipeline_tools.text import markdown

LONGEST_TITLE = 255
"""Characters that GitLab takes (docs.gitlab.com/administration/instance_limits; `app/models/concerns/issuable.rb`)."""
MOST_LINES = 2000
"""Lines of the rendered difference that are shown."""
_IMAGE = re.compile(r"^Image: (\S+):([^:\s]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Draft:
    """What a merge request is to be: from which branch into which, its texts, labels, and who is asked to review."""

    source_branch: str
    target_branch: str
    title: str
    description: str
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()


def description(message: str, overlays: tuple[str, ...], difference: str) -> str:
    """The commit's facts and the rendered difference, as Markdown.

    All that comes from outside stands in fences, where GitLab looks neither for mentions nor for quick actions.
    """
    facts = markdown.fence([*overlays, "", *message.partition("\n\n")[2].splitlines()], "text")
    lines = difference.splitlines()
    shown = markdown.fence(lines[:MOST_LINES], "diff") if lines else ""
    return f"{facts}\n{shown}"


def tags(text: str) -> dict[str, str]:
    """Tag by repository, from the trailers of a description."""
    return dict(_IMAGE.findall(text.replace("\r", "")))
