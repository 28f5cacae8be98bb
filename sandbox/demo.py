"""`make demo`: two releases of the example application and a change of infrastructure, on real parts where they can be had.

Real: git over HTTP, the docker engine and its build, the registry with a login, kustomize, OpenBao, Terraform.
Stand-ins: GitLab, and the cluster that vouches for a job.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from sandbox import demo_infra, demo_vault, parts
from sandbox.demo_shell import DemoError, Shell
from sandbox.engine import Engine
from sandbox.gitlab import Access, Gitlab, JobScript, Project
from sandbox.registry import Htpasswd, Registry

ROOT = parts.ROOT
WORKSPACE = ROOT / "workspace"
NEEDED = (parts.DOCKER, parts.BUSYBOX, parts.REGISTRY, parts.KUSTOMIZE, parts.OPENBAO)
USER, PASSWORD = "ci", "registry-password-of-the-demo"


@dataclass(frozen=True)
class Demo:
    """What runs while the demo does. `shell` is a job of the app project, in its checkout."""

    gitlab: Gitlab
    registry: Registry
    vault: demo_vault.Vault
    app: Project
    env: Project
    infra: Project
    shell: Shell
    workspace: Path


@contextmanager
def chapter(title: str) -> Iterator[None]:
    """Say what comes, how long it took, and, if it fails, which one failed."""
    print(f"\n\033[1m== {title}\033[0m" if sys.stdout.isatty() else f"\n== {title}", flush=True)
    begun = time.monotonic()
    try:
        yield
    except DemoError as error:
        raise DemoError(f"{title}: {error}") from None
    print(f"-- {time.monotonic() - begun:.1f} s", flush=True)


@contextmanager
def opened(workspace: Path) -> Iterator[Demo]:
    """Start everything, with its data in an empty workspace; stop it at the end."""
    shutil.rmtree(workspace, ignore_errors=True)
    workspace.mkdir()
    with ExitStack() as closing:
        scratch = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="pt-demo-")))
        gitlab = closing.enter_context(Gitlab.start(workspace / "gitlab", step=0.2))
        registry = closing.enter_context(
            Registry.start(workspace / "registry", auth=Htpasswd({USER: PASSWORD}))
        )
        engine = closing.enter_context(Engine.start(scratch))
        engine.import_busybox("busybox:1.35")
        vault = closing.enter_context(demo_vault.opened(workspace))
        print(
            f"GitLab stand-in  {gitlab.url}\nregistry         {registry.url}\n"
            f"docker engine    {engine.url}\nVault            {vault.bao.url}"
        )
        yield _prepared(workspace, gitlab, registry, engine, vault)


def _prepared(
    workspace: Path, gitlab: Gitlab, registry: Registry, engine: Engine, vault: demo_vault.Vault
) -> Demo:
    examples = ROOT / "examples"
    app = gitlab.create_project(
        "shop/demo-app", source=examples / "app", message="feat: a page that says hello"
    )
    env = gitlab.create_project("platform/env", source=examples / "env")
    infra = gitlab.create_project("platform/infra", source=examples / "infra")
    gitlab.pipeline_script(env, ["created", "pending", "running", "success"], jobs=[JobScript("render")])
    token = gitlab.create_token(
        app, "anna", access_level=Access.MAINTAINER, scopes={"api", "write_repository"}
    )
    variables = {
        "PT_GITLAB_TOKEN": token,
        "PT_ENV_TOKEN": gitlab.create_token(env, "bump", scopes={"write_repository", "read_api"}),
        "PT_TRIGGER_TOKEN": gitlab.trigger_token(env),
        "PT_REPOSITORY": f"{registry.host}/apps/demo-app",
        "PT_REGISTRY_USER": USER,
        "PT_REGISTRY_PASSWORD": PASSWORD,
        "DOCKER_HOST": engine.url,
    }
    shell = Shell(workspace / "app", variables)
    shell.clone(app.http_url)
    return Demo(gitlab, registry, vault, app, env, infra, shell, workspace)


def first(demo: Demo) -> None:
    """v1.0.0, by a name that a person chose."""
    demo.shell.run("pipeline-tools", "tag", "create", "v1.0.0")
    demo.shell.quietly("git", "fetch", "--quiet", "--tags")
    demo.shell.run("pipeline-tools", "release", "--wait")


def second(demo: Demo) -> None:
    """A feature, and the version that follows from it."""
    page = demo.shell.directory / "www" / "index.html"
    page.write_text(page.read_text() + "<p>Now with a second line.</p>\n")
    demo.shell.run("git", "commit", "--quiet", "--all", "--message", "feat: a second line")
    demo.shell.run("git", "push", "--quiet", "origin", "main")
    demo.shell.run("pipeline-tools", "tag", "create")
    demo.shell.quietly("git", "fetch", "--quiet", "--tags")
    demo.shell.run("pipeline-tools", "release", "--wait")


def again(demo: Demo) -> None:
    """The same release once more."""
    demo.shell.run("pipeline-tools", "release", "--wait")


NOTES = {"skipped": " (what the push itself would have started: ci.skip)"}


def lend(demo: Demo) -> None:
    """Vault: who may read what is bound, a job of dev reads its own credentials, and is refused prod's."""
    say = 'echo "Scaleway as $SCW_ACCESS_KEY, with the key $SCW_SECRET_KEY"'
    execute, job = ("pipeline-tools", "vault", "exec", "--scaleway"), demo.vault.job
    bind = ("pipeline-tools", "runner", "bind", "--binding", "../binding.yml")
    demo.shell.brief(*bind, keeps=_without_details, variables=demo.vault.administrator)
    for project in ("demo-dev", "demo-prod"):
        demo.vault.store(project)
    demo.shell.run(*execute, "demo-dev", "--", "sh", "-c", say, variables=job)
    print("\nThe same job on prod, which must be refused (exit 4):")
    demo.shell.run(*execute, "demo-prod", "--", "true", expected=4, variables=job)


