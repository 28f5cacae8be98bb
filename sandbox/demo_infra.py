"""The demo's infra chapter: a change of infrastructure from merge request to apply, drift, and the end of it all.

Real: Terraform on a root that needs no provider, OpenBao, age. A stand-in: GitLab, with states, notes and packages.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gitlab as python_gitlab
import pyrage

from sandbox.demo_shell import DemoError, Shell
from sandbox.demo_vault import Vault
from sandbox.gitlab import Access, Gitlab, Project

NAMESPACE = "sw-dev"
TERRAFORM = ("pipeline-tools", "terraform")
LENT = ("--scaleway", "demo-dev", "--secret", "PT_PASSPORT_KEY=infra/plan#passport_key")
IDENTITY = ("--secret", "PT_PLAN_IDENTITY=infra/apply#identity")
OURS = re.compile(r"(check|plan|apply|drift) |( {2}\| |error: |hint: |warning: )|\S+\.tf:\d")
NOTE_LINES = 9


@dataclass(frozen=True)
class Infra:
    """The infra project: its checkout in `shell`, where all jobs of the chapter run, and its API as `api`."""

    gitlab: Gitlab
    project: Project
    vault: Vault
    shell: Shell
    api: Any
    workspace: Path

    def job(self, name: str, merge_request: int | None = None) -> dict[str, str]:
        """A job's own variables: who it is to GitLab, and to Vault by its service account."""
        user = self.gitlab.create_user(f"{name}-{len(self.project.jobs)}")
        self.gitlab.add_member(self.project, user, Access.MAINTAINER)
        job = self.gitlab.create_job(self.project, name, user)
        page = f"{self.project.web_url}/-"
        role = "infra-apply" if name in {"apply", "destroy"} else "infra-plan"
        return {
            **self.vault.proves(NAMESPACE, f"ksa-{role}", role),
            "CI_JOB_TOKEN": self.gitlab.job_token(self.project, job=job),
            "CI_JOB_ID": str(job.id),
            "CI_JOB_URL": f"{page}/jobs/{job.id}",
            "CI_PIPELINE_URL": f"{page}/pipelines/{int(job.sha[:5], 16)}",  # one for all jobs of a commit
            **({"CI_MERGE_REQUEST_IID": str(merge_request)} if merge_request else {}),
        }

    def terraform(
        self, name: str, *words: str, expected: int = 0, merge_request: int | None = None, **variables: str
    ) -> str:
        """A job, of whose output Terraform's own is left out."""
        job = {**self.job(name, merge_request), **variables}
        return self.shell.brief(*TERRAFORM, name, *words, keeps=_ours, expected=expected, variables=job)

    @property
    def neighbour(self) -> Path:
        """The state of the root next door, which another team keeps."""
        return self.workspace / "neighbour.json"


def run(gitlab: Gitlab, project: Project, vault: Vault, workspace: Path) -> None:
    """The chapter."""
    infra = _prepared(gitlab, project, vault, workspace)
    iid = _propose(infra)
    _merge(infra, iid)
    _drift(infra)
    _destroy(infra)


def _prepared(gitlab: Gitlab, project: Project, vault: Vault, workspace: Path) -> Infra:
    gitlab.protect_branch(project, project.default_branch)
    token = gitlab.create_token(
        project, "infra", access_level=Access.MAINTAINER, scopes={"api", "write_repository"}
    )
    identity = pyrage.x25519.Identity.generate()
    _bind(vault, str(identity))
    variables = {
        "PT_GITLAB_TOKEN": token,
        "PT_PLAN_RECIPIENT": str(identity.to_public()),
        "TF_VAR_neighbour": str(workspace / "neighbour.json"),
    }
    shell = Shell(workspace / "infra", variables)
    shell.clone(project.http_url)
    api = python_gitlab.Gitlab(gitlab.url, private_token=token).projects.get(project.path)
    infra = Infra(gitlab, project, vault, shell, api, workspace)
    infra.neighbour.write_text((shell.directory / "hello" / "neighbour.json").read_text())
    return infra


