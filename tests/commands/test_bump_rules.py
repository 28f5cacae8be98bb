"""What `bump` refuses although it could push: the env repository's rules, older versions, images that are not there."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sandbox.registry import Registry
from tests import registry_images
from tests.conftest import CI_PASSWORD, CI_USER
from tests.world import DIGEST, World, error

pytestmark = pytest.mark.servers

RULES = ".pipeline-tools.yml"


def words(version: str = "1.0.0", *more: str) -> tuple[str, ...]:
    return (
        *("bump", "--env-project", "platform/env", "--overlay", "overlays/dev", "--no-render"),
        *("--image", f"demo-app=registry.example.com/apps/demo-app:{version}@{DIGEST}", *more),
    )


def frozen(overlays: str = "overlays/dev") -> str:
    """A freeze that began yesterday and ends tomorrow, whatever the day."""
    now = datetime.now(UTC)
    begin, end = now - timedelta(days=1), now + timedelta(days=1)
    return (
        f"schema: 1\nfreeze_windows:\n- freeze_start: 0 0 {begin.day} {begin.month} *\n"
        f"  freeze_end: 0 0 {end.day} {end.month} *\n  overlays: [{overlays}]\n  reason: inventory\n"
    )


def held(by: str = "Anna") -> str:
    return f"schema: 1\nholds:\n- images: [demo-app]\n  reason: incident 12\n  by: {by}\n"


def trailers(world: World) -> dict[str, str]:
    lines = world.env("log", "-1", "--format=%(trailers)", "main").splitlines()
    return dict(line.split(": ", 1) for line in lines if line)


def test_a_freeze_refuses_with_its_line_and_end(world: World) -> None:
    tip = world.env_commit(RULES, frozen())
    message, hint = error(world.run(*words(), exit_code=3))
    assert message.startswith(".pipeline-tools.yml:3: overlays/dev is frozen (inventory) until ")
    assert "--override" in hint
    assert world.env_tip == tip


def test_a_freeze_of_other_overlays_does_not_matter(world: World) -> None:
    world.env_commit(RULES, frozen("overlays/prod"))
    assert world.json(*words())["status"] == "done"


def test_a_hold_refuses_a_dry_run_too(world: World) -> None:
    world.env_commit(RULES, held())
    assert "held by Anna (incident 12)" in error(world.run(*words("1.0.0", "--dry-run"), exit_code=3))[0]


def test_what_is_done_is_not_refused(world: World) -> None:
    world.run(*words())
    world.env_commit(RULES, frozen())
    assert world.json(*words())["status"] == "unchanged"
    assert world.json(*words("0.5.0"))["status"] == "superseded"


def test_an_override_is_recorded(world: World) -> None:
    world.env_commit(RULES, held())
    answer = world.json(*words("1.0.0", "--override", "fixes incident 12\nBump-Id: forged"))
    assert answer["status"] == "done"
    assert trailers(world)["Override"] == "fixes incident 12Bump-Id: forged"
    for part in ("plan", "result"):
        assert answer[part]["overruled"][0].startswith(
            ".pipeline-tools.yml:3: demo-app in overlays/dev is held"
        )


def test_an_override_that_overrules_nothing_leaves_no_trace(world: World) -> None:
    answer = world.json(*words(), PT_OVERRIDE="just in case")
    assert answer["result"]["overruled"] == []
    assert "Override" not in trailers(world)


@pytest.mark.parametrize("reason", ["", " \n "])
def test_an_override_without_a_reason_is_none(world: World, reason: str) -> None:
    world.env_commit(RULES, held())
    assert error(world.run(*words(), PT_OVERRIDE=reason, exit_code=3))


def test_rules_that_cannot_be_read_refuse_everything(world: World) -> None:
    tip = world.env_commit(RULES, "schema: 1\nfreze_windows: []\n")
    message, _ = error(world.run(*words("1.0.0", "--override", "x"), exit_code=1))
    assert message.startswith(".pipeline-tools.yml:2: knows no 'freze_windows'")
    assert world.env_tip == tip


def test_rules_are_read_again_on_a_replay(world: World) -> None:
    """A freeze that is pushed while our push is under way holds for it."""
    raced: list[str] = []

    def freeze(*_: object) -> None:
        if not raced:
            raced.append(world.env_commit(RULES, held()))

    world.gitlab.push_hook(world.env_project, "race", freeze)
    assert error(world.run(*words(), exit_code=3))
    assert world.env_tip == raced[0]


@pytest.mark.kustomize
@pytest.mark.usefixtures("kustomize")
def test_a_freeze_holds_for_what_is_bumped_along(world: World) -> None:
    """The production overlay builds on a folder that is bumped: with --dependents that shows, and its freeze counts."""
    world.env_commit(
        "shared/kustomization.yaml", "resources: [../base]\nimages:\n- name: demo-app\n  newTag: 0.0.0\n"
    )
    world.env_commit("overlays/prod/kustomization.yaml", "resources: [../../shared]\n")
    tip = world.env_commit(RULES, frozen("overlays/prod"))
    image = f"demo-app=registry.example.com/apps/demo-app:1.0.0@{DIGEST}"
    shared = (
        "bump",
        "--env-project",
        "platform/env",
        "--overlay",
        "shared",
        "--image",
        image,
        "--dependents",
    )
    assert "overlays/prod is frozen" in error(world.run(*shared, exit_code=3))[0]
    assert world.env_tip == tip
    assert world.json(*shared, "--override", "x")["status"] == "done"
    assert trailers(world)["Override"] == "x"


# The order of versions -----------------------------------------------------------------------------------------


def test_superseded_names_the_commit_that_was_newer(world: World) -> None:
    world.run(*words("1.5.0"))
    newer = world.env_tip
    world.run(*words("1.5.0-rc.1"))
    world.env_commit("README.md", "later\n", "Image: registry.example.com/apps/demo-app:1.5.0 in prose")
    answer = world.json(*words("1.4.0"))
    assert answer["status"] == "superseded"
    assert answer["result"]["superseded_by"] == newer
    assert (
        f"superseded by registry.example.com/apps/demo-app:1.5.0@{DIGEST}"
        in world.run(*words("1.4.0")).stdout
    )
    assert f"(commit {newer[:8]})" in world.run(*words("1.4.0")).stdout


def test_a_newer_one_by_hand_supersedes_without_a_name(world: World) -> None:
    tip = world.env_commit("overlays/dev/kustomization.yaml", world.env_file().replace('"0.0.0"', '"2.0.0"'))
    answer = world.json(*words("1.4.0"))
    assert (answer["status"], answer["result"]["superseded_by"]) == ("superseded", None)
    assert f"(at {tip[:8]})" in world.run(*words("1.4.0")).stdout


def test_the_guard_is_asked_again_on_a_replay(world: World) -> None:
    raced: list[str] = []

    def newer(*_: object) -> None:
        if not raced:
            text = world.env_file().replace('"0.0.0"', '"1.9.0"')
            raced.append(world.env_commit("overlays/dev/kustomization.yaml", text))

    world.gitlab.push_hook(world.env_project, "race", newer)
    assert world.json(*words("1.4.0"))["status"] == "superseded"
    assert world.env_tip == raced[0]


@pytest.mark.parametrize(
    ("there", "new", "status"),
    [
        ("20261123.7", "20261123.10", "done"),
        ("20261123.10", "20261123.7", "superseded"),
        ("1234", "999", "superseded"),
        ("v1234", "1235", "done"),
        ("1234", "nightly", "done"),
    ],
)
def test_build_numbers_are_numbers(world: World, there: str, new: str, status: str) -> None:
    world.run(*words(there))
    assert world.json(*words(new), PT_ORDER="numeric")["status"] == status


def test_build_numbers_are_no_versions_unless_said(world: World) -> None:
    world.run(*words("1234"))
    assert world.json(*words("999"))["status"] == "done"


# The registry --------------------------------------------------------------------------------------------------


def checked(registry: Registry, repository: str, digest: str, *more: str) -> tuple[str, ...]:
    image = f"demo-app={registry.host}/{repository}:1.0.0@{digest}"
    return (*words()[:-1], image, "--check-image", "--repository", f"{registry.host}/{repository}", *more)


@pytest.fixture
def logged_in(world: World) -> World:
    world.variables |= {"PT_REGISTRY_USER": CI_USER, "PT_REGISTRY_PASSWORD": CI_PASSWORD}
    return world


def test_an_image_that_is_there_is_bumped(logged_in: World, registry: Registry, repository: str) -> None:
    digest = registry_images.put_image(registry, repository, "1.0.0")
    answer = logged_in.json(*checked(registry, repository, digest, "--platform", "linux/amd64"))
    assert answer["status"] == "done"


@pytest.mark.parametrize("is_dry_run", [True, False])
def test_a_tag_that_is_not_there(
    logged_in: World, registry: Registry, repository: str, *, is_dry_run: bool
) -> None:
    more = ("--dry-run",) if is_dry_run else ()
    before = logged_in.snapshot()
    message, _ = error(logged_in.run(*checked(registry, repository, DIGEST, *more), exit_code=1))
    assert "is not in the registry" in message
    assert logged_in.snapshot() == before


def test_a_tag_that_stands_for_another_digest(logged_in: World, registry: Registry, repository: str) -> None:
    there = registry_images.put_image(registry, repository, "1.0.0")
    tip = logged_in.env_tip
    message, _ = error(logged_in.run(*checked(registry, repository, DIGEST), exit_code=1))
    assert f"is {there} in the registry, not {DIGEST}" in message
    assert logged_in.env_tip == tip


@pytest.mark.parametrize(
    ("platform", "exit_code"), [("linux/amd64", 0), ("linux/arm64", 0), ("linux/arm", 1)]
)
def test_the_platforms_of_an_index(
    logged_in: World, registry: Registry, repository: str, platform: str, exit_code: int
) -> None:
    children = [
        registry_images.put_image(registry, repository, "@", layers=(layer,)) for layer in (b"a", b"b")
    ]
    digest = registry_images.put_index(registry, repository, "1.0.0", children)
    result = logged_in.run(
        *checked(registry, repository, digest, "--platform", platform), exit_code=exit_code
    )
    if exit_code:
        assert f"has no {platform} (it has: linux/amd64, linux/arm64)" in error(result)[0]


def test_without_a_login_nothing_is_written(world: World, registry: Registry, repository: str) -> None:
    digest = registry_images.put_image(registry, repository, "1.0.0")
    tip = world.env_tip
    assert error(world.run(*checked(registry, repository, digest), exit_code=4))
    assert world.env_tip == tip


# Who commits ---------------------------------------------------------------------------------------------------


def test_author_and_committer_are_who_they_are_said_to_be(world: World, tmp_path: Path) -> None:
    world.run(
        *words("1.0.0", "--committer-name", "Bot <x>", "--committer-email", "bot@example.com"),
        GITLAB_USER_NAME="Anna",
        GITLAB_USER_EMAIL="anna@example.com",
    )
    assert (
        world.env("log", "-1", "--format=%an %ae %cn %ce", "main")
        == "Anna anna@example.com Bot x bot@example.com"
    )
