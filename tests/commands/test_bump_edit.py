"""What `bump` edits and how it proves it: globs, components, dependents, new entries, pins; with the real kustomize."""

import shutil
from pathlib import Path

import pytest

from tests.world import DIGEST, World, error

NEW = f"registry.example.com/apps/demo-app:1.0.0@{DIGEST}"
BUMP = ("bump", "--env-project", "platform/env", "--image", f"demo-app={NEW}")
DEV, PROD = ("--overlay", "overlays/dev"), ("--overlay", "overlays/prod")
RESOURCE = "resources: [../../base]\n"

pytestmark = [pytest.mark.servers, pytest.mark.kustomize, pytest.mark.usefixtures("kustomize")]


def overlay(world: World, folder: str, text: str) -> None:
    world.env_commit(f"{folder}/kustomization.yaml", text)


def workloads(
    answer: dict[str, dict[str, list[dict[str, str]]]], part: str = "plan"
) -> list[tuple[str, str]]:
    return [(move["folder"], move["after"]) for move in answer[part]["workloads"]]


# What is proved ------------------------------------------------------------------------------------------------


def test_plan_and_outcome_say_which_container_runs_what(world: World) -> None:
    answer = world.json(*BUMP, *DEV)
    move = {
        "folder": "overlays/dev",
        "kind": "Deployment",
        "namespace": "demo-dev",
        "name": "demo-app",
        "container": "web",
        "before": "demo-app:0.0.0",
        "after": NEW,
    }
    assert answer["plan"]["workloads"] == answer["result"]["workloads"] == [move]
    shown = world.run(*BUMP, *PROD, "--dry-run").stdout
    assert f"overlays/prod: demo-prod/Deployment/demo-app web: demo-app:0.0.0 -> {NEW}" in shown


def test_a_misspelt_name_is_told_the_images_that_exist(world: World) -> None:
    tip = world.env_tip
    message, _ = error(world.run(*BUMP, *DEV, "--image", "dem0-app=x/y:1.0.0", exit_code=1))
    assert "'dem0-app' matches no workload (there are: " in message
    assert f"{NEW} (demo-dev/Deployment/demo-app)" in message
    assert world.env_tip == tip


def test_an_entry_that_a_later_one_overrides_is_refused(world: World) -> None:
    overlay(
        world,
        "overlays/dev",
        f"{RESOURCE}images:\n- name: demo-app\n  newTag: '1'\n- name: '.*demo-.*'\n  newTag: '9'\n",
    )
    message, hint = error(world.run(*BUMP, *DEV, exit_code=1))
    assert "matches no workload" in message
    assert ":9" in message
    assert "nothing later may replace it" in hint


def test_an_image_in_an_unknown_kind_is_shown_where_kustomize_is_told_of_it(world: World) -> None:
    world.env_commit(
        "overlays/dev/task.yaml",
        "apiVersion: x/v1\nkind: Task\nmetadata: {name: t}\nspec: {image: demo-app:0}\n",
    )
    world.env_commit("overlays/dev/fields.yaml", "images: [{path: spec/image, kind: Task}]\n")
    overlay(world, "overlays/dev", "resources: [task.yaml]\nconfigurations: [fields.yaml]\n")
    (move,) = world.json(*BUMP, *DEV)["result"]["workloads"]
    assert (move["kind"], move["container"], move["after"]) == ("Task", "spec", NEW)


def test_kubectl_renders_where_only_that_is_there(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl, git = shutil.which("kubectl"), shutil.which("git")
    if not kubectl or not git:
        pytest.skip("kubectl is not here")
    for program in (kubectl, git):
        (tmp_path / Path(program).name).symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert workloads(world.json(*BUMP, *DEV)) == [("overlays/dev", NEW)]


def test_a_remote_base_is_bumped_without_a_rendering(world: World) -> None:
    text = "resources: ['https://192.0.2.1/base?ref=v1']\nimages:\n- name: demo-app\n"
    overlay(world, "overlays/dev", text)
    answer = world.json(*BUMP, *DEV, "--no-render")
    assert answer["status"] == "done"
    assert answer["result"]["workloads"] == []
    assert world.env_file().startswith(text[:-1])


# Which overlays --------------------------------------------------------------------------------------------------


def test_a_glob_names_what_is_there_at_the_tip(world: World) -> None:
    for name in ("b", "a", ".hidden"):
        overlay(world, f"apps/{name}/overlays/dev", "resources: [../../../../base]\n")
    world.env_commit("apps/c/overlays/dev/README.md", "no kustomization\n")
    parent = world.env_tip
    answer = world.json(*BUMP, "--overlay", "apps/*/overlays/d?v", *DEV)
    assert [change["path"] for change in answer["plan"]["changes"]] == [
        "apps/a/overlays/dev/kustomization.yaml",
        "apps/b/overlays/dev/kustomization.yaml",
        "overlays/dev/kustomization.yaml",
    ]
    assert world.env("rev-parse", "main^") == parent


def test_a_folder_that_two_words_name_is_changed_once(world: World) -> None:
    answer = world.json(*BUMP, "--overlay", "overlays/[dp]*", *DEV)
    assert len(answer["plan"]["changes"]) == 2


def test_several_images_and_overlays_are_one_commit(world: World) -> None:
    world.env_commit(
        "base/job.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: j}\nspec: {containers: [{name: c, image: tool}]}\n",
    )
    world.env_commit("base/kustomization.yaml", "resources: [deployment.yaml, service.yaml, job.yaml]\n")
    parent = world.env_tip
    answer = world.json(*BUMP, *DEV, *PROD, "--image", "tool=x/tool:2.0.0")
    assert world.env("rev-parse", "main^") == parent
    assert workloads(answer) == [
        ("overlays/dev", NEW), ("overlays/dev", "x/tool:2.0.0"), ("overlays/prod", NEW), ("overlays/prod", "x/tool:2.0.0"),
    ]  # fmt: skip


# New entries, components, dependents ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before", ["", "images: []\n", "images:\n", "images:\n- name: other\n  newTag: '1'\n"]
)
def test_an_image_without_an_entry_gets_one(world: World, before: str) -> None:
    overlay(world, "overlays/dev", f"{RESOURCE}{before}")
    assert workloads(world.json(*BUMP, *DEV)) == [("overlays/dev", NEW)]
    assert world.env_file().startswith(RESOURCE)
    assert world.json(*BUMP, *DEV)["status"] == "unchanged"