def _without_details(lines: Iterator[str]) -> Iterator[str]:
    yield from (line for line in lines if not line.startswith(" " * 10))


def build(demo: Demo) -> None:
    """Terraform: from merge request to destroy, or why not here."""
    problem = parts.TERRAFORM.problem()
    if problem:
        print(f"\nleft out: {problem}")
        return
    demo_infra.run(demo.gitlab, demo.infra, demo.vault, demo.workspace)


CHAPTERS = (
    ("Release v1.0.0: tag, image, env repository, pipeline", first),
    ("A feature, and its release v1.1.0", second),
    ("The same release again: everything is found as done", again),
    ("Vault: a job is lent what it may have, and nothing else", lend),
    ("Infrastructure: what was reviewed is applied, and nothing else", build),
)


def summary(demo: Demo) -> str:
    """What there is now, read from the servers."""
    answer = requests.get(
        f"{demo.registry.url}/v2/apps/demo-app/tags/list", auth=(USER, PASSWORD), timeout=10
    )
    tags = ", ".join(sorted(tag.partition("-")[0] + "-…" * ("-" in tag) for tag in answer.json()["tags"]))
    log = subprocess.run(
        ("git", "-C", str(demo.env.repository), "log", "--format=  %h %s", "main"),
        capture_output=True,
        text=True,
        check=True,
    )
    pipelines = [
        f"  {p.id} {p.status} at {p.sha[:8]}{NOTES.get(p.status, '')}"
        for p in demo.gitlab.pipelines(demo.env)
    ]
    return "\n".join(
        (f"registry tags: {tags}", "env repository:", log.stdout.rstrip(), "env pipelines:", *pipelines)
    )


def leave(demo: Demo) -> None:
    """Make the workspace worth a look after the servers have stopped."""
    for name, project in (("env", demo.env), ("infra", demo.infra)):
        if not (demo.workspace / name).exists():
            demo.shell.quietly("git", "clone", "--quiet", str(project.repository), f"../{name}")
    receipt = json.loads((demo.shell.directory / "release.json").read_text())
    print(f"the receipt of {receipt['tag']['name']}: {len(receipt) - 1} steps, in workspace/app/release.json")


WORKSPACE_GUIDE = """
The workspace is workspace/ (the servers are stopped):
  app/   the application repository    env/   the env repository with its two bumps: git -C workspace/env log -p
  infra/ the infra repository          gitlab/, registry/, vault/   the servers' own data
  infra-note.md, infra-issue.md        what GitLab was told of the infrastructure: the plan's note, the drift
Try, offline:  cd workspace/app && ../../.venv/bin/pipeline-tools release --dry-run"""


def main() -> int:
    """Run the demo.

    Returns:
        0, or 1 with a line that says which part is missing or which chapter failed.
    """
    problems = [problem for part in NEEDED if (problem := part.problem())]
    if problems:
        print("demo: parts are missing here:\n  " + "\n  ".join(problems), file=sys.stderr)
        return 1
    begun = time.monotonic()
    try:
        with opened(WORKSPACE) as demo:
            for title, run in CHAPTERS:
                with chapter(title):
                    run(demo)
            print(f"\n{summary(demo)}")
            leave(demo)
    except (DemoError, OSError, RuntimeError) as error:
        print(f"\ndemo failed: {error}\nwhat it left is in workspace/", file=sys.stderr)
        return 1
    print(f"{WORKSPACE_GUIDE}\n\nAll of it took {time.monotonic() - begun:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