def _bind(vault: Vault, identity: str) -> None:
    """Two roles: the plan's cannot read what opens plans."""
    vault.bao.client().sys.enable_secrets_engine("kv", path="infra", options={"version": "2"})
    vault.bao.write("infra/data/plan", data={"passport_key": "passport-key-of-the-demo"})
    vault.bao.write("infra/data/apply", data={"identity": identity})
    scaleway = [
        f"scaleway/project/demo-dev/data/{path}"
        for path in ("credentials/access", "credentials/secret", "config")
    ]
    vault.admit(NAMESPACE, "ksa-infra-plan", "infra-plan", [*scaleway, "infra/data/plan"])
    vault.admit(
        NAMESPACE, "ksa-infra-apply", "infra-apply", [*scaleway, "infra/data/plan", "infra/data/apply"]
    )


def _propose(infra: Infra) -> int:
    """A merge request: checked, planned, and said on it."""
    file = infra.shell.directory / "hello" / "variables.tf"
    file.write_text(file.read_text().replace("  default     = 1\n", "  default     = 2\n"))
    infra.shell.quietly("git", "checkout", "--quiet", "-b", "two-copies")
    infra.shell.quietly("git", "commit", "--quiet", "--all", "--message", "feat: two copies")
    infra.shell.quietly("git", "push", "--quiet", "origin", "HEAD")
    asked = {"source_branch": "two-copies", "target_branch": "main", "title": "Two copies"}
    request = infra.api.mergerequests.create(asked)
    print(
        f'Merge request !{request.iid}, "{request.title}". Its jobs check it, and plan it as who may only read:'
    )
    infra.terraform("check")
    infra.terraform("plan", *LENT, merge_request=request.iid)
    _show_note(infra, request)
    return int(request.iid)


def _show_note(infra: Infra, request: Any) -> None:
    (note,) = request.notes.list(get_all=True)
    (infra.workspace / "infra-note.md").write_text(note.body)
    print(f"\nThe note on {request.web_url}#note_{note.id} (workspace/infra-note.md):")
    shown = [line for line in note.body.splitlines() if line and not line.startswith("<!--")]
    print("\n".join(f"  | {line}" for line in shown[:NOTE_LINES]), flush=True)


def _merge(infra: Infra, iid: int) -> None:
    """On main the plan is made afresh, compared with the reviewed one, and applied."""
    infra.api.mergerequests.get(iid).merge(squash=True)
    infra.shell.quietly("git", "fetch", "--quiet", "origin")
    infra.shell.quietly("git", "checkout", "--quiet", "-B", "main", "origin/main")
    print("\nMerged, squashed: another commit, the same content. On main:")
    infra.terraform("plan", *LENT)
    infra.terraform("apply", "--as-reviewed", *LENT, *IDENTITY)


def _drift(infra: Infra) -> None:
    """Somebody changes what the root depends on, and then changes it back."""
    before = infra.neighbour.read_text()
    infra.neighbour.write_text(before.replace("the house next door", "somebody new"))
    print("\nThe neighbours have changed something. The nightly look at it (exit 6):")
    infra.terraform("drift", *LENT, expected=6)
    (issue,) = infra.api.issues.list(get_all=True)
    (infra.workspace / "infra-issue.md").write_text(f"# {issue.title}\n\n{issue.description}\n")
    print(f'The issue "{issue.title}" is {issue.state} (workspace/infra-issue.md).')
    infra.neighbour.write_text(before)
    print("\nThey change it back. The night after:")
    infra.terraform("drift", *LENT)
    print(f"The issue is {infra.api.issues.get(issue.iid).state}.")


def _destroy(infra: Infra) -> None:
    """A destruction is refused until somebody approves just this one."""
    print("\nThe end of it: refused (exit 3) until the passport of just this destruction is approved:")
    said = infra.terraform("destroy", *LENT, expected=3)
    found = re.search(r"--approve-deletes ([0-9a-f]+)", said)
    if not found:
        raise DemoError("the refusal names no passport")
    infra.terraform("destroy", "--approve-deletes", found[1], *LENT)


def _ours(lines: Iterator[str]) -> Iterator[str]:
    """Our own lines of a command: those that begin as ours do, and what stands indented below a step's."""
    is_step = False
    for line in lines:
        found = OURS.match(line)
        is_step = bool(found and found[1]) or (is_step and line.startswith(" " * 9))
        if found or is_step:
            yield line