def test_without_a_rendering_no_entry_is_added(world: World) -> None:
    overlay(world, "overlays/dev", RESOURCE)
    tip = world.env_tip
    message, hint = error(world.run(*BUMP, *DEV, "--no-render", exit_code=1))
    assert "no entry 'demo-app' (it has: none)" in message
    assert "--no-render" in hint
    assert world.env_tip == tip


COMPONENT = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages:\n- name: demo-app\n"


def test_a_component_is_proved_in_what_includes_it(world: World) -> None:
    overlay(world, "components/release", COMPONENT)
    for name in ("dev", "prod"):
        overlay(world, f"overlays/{name}", f"{RESOURCE}components: [../../components/release]\n")
    answer = world.json(*BUMP, "--overlay", "components/release")
    assert workloads(answer) == [("overlays/dev", NEW), ("overlays/prod", NEW)]
    assert world.env("diff", "--name-only", "main^", "main") == "components/release/kustomization.yaml"


def test_a_component_that_nothing_includes_is_refused(world: World) -> None:
    overlay(world, "components/release", COMPONENT)
    message, _ = error(world.run(*BUMP, "--overlay", "components/release", exit_code=1))
    assert "components/release is a component that no overlay includes" in message


def test_dependents_are_found_through_others_and_proved(world: World) -> None:
    overlay(world, "shared/images", f"{RESOURCE}images:\n- name: demo-app\n")
    overlay(world, "middle", "bases: ['../shared/images']\n")
    overlay(world, "overlays/dev", "resources: [./../../middle/]\nnamespace: far\n")
    overlay(world, "broken", "resources: [../middle\n")
    alone = world.json(*BUMP, "--overlay", "shared/images", "--dry-run")
    assert workloads(alone) == [("shared/images", NEW)]
    answer = world.json(*BUMP, "--overlay", "shared/images", "--dependents")
    folders = ["middle", "overlays/dev", "shared/images"]
    assert workloads(answer) == [(folder, NEW) for folder in folders]
    assert answer["plan"]["workloads"][1]["namespace"] == "far"


def test_a_dependent_that_does_not_render_stops_the_bump(world: World) -> None:
    overlay(world, "overlays/dev", f"{RESOURCE}images: []\n")
    overlay(world, "above", "resources: [../overlays/dev, gone.yaml]\n")
    tip = world.env_tip
    message, _ = error(world.run(*BUMP, *DEV, exit_code=1, PT_DEPENDENTS="true"))
    assert message.startswith("above does not render")
    assert world.env_tip == tip


# Pins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pin", "image", "lines"),
    [
        ("both", NEW, ['newTag: "1.0.0"', f'digest: "{DIGEST}"']),
        ("tag", NEW.replace(f"@{DIGEST}", ""), ['newTag: "1.0.0"']),
        ("digest", NEW.replace(":1.0.0", ""), [f'digest: "{DIGEST}"']),
    ],
)
def test_pins(world: World, pin: str, image: str, lines: list[str]) -> None:
    old = f"  newTag: 0.9.0\n  digest: sha256:{'0a' * 32}\n"
    overlay(world, "overlays/dev", f"{RESOURCE}images:\n- name: demo-app\n{old}namePrefix: a-\n")
    answer = world.json(*BUMP, *DEV, PT_PIN=pin)
    assert workloads(answer) == [("overlays/dev", image)]
    new = 'newName: "registry.example.com/apps/demo-app"'
    rows = "".join(f"  {line}\n" for line in [new, *lines])
    assert world.env_file() + "\n" == f"{RESOURCE}images:\n- name: demo-app\n{rows}namePrefix: a-\n"


def test_a_digest_pinned_to_an_older_version_is_superseded(world: World) -> None:
    """The tag of what is to be written still says its version, though it is not written."""
    world.run(*BUMP, *DEV)
    older = f"demo-app=registry.example.com/apps/demo-app:0.9.0@sha256:{'0a' * 32}"
    assert world.json(*BUMP[:-1], older, *DEV, "--pin", "digest")["status"] == "superseded"


def test_the_name_of_another_repository_is_kept_only_if_asked(world: World) -> None:
    world.run(*BUMP, *DEV)
    kept = world.json(*BUMP[:-1], "demo-app=*:1.1.0", "--pin", "tag", *DEV)
    assert workloads(kept) == [("overlays/dev", "registry.example.com/apps/demo-app:1.1.0")]
    named = world.json(*BUMP[:-1], "demo-app=demo-app:1.2.0", "--pin", "tag", *DEV)
    assert workloads(named) == [("overlays/dev", "demo-app:1.2.0")]


def test_an_asterisk_alone_says_nothing(world: World) -> None:
    message, _ = error(world.run(*BUMP[:-1], "demo-app=*", *DEV, exit_code=1))
    assert "not an image reference" in message
