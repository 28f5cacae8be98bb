"""Where passports are kept in the project's generic package registry, so that another pipeline finds them.

Grammar of names and versions: docs.gitlab.com/user/packages/generic_packages; both fit it by construction.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline_tools.text.state_backend import slug

FILE = "passport.json"
HOLDERS = "holders.json"
MOST_HOLDERS = 5


@dataclass(frozen=True)
class Place:
    """A file in the generic package registry."""

    name: str
    version: str
    file: str = FILE


def reviewed(root: str, mode: str, trees: Mapping[str, str], lock_file: str) -> Place:
    """The passport of what a merge request planned for exactly this content.

    Squash, merge and rebase commits have other ids than the merge request's, but the same trees.
    """
    content = json.dumps([mode, sorted(trees.items()), lock_file])
    return Place(_name(root), f"reviewed-{hashlib.sha256(content.encode()).hexdigest()[:40]}")


def applied(root: str, plan: str) -> Place:
    """The passport of a plan file (by its digest, `sha256:…`) that was applied, with the job that did it."""
    return Place(_name(root), f"applied-{plan.partition(':')[2][:40]}")


def last_applied(root: str) -> Place:
    """The passport that was applied last."""
    return Place(_name(root), "applied")


def holder(root: str) -> Place:
    """The jobs that began to apply last, the newest first: Terraform's lock names a host or a user, not the job."""
    return Place(_name(root), "applying", HOLDERS)


def holders(content: bytes | None) -> list[dict[str, Any]]:
    """The records in such a file; none in one that is not ours."""
    try:
        found = json.loads(content or b"[]")
    except ValueError:
        return []
    return (
        [item for item in found if isinstance(item, dict)][:MOST_HOLDERS] if isinstance(found, list) else []
    )


def _name(root: str) -> str:
    return f"terraform-{slug(root)}"
