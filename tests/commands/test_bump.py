"""`bump` against the GitLab stand-in over real git HTTP, with the real kustomize."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox.gitlab import Access, Fault, lost_answer, status
from tests.world import DIGEST, World, error, git

IMAGE = f"demo-app=registry.example.com/apps/demo-app:1.0.0@{DIGEST}"
BUMP = ("bump", "--env-project", "platform/env", "--overlay", "overlays/dev", "--image", IMAGE)

pytestmark = [pytest.mark.servers, pytest.mark.kustomize, pytest.mark.usefixtures("kustomize")]


def image(version: str) -> tuple[str, ...]:
    return (*BUMP[:-1], f"demo-app=registry.example.com/apps/demo-app:{version}@{DIGEST}")


def test_one_commit_changes_the_entry_and_nothing_else(world: World) -> None:
    before, parent = world.env_file(), world.env_tip
    answer = world.json(*BUMP)
    assert answer["status"] == "done"
    assert answer["result"]["commit"] == world.env_tip
    assert world.env("rev-parse", "main^") == parent
    assert world.env("diff", "--name-only", "main^", "main") == "overlays/dev/kustomization.yaml"
    entry = f'    newName: "registry.example.com/apps/demo-app"\n    digest: "{DIGEST}"\n'
    assert world.env_file() == before.replace("  - name: demo-app\n", f"  - name: demo-app\n{entry}").replace(
        '"0.0.0"', '"1.0.0"'
    )


def test_plan_and_outcome_show_the_rendered_difference(world: World) -> None:
    answer = world.json(*BUMP)
    for part in ("plan", "result"):
        assert "-      - image: demo-app:0.0.0\n" in answer[part]["diff"].replace(
            "        image", "      - image"
        )
        assert f"image: registry.example.com/apps/demo-app:1.0.0@{DIGEST}" in answer[part]["diff"]


def test_trailers_say_where_it_comes_from(world: World) -> None:
    world.tag("v1.0.0")
    world.run(
        *BUMP, CI_PIPELINE_URL="https://gitlab.example.com/p/1\nBump-Id: forged", GITLAB_USER_NAME="Anna"
    )
    trailers = dict(
        line.split(": ", 1)
        for line in world.env("log", "-1", "--format=%(trailers)", "main").splitlines()
        if line
    )
    assert re.fullmatch(r"[0-9a-f]{16}", trailers.pop("Bump-Id"))
    assert trailers == {
        "Source-Project": "shop/demo-app",
        "Source-Tag": "v1.0.0",
        "Source-Commit": git(world.app, "rev-parse", "HEAD"),
        "Source-Pipeline": "https://gitlab.example.com/p/1Bump-Id: forged",
        "Image": "registry.example.com/apps/demo-app:1.0.0",
        "Image-Digest": DIGEST,
    }
    assert world.env("log", "-1", "--format=%an", "main") == "Anna"


def test_several_overlays_are_one_commit(world: World) -> None:
    parent = world.env_tip
    world.run(*BUMP, "--overlay", "overlays/prod")
    assert world.env("rev-parse", "main^") == parent
    assert "1.0.0" in world.env_file()
    assert "1.0.0" in world.env_file("overlays/prod/kustomization.yaml")


def test_again_is_unchanged_and_names_the_commit(world: World) -> None:
    first = world.json(*BUMP)["result"]["commit"]
    other = world.env_commit("README.md", "later\n")
    again = world.json(*BUMP)
    assert (again["status"], again["exit_code"]) == ("unchanged", 0)
    assert again["result"]["commit"] == first
    assert world.env_tip == other


def test_newer_at_the_tip_supersedes(world: World) -> None:
    world.run(*image("1.5.0"))
    tip = world.env_tip
    answer = world.json(*image("1.4.0"))
    assert (answer["status"], answer["exit_code"]) == ("superseded", 0)
    assert world.env_tip == tip
    assert "superseded by registry.example.com/apps/demo-app:1.5.0" in world.run(*image("1.4.0")).stdout


def test_a_pre_release_comes_before_its_release(world: World) -> None:
    world.run(*image("1.5.0"))
    assert world.json(*image("1.5.0-rc.1"))["status"] == "superseded"


def test_the_same_version_with_another_digest_is_written(world: World) -> None:
    """As after a rebuild: it is neither older nor the same."""
    world.run(*image("1.5.0"))
    other = "sha256:" + "cd" * 32
    word = f"demo-app=registry.example.com/apps/demo-app:1.5.0@{other}"
    assert world.json(*BUMP[:-1], word)["status"] == "done"
    assert f'digest: "{other}"' in world.env_file()


@pytest.mark.parametrize("key", ["transformers", "generators"])
def test_folders_of_transformers_and_generators_render(world: World, key: str) -> None:
    """They are kustomizations too, in a folder outside the overlay."""
    plugin = {
        "transformers": "kind: LabelTransformer\nmetadata: {name: l}\nlabels: {team: web}\n"
        "fieldSpecs: [{path: metadata/labels, create: true}]\n",
        "generators": "kind: ConfigMapGenerator\nmetadata: {name: generated}\nliterals: [a=b]\n",
    }[key]
    world.env_commit("common/kustomization.yaml", "resources: [it.yaml]\n")
    world.env_commit("common/it.yaml", f"apiVersion: builtin\n{plugin}")
    world.env_commit("overlays/dev/kustomization.yaml", f"{world.env_file()}\n{key}: [../../common]\n")
    world.run(*BUMP)
    assert "1.0.0" in world.env_file()


def test_older_on_purpose(world: World) -> None:
    world.run(*image("1.5.0"))
    world.run(*image("1.4.0"), "--allow-downgrade")
    assert "1.4.0" in world.env_file()


def test_dry_run_writes_nothing(world: World) -> None:
    before = world.snapshot()
    answer = world.json(*BUMP, "--dry-run")
    assert answer["status"] == "planned"
    assert answer["result"]["commit"] is None
    assert "1.0.0" in answer["plan"]["diff"]
    assert world.snapshot() == before


def test_dry_run_offline_marks_what_it_could_not_read(world: World) -> None:
    world.gitlab.faults.add(Fault(status(503), path_regex=r"/platform/env\.git", times=99))
    result = world.run(*BUMP, "--dry-run")
    assert "not read: " in result.stdout
    assert error(world.run(*BUMP, exit_code=5))


def test_a_race_is_replayed(world: World) -> None:
    versions = [f"1.{minor}.0" for minor in range(4)]
    world.run(*image("0.9.0"))
    start = world.env("rev-list", "--count", "main")
    raced: list[str] = []

    def refuse_once(*_: object) -> str | None:
        """Somebody else pushes while our push is under way."""
        if not raced:
            raced.append(world.env_commit("README.md", "mine\n"))
        return None

    world.gitlab.push_hook(world.env_project, "race", refuse_once)
    answer = world.json(*image(versions[0]))
    assert answer["status"] == "done"
    assert raced
    assert int(world.env("rev-list", "--count", "main")) == int(start) + 2
    assert world.env("show", "main:README.md") == "mine"
    assert versions[0] in world.env_file()


def test_a_lost_answer_is_found_out(world: World) -> None:
    world.gitlab.faults.add(
        Fault(lost_answer(), method="POST", path_regex=r"/platform/env\.git/git-receive-pack")
    )
    answer = world.json(*BUMP)
    assert answer["result"]["commit"] == world.env_tip
    assert world.env("rev-list", "--count", "main") == "2"


def test_a_protected_branch_names_the_setting(world: World) -> None:
    world.gitlab.protect_branch(world.env_project, "main", push_access=Access.MAINTAINER)
    before = world.env_tip
    message, hint = error(world.run(*BUMP, exit_code=4))
    assert "not allowed to push code to protected branches" in message
    assert "Protected branches" in hint
    assert world.env_tip == before


def test_a_push_rule_is_a_refusal(world: World) -> None:
    world.gitlab.push_hook(world.env_project, "rule", "commit message does not follow the pattern")
    message, _ = error(world.run(*BUMP, exit_code=3))
    assert "does not follow the pattern" in message


def test_without_the_token_the_variable_is_named(world: World) -> None:
    message, hint = error(world.run(*BUMP, PT_ENV_TOKEN="", exit_code=4))
    assert "platform/env.git" in message
    assert "protected variable" in hint


def test_a_token_that_may_not_write(world: World) -> None:
    token = world.gitlab.create_token(world.env_project, "reader", scopes={"read_repository"})
    assert error(world.run(*BUMP, PT_ENV_TOKEN=token, exit_code=4))


def test_ci_skip_leaves_the_pipeline_to_the_trigger(world: World) -> None:
    world.run(*BUMP, "--skip-ci")
    assert {p.status for p in world.gitlab.pipelines(world.env_project)} <= {"skipped"}


@pytest.mark.parametrize(
    ("words", "exit_code", "expected"),
    [
        (("--overlay", "overlays/none"), 1, "no folder overlays/none"),
        (("--overlay", "overlays"), 1, "overlays has no kustomization file"),
        (("--overlay", "apps/*/overlays/dev"), 1, "--overlay apps/*/overlays/dev names no folder"),
        (("--overlay", "../x"), 1, "not a folder inside"),
        (("--overlay", "/etc"), 1, "not a folder inside"),
        (("--image", "other=x/y:1.0.0"), 1, "'other' matches no workload (there are: "),
        (("--image", "other=x/y:1.0.0", "--no-render"), 1, "no entry 'other' (it has: demo-app)"),
        (("--image", "demo-app=", "--no-render"), 1, "not an image reference"),
        (("--pin", "digest", "--image", "other=x/y:1.0.0"), 1, "has no digest"),
        (("--pin", "tag", "--image", f"other=x/y@{DIGEST}"), 1, "a tag is missing"),
        (("--image", "demo-app=x/y:$(id)"), 1, "not an image reference"),
        (("--image", "demo-app=x/y:"), 1, "not an image reference"),
        (("--image", "demo-app"), 1, "nothing is known to write"),
        (("--env-branch", "none"), 1, "no branch 'none'"),
        (("--env-branch", "a..b"), 1, "not a branch name"),
        (("--env-branch", "--upload-pack=id"), 1, "not a branch name"),
        (("--env-project", "platform/none"), 4, "platform/none"),
        (("--env-project", "http://127.0.0.1:9/x/y.git"), 5, "127.0.0.1:9"),
    ],
)
def test_bad_input_is_one_line_and_a_hint_and_changes_nothing(
    world: World, words: tuple[str, ...], exit_code: int, expected: str
) -> None:
    before = world.snapshot()
    message, _ = error(world.run(*BUMP, *words, exit_code=exit_code))
    assert expected in message
    assert world.snapshot() == before


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("overlays/dev/kustomization.yml", "images: []\n", "2 kustomization files"),
        ("overlays/dev/kustomization.yaml", "images: [\n", "malformed YAML"),
        ("overlays/dev/kustomization.yaml", "images:\n- name: demo-app\n- name: demo-app\n", "2 entries"),
        ("overlays/dev/kustomization.yaml", "a: 1\n---\nb: 1\n", "more than one document"),
        ("overlays/dev/kustomization.yaml", "images:\n- name: demo-app\n", "matches no workload"),
        (
            "overlays/dev/kustomization.yaml",
            "resources: [gone]\nimages:\n- name: demo-app\n",
            "does not render",
        ),
    ],
)
def test_a_bad_file_is_refused_and_left_alone(world: World, path: str, text: str, expected: str) -> None:
    tip = world.env_commit(path, text)
    message, _ = error(world.run(*BUMP, exit_code=1))
    assert expected in message
    assert world.env_tip == tip


def test_an_include_that_names_another_host_gets_no_credential(world: World) -> None:
    (world.app / ".gitlab-ci.yml").write_text(
        "include:\n- project: a/b\n  file: /ci_templates/release.yml\n  inputs:\n"
        "    env_project: http://localhost:9/platform/env.git\n    overlay: [overlays/dev]\n    image: [demo-app]\n"
    )
    message, hint = error(world.run("bump", exit_code=4))
    assert message == "no credential goes to http://localhost:9: only .gitlab-ci.yml names it"
    assert "--env-project" in hint


def test_a_local_env_repository_needs_no_server(world: World, tmp_path: Path) -> None:
    bare = tmp_path / "env.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(world.env_project.repository), str(bare))
    world.run(*BUMP, "--env-project", str(bare))
    assert "1.0.0" in git(bare, "show", "main:overlays/dev/kustomization.yaml")


def test_many_bumpers_at_once_lose_nothing(world: World, tmp_path: Path) -> None:
    """Every overlay has its own bumper; all commits stand in a line at the end."""
    names = [f"app{number}" for number in range(6)]
    for name in names:
        world.env_commit(f"overlays/{name}/kustomization.yaml", f"images:\n- name: {name}\n")

    def bump(name: str) -> None:
        words = ("bump", "--env-project", "platform/env", "--overlay", f"overlays/{name}", "--no-render")
        argv = (
            sys.executable,
            "-m",
            "pipeline_tools",
            *words,
            "--image",
            f"{name}=r.example.com/{name}:1.0.0",
        )
        receipt = str(tmp_path / f"{name}.json")
        subprocess.run(
            argv, cwd=world.app, env={**os.environ, **world.variables, "PT_RECEIPT": receipt}, check=True
        )

    threads = [threading.Thread(target=bump, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("1.0.0" in world.env_file(f"overlays/{name}/kustomization.yaml") for name in names)
    assert world.env("rev-list", "--merges", "main") == ""
