"""What the command line says about a bump. Not a step, but the options of one: on its own, as it is there first."""

from dataclasses import dataclass

NOBODY = "pipeline-tools@noreply.invalid"


@dataclass(frozen=True)
class Options:
    """What the command line says about the bump."""

    env_project: str
    env_branch: str | None = None
    overlay: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    pin: str = "both"
    allow_downgrade: bool = False
    order: str = "semver"
    override: str | None = None
    render: bool = True
    dependents: bool = False
    check_image: bool = False
    platform: tuple[str, ...] = ()
    skip_ci: bool = False
    via_merge_request: bool = False
    label: tuple[str, ...] = ()
    reviewer: tuple[str, ...] = ()
    auto_merge: bool = False
    author_name: str = "pipeline-tools"
    author_email: str = NOBODY
    committer_name: str = "pipeline-tools"
    committer_email: str = NOBODY
    project: str | None = None
    pipeline_url: str | None = None
