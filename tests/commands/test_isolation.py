"""What a checkout's own configuration and a job's environment cannot do: run, redirect, or see a secret."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.listener import listening, reply
from tests.world import DIGEST, World, error, git

IMAGE = f"demo-app=registry.example.com/apps/demo-app:1.0.0@{DIGEST}"
BUMP = ("bump", "--env-project", "platform/env", "--overlay", "overlays/dev", "--image", IMAGE)
TRIGGER = ("trigger", "--env-project", "platform/env", "--env-branch", "main", "--env-commit", "a" * 40)
ASKS = reply(401, WWW_Authenticate="Basic realm=x")
EVERYWHERE: dict[str, Any] = {"NO_PROXY": "", "no_proxy": ""}

pytestmark = pytest.mark.servers


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# git's own variables -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_git_variables_do_not_tie_scratch_repositories_to_the_checkout(
    world: World, name: str, dry_run: bool
) -> None:
    """As in a hook, or a script that has set them: the app repository is not the env repository."""
    folder = {"GIT_OBJECT_DIRECTORY": "objects"}.get(name, "")
    before = {path: text for path, text in world.snapshot().items() if "/app/" in path}
    environment: dict[str, Any] = {name: str(world.app / ".git" / folder)}
    world.run(*BUMP, "--no-render", *(["--dry-run"] if dry_run else []), **environment)
    after = {path: text for path, text in world.snapshot().items() if "/app/" in path}
    after.pop(str(world.app / "release.json"), None)
    assert after == before
    assert git(world.app, "for-each-ref", "refs/heads/fetched") == ""


def test_a_foreign_index_does_not_make_the_checkout_look_changed(world: World, tmp_path: Path) -> None:
    world.tag("v1.0.0")
    environment: dict[str, Any] = {"GIT_INDEX_FILE": str(tmp_path / "none")}
    with listening() as registry:
        words = ("build", "--dry-run", "--repository", f"{registry.host}/x/y")
        plain, other = world.json(*words), world.json(*words, **environment)
    assert other["plan"] == plain["plan"]
    assert not (tmp_path / "none").exists()


# The environment of children ---------------------------------------------------------------------------------


def test_kustomize_sees_no_variable_but_a_few(world: World, kustomize: Path) -> None:
    """A generator may name any variable, and its value would be part of what is shown."""
    world.env_commit("overlays/dev/s.env", "PT_TRIGGER_TOKEN\nPT_REGISTRY_PASSWORD\nNPM_TOKEN\nPATH\n")
    generator = "\nconfigMapGenerator:\n- name: s\n  envs: [s.env]\n"
    select = "  - select: {kind: Deployment}\n    fieldPaths: [spec.template.spec.containers.0.%s]\n"
    replacements = "replacements:\n" + "".join(
        f"- source: {{kind: ConfigMap, name: s, fieldPath: data.{name}}}\n  targets:\n"
        f"{select % field}    options: {{create: true}}\n"
        for name, field in (
            ("PT_TRIGGER_TOKEN", "imagePullPolicy"),
            ("NPM_TOKEN", "command"),
            ("PATH", "args"),
        )
    )
    world.env_commit("overlays/dev/kustomization.yaml", world.env_file() + generator + replacements)
    result = world.process(*BUMP, "--dry-run", NPM_TOKEN="npm-token-secret", PT_REGISTRY_PASSWORD="hunter22")
    assert os.environ["PATH"][:20] in result.stdout, "the generator works"
    for secret in (world.variables["PT_TRIGGER_TOKEN"], "npm-token-secret", "hunter22", "[MASKED]"):
        assert secret not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "name", ["PT_REGISTRY_PASSWORD", "PT_GITLAB_TOKEN", "CI_JOB_TOKEN", "DOCKER_AUTH_CONFIG", "VAULT_TOKEN"]
)
def test_the_secrets_of_other_commands_are_masked_too(world: World, name: str) -> None:
    """The env repository shows what must not be shown: a secret that bump itself does not read."""
    secret = "a-secret-of-another-step"
    world.env_commit("overlays/dev/kustomization.yaml", world.env_file().replace("0.0.0", secret))
    variables: dict[str, Any] = {name: secret}
    result = world.process(*BUMP, "--dry-run", "--no-render", **variables)
    assert secret not in result.stdout + result.stderr
    assert "[MASKED]" in result.stdout


def test_no_child_has_a_secret_but_git_the_one_it_needs(
    world: World, kustomize: Path, tmp_path: Path
) -> None:
    programs, seen = tmp_path / "bin", tmp_path / "seen"
    programs.mkdir()
    for name in ("git", "kustomize"):
        real = shutil.which(name)
        program(programs / name, f'( echo "$0 $*"; env ) >> {seen}\nexec {real} "$@"')
    world.tag("v1.0.0")
    secrets: dict[str, Any] = {
        "PT_REGISTRY_PASSWORD": "registry-secret",
        "CI_JOB_TOKEN": "job-token-secret",
        "VAULT_ID_TOKEN": "vault-secret",
    }
    path: dict[str, Any] = {"PATH": f"{programs}:{os.environ['PATH']}"}
    world.process("tag", "check", **secrets, **path)
    world.process(*BUMP, **secrets, **path)
    text = seen.read_text()
    assert "/kustomize build" in text
    assert " rev-parse" in text, "GitPython's git was seen"
    for secret in (*secrets.values(), world.variables["PT_TRIGGER_TOKEN"]):
        assert secret not in text
    names = {
        line.partition("=")[0] for line in text.splitlines() if line.startswith(("PT_", "CI_", "VAULT_"))
    }
    assert names <= {"PT_GIT_USER", "PT_GIT_PASSWORD"}


# The checkout's .git/config ----------------------------------------------------------------------------------


def test_nothing_that_the_checkout_configures_is_run(world: World, tmp_path: Path) -> None:
    world.tag("v1.0.0")
    seen = tmp_path / "seen"
    script = program(tmp_path / "monitor", f"env >> {seen}")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    program(hooks / "post-index-change", f"env >> {seen}")
    git(world.app, "config", "core.fsmonitor", str(script))
    git(world.app, "config", "core.hooksPath", str(hooks))
    for path in world.app.glob("*"):
        os.utime(path, (0, 0)) if path.is_file() else None  # the index wants to be refreshed
    with listening() as registry:
        world.process("build", "--dry-run", "--repository", f"{registry.host}/x/y")
    assert not seen.exists()


def test_a_proxy_of_the_checkout_is_not_asked(world: World) -> None:
    with listening(ASKS) as proxy:
        for key in ("http.proxy", f"http.{world.gitlab.url}.proxy"):
            git(world.app, "config", key, proxy.url)
        world.process(*BUMP, "--no-render", **EVERYWHERE)
        assert proxy.seen == []


def test_an_address_is_not_rewritten_by_the_checkout(world: World) -> None:
    with listening(ASKS) as other:
        git(world.app, "config", f"url.{other.url}/.insteadOf", f"{world.gitlab.url}/platform/")
        world.process(*BUMP, "--no-render", **EVERYWHERE)
        assert other.seen == []


def test_an_origin_on_another_host_gets_no_token_of_this_gitlab(world: World) -> None:
    world.tag("v1.0.0")
    git(world.app, "config", "--unset-all", "credential.helper")
    with listening(ASKS) as other:
        git(world.app, "remote", "set-url", "origin", f"{other.url}/shop/demo-app.git")
        world.run(
            "tag",
            "check",
            "--dry-run",
            CI_SERVER_URL=world.gitlab.url,
            CI_PROJECT_PATH="shop/demo-app",
            CI_JOB_TOKEN="job-token-secret",
        )
        assert other.seen
        assert {"Authorization"} & {name for request in other.seen for name in request.headers} == set()


# Redirects ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "env_token"), [(302, True), (307, False), (308, False)])
def test_no_token_follows_a_redirect_of_the_api(world: World, status: int, env_token: bool) -> None:
    """GET with PT_ENV_TOKEN in a header; POST with PT_TRIGGER_TOKEN in its body."""
    with (
        listening() as other,
        listening(lambda seen: (status, {"Location": other.other_url + seen.path}, b"")) as first,
    ):
        changed = {} if env_token else {"PT_ENV_TOKEN": None}
        result = world.run(*TRIGGER, "--gitlab-url", first.url, exit_code=4, **changed)
        message, hint = error(result)
        assert "no token goes there" in message
        assert "--gitlab-url" in hint
        assert first.heard(world.variables["PT_ENV_TOKEN" if env_token else "PT_TRIGGER_TOKEN"])
        assert other.seen == []


def test_a_redirect_of_git_gets_no_credential(world: World) -> None:
    """Git follows the first redirect by itself; the credential is for the origin alone."""
    with (
        listening(ASKS) as other,
        listening(lambda seen: (302, {"Location": other.other_url + seen.path}, b"")) as first,
    ):
        error(world.run(*BUMP, "--gitlab-url", first.url, exit_code=4))
        assert other.seen
        assert {"Authorization"} & {name for request in other.seen for name in request.headers} == set()


def test_the_job_token_stays_on_its_own_gitlab(world: World) -> None:
    with listening() as other:
        words = ("trigger", "--env-project", f"{other.url}/platform/env.git", *TRIGGER[3:])
        message, _ = error(
            world.run(
                *words,
                exit_code=4,
                PT_ENV_TOKEN=None,
                PT_TRIGGER_TOKEN=None,
                CI_JOB_TOKEN="job-token-secret",
                CI_SERVER_URL=world.gitlab.url,
            )
        )
        assert "no token to start a pipeline" in message
        assert other.seen == []
