"""A GitLab stand-in: its REST API and git over smart HTTP, for python-gitlab and git as they are.

Start it with `Gitlab.start(directory)`. State lives in memory, repositories are bare ones in the directory.
"""

from sandbox.gitlab.faults import Fault, delay, lost_answer, reset, status, truncate
from sandbox.gitlab.model import Access, Job, Project, TerraformState, User
from sandbox.gitlab.pipelines import JobScript, Pipeline
from sandbox.gitlab.rules import Change, Push
from sandbox.gitlab.server import Gitlab, Request

__all__ = [
    "Access",
    "Change",
    "Fault",
    "Gitlab",
    "Job",
    "JobScript",
    "Pipeline",
    "Project",
    "Push",
    "Request",
    "TerraformState",
    "User",
    "delay",
    "lost_answer",
    "reset",
    "status",
    "truncate",
]
