from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from pipeline_tools.adapters.checkout import Checkout
from pipeline_tools.adapters.registry import Registries
from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable
from pipeline_tools.steps import push
from pipeline_tools.steps.shape import Status
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.receipt import Built, Bumped, Pushed, Receipt, Tagged
from pipeline_tools.text.versions import releases
from sandbox.proxy import Answer, Fault, Proxy, refusal
from tests import registry_images as images
from tests.conftest import CI_USER, READER, READER_PASSWORD
from tests.steps.driving import Listener, application, run
from tests.steps.publishing import World
from tests.world import git

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.proxy import Exchange, Request
    from sandbox.registry import Registry as Server

COMMIT, OTHER = "c0ffee" + "0" * 34, "0ddba1" + "0" * 34
OURS, THEIRS = "sha256:" + "a" * 64, "sha256:" + "b" * 64
HOST = "registry.example.com"
RECEIPT = Receipt(
    tag=Tagged("v1.4.0", "1.4.0", COMMIT), build=Built(f"{HOST}/shop/candidates", f"sha-{COMMIT}-0", OURS)
)
OPTIONS = push.Options(repository=f"{HOST}/shop/app")
NOTHING = push.Facts(
    published=None, revision=None, commit=COMMIT, known={}, moving={}, immutable=None, unread=()
)


def request(receipt: Receipt = RECEIPT, **changes: Any) -> push.Request:
    return push.request(dataclasses.replace(OPTIONS, **changes), receipt)


def named(version: str) -> Receipt:
    return dataclasses.replace(RECEIPT, tag=Tagged(f"v{version}", version, COMMIT))


def known(*tags: str) -> dict[str, tuple[Any, ...]]:
    return {"git": tuple(releases(tags))}


# What to publish: pure ---------------------------------------------------------------------------------------


def test_the_receipt_names_tag_and_source() -> None:
    made = request(tag="v9.9.9")
    assert (str(made.version), made.digest, str(made.source)) == ("1.4.0", OURS, f"{HOST}/shop/candidates")


def test_options_name_tag_and_source() -> None:
    made = request(Receipt(), tag="v1.5.0", source=f"{HOST}/shop/other:x@{THEIRS}")
    assert (str(made.version), made.digest, str(made.source)) == ("1.5.0", THEIRS, f"{HOST}/shop/other")
    assert made.commit is None


@pytest.mark.parametrize(
    ("receipt", "changes", "said"),
    [
        (Receipt(), {}, "no version tag"),
        (Receipt(tag=RECEIPT.tag), {}, "the receipt has none"),
        (RECEIPT, {"repository": None}, "which repository"),
        (RECEIPT, {"source": f"{HOST}/shop/app:1"}, "has no digest"),
        (RECEIPT, {"source": f"app@{OURS}"}, "not a repository of a registry"),
        (Receipt(build=RECEIPT.build), {"tag": "latest"}, "not a SemVer"),
        (Receipt(build=RECEIPT.build), {"tag": "v1.0.0+1"}, "build metadata"),
    ],
)
def test_what_cannot_be_published(receipt: Receipt, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        request(receipt, **changes)


def test_a_new_version() -> None:
    plan = push.plan(request(), NOTHING)
    assert (plan.status, plan.write, plan.digest) == (Status.PLANNED, ("1.4.0",), OURS)
    assert list(plan.lines()) == [f"+ {HOST}/shop/app:1.4.0 → {OURS} of {HOST}/shop/candidates"]


def test_a_digest_that_is_known_after_build() -> None:
    built = dataclasses.replace(RECEIPT, build=Built(f"{HOST}/shop/app", "t", None))
    plan = push.plan(request(built), NOTHING)
    assert list(plan.lines()) == [f"+ {HOST}/shop/app:1.4.0 → digest known after build"]
    assert plan.foreseen().summary() == f"{HOST}/shop/app:1.4.0 @ known after build"
    with pytest.raises(PipelineError, match="no digest yet"):
        push.apply(plan, push.Ports(None, Registries(lambda _: None), list))  # type: ignore[arg-type]


def test_a_version_that_is_there() -> None:
    plan = push.plan(request(), dataclasses.replace(NOTHING, published=OURS))
    assert (plan.status, plan.write, plan.adopted) == (Status.UNCHANGED, (), False)


def test_a_version_of_the_same_commit_is_adopted() -> None:
    facts = dataclasses.replace(NOTHING, published=THEIRS, revision=COMMIT)
    plan = push.plan(request(), facts)
    assert (plan.status, plan.digest, plan.adopted) == (Status.UNCHANGED, THEIRS, True)
    assert f"as {THEIRS}: taken as it is" in next(iter(plan.lines()))
    assert plan.foreseen().digest == THEIRS


def test_moving_tags_go_to_what_was_adopted() -> None:
    facts = dataclasses.replace(NOTHING, published=THEIRS, revision=COMMIT, moving={"latest": OURS})
    plan = push.plan(request(moving=("latest",)), facts)
    assert (plan.write, plan.digest, plan.origin) == (("latest",), THEIRS, plan.target)


@pytest.mark.parametrize(
    ("revision", "commit"), [(OTHER, COMMIT), (None, COMMIT), (OTHER, None), (None, None)]
)
def test_a_version_of_another_commit_is_refused(revision: str | None, commit: str | None) -> None:
    facts = dataclasses.replace(NOTHING, published=THEIRS, revision=revision, commit=commit)
    with pytest.raises(Refused) as caught:
        push.plan(request(), facts)
    assert (
        f"of revision {revision or 'unknown'}; this release is of {commit or 'unknown'}"
        in caught.value.message
    )
    assert caught.value.exit_code == 3


ALL = ("minor", "major", "latest")
GIT = " (known from git)"


@pytest.mark.parametrize(
    ("version", "tags", "moved", "kept"),
    [
        ("1.4.0", (), ("1.4", "1", "latest"), {}),
        ("1.4.0", ("v1.3.9", "1.4.0", "2.0.0-rc.1"), ("1.4", "1", "latest"), {}),
        ("1.4.0", ("1.4.1",), (), dict.fromkeys(("1.4", "1", "latest"), f"1.4.1 is newer{GIT}")),
        (
            "1.4.5",
            ("1.5.0", "v2.0.0"),
            ("1.4",),
            {"1": f"1.5.0 is newer{GIT}", "latest": f"2.0.0 is newer{GIT}"},
        ),
        ("1.4.0-rc.1", (), (), dict.fromkeys(("1.4", "1", "latest"), "1.4.0-rc.1 is a pre-release")),
        ("0.3.0", (), ("0.3", "latest"), {"0": "major version 0 promises no compatibility"}),
    ],
)
def test_moving_tags_only_go_forward(
    version: str, tags: tuple[str, ...], moved: tuple[str, ...], kept: dict[str, str]
) -> None:
    facts = dataclasses.replace(
        NOTHING, known=known(*tags), moving=dict.fromkeys(("1.4", "1", "0.3", "latest"))
    )
    plan = push.plan(request(named(version), moving=ALL), facts)
    assert (tuple(plan.moved), plan.kept) == (moved, kept)
    assert plan.write == (version, *moved)
    assert [f"  {tag} stays: {reason}" for tag, reason in kept.items()] == list(plan.lines())[
        1 + len(moved) :
    ]


def test_moving_tags_that_are_there_are_not_written_again() -> None:
    facts = dataclasses.replace(NOTHING, published=OURS, moving={"1.4": OURS, "latest": THEIRS})
    plan = push.plan(request(moving=("minor", "latest")), facts)
    assert (plan.write, tuple(plan.moved)) == (("latest",), ("1.4", "latest"))
    assert list(plan.lines()) == [
        f"+ {HOST}/shop/app:latest → {OURS} (the first of its series)",
    ]


def test_a_moving_tag_says_what_it_goes_past() -> None:
    facts = dataclasses.replace(NOTHING, known=known("v1.3.0", "v1.2.9", "v1.4.0"), moving={"latest": THEIRS})
    plan = push.plan(request(moving=("latest",)), facts)
    assert list(plan.lines())[1].endswith(" (newer than 1.3.0)")


def test_where_tags_are_immutable_no_plan_moves_any() -> None:
    with pytest.raises(Refused, match=r"has immutable tags: 1\.4, latest cannot move") as caught:
        push.plan(request(moving=("minor", "latest")), dataclasses.replace(NOTHING, immutable=True))
    assert caught.value.exit_code == 3


def test_a_part_of_a_publication_is_no_publication() -> None:
    outcome = push.Outcome(Status.FAILED, f"{HOST}/shop/app", "1.4.0", OURS, (), {}, left=("latest",))
    assert push.record(RECEIPT, outcome) is RECEIPT
    assert outcome.summary() == f"{HOST}/shop/app: done: 1.4.0; left: latest"


def test_the_receipt_forgets_what_an_older_image_led_to() -> None:
    outcome = push.Outcome(Status.DONE, f"{HOST}/shop/app", "1.4.0", OURS, ("latest",), {})
    before = dataclasses.replace(RECEIPT, bump=Bumped("platform/env", "main", COMMIT))
    after = push.record(before, outcome)
    assert after.push == Pushed(f"{HOST}/shop/app", "1.4.0", OURS, ("latest",))
    assert after.bump is None
    assert push.record(after, outcome) is after


# What is done: real registries -------------------------------------------------------------------------------


@pytest.fixture(params=["registry", "token_registry"])
def either(request: pytest.FixtureRequest, registry: Server, token_registry: Server) -> Server:
    return {"registry": registry, "token_registry": token_registry}[request.param]


@pytest.fixture
def same(tmp_path: Path, registry: Server, repository: str) -> World:
    """Candidates and releases in one repository."""
    return World(application(tmp_path / "app"), registry, repository, repository)


@pytest.fixture
def across(tmp_path: Path, either: Server, repository: str) -> World:
    """Candidates in a repository of their own."""
    return World(application(tmp_path / "app"), either, f"{repository}/candidates", repository)


def shown(exchanges: list[Exchange]) -> list[str]:
    """Method and what it was about, those that a challenge answered left out."""
    return [f"{e.method} {e.path.split('/')[-2]}" for e in exchanges if e.status != 401]


def test_in_one_repository_it_takes_a_get_and_a_put(same: World) -> None:
    before = images.raw_manifest(same.server, same.target, "sha-x")
    with same.server.recording() as exchanges:
        outcome = same.run()
    assert [e.method for e in exchanges] == ["HEAD", "GET", "PUT", "HEAD"]
    assert sum(e.sent for e in exchanges) == len(before)
    assert images.raw_manifest(same.server, same.target, "1.4.0") == before
    assert (outcome.status, outcome.digest) == (Status.DONE, same.digest)


def test_across_repositories_blobs_are_mounted(across: World) -> None:
    with across.server.recording() as exchanges:
        outcome = across.run()
    assert shown(exchanges) == [
        "HEAD manifests",
        "GET manifests",
        *["POST uploads"] * 3,
        # Referrers: no API for them, no tag.
        "GET referrers",
        "HEAD manifests",
        "PUT manifests",
        "HEAD manifests",
    ]
    raw = images.raw_manifest(across.server, across.target, "1.4.0")
    assert sum(e.sent for e in exchanges if e.status != 401) == len(raw)
    assert raw == images.raw_manifest(across.server, across.candidates, "sha-x")
    assert across.contents == {"1.4.0": outcome.digest}


def test_an_index_goes_with_its_children(across: World) -> None:
    children = [
        images.put_image(across.server, across.candidates, "@", {images.REVISION: across.commit, "x": str(n)})
        for n in range(2)
    ]
    across.digest = images.put_index(across.server, across.candidates, "sha-x", children)
    across.run()
    assert across.contents == {"1.4.0": across.digest}
    for digest in (across.digest, *children):
        found = images.raw_manifest(across.server, across.target, digest)
        assert found == images.raw_manifest(across.server, across.candidates, digest)


def test_from_one_registry_to_another(
    tmp_path: Path, registry: Server, token_registry: Server, repository: str
) -> None:
    world = World(application(tmp_path / "app"), registry, repository, repository)
    world.host = token_registry.host
    world.run()
    assert images.contents(token_registry, repository) == {"1.4.0": world.digest}


def test_again_is_unchanged(across: World) -> None:
    first = across.run(moving=ALL)
    before = across.contents
    with across.server.recording() as exchanges:
        again = across.run(moving=ALL)
    assert again == dataclasses.replace(first, status=Status.UNCHANGED, usage=None)
    assert {e.method for e in exchanges} <= {"HEAD", "GET"}
    assert across.contents == before


@pytest.mark.parametrize("moving", [(), ALL])
def test_a_dry_run_writes_nothing(across: World, moving: tuple[str, ...]) -> None:
    with across.server.recording() as exchanges:
        outcome = across.run(dry_run=True, moving=moving)
    assert (outcome.status, outcome.digest) == (Status.PLANNED, across.digest)
    assert {e.method for e in exchanges} <= {"HEAD", "GET"}
    assert across.contents == {}


def test_a_dry_run_without_the_right_to_read(same: World) -> None:
    same.login = Credential(CI_USER, Secret("not-the-password"))
    listener = Listener()
    outcome = same.run(dry_run=True, moving=ALL, listener=listener)
    assert outcome.status is Status.PLANNED
    assert all(isinstance(error, Denied) for error in listener.plans[0].unread)
    with pytest.raises(Denied):
        same.run()


def test_moving_tags_follow_the_newest_of_git_and_registry(same: World) -> None:
    newer = same.put("2.0.0", OTHER)
    same.put("latest", OTHER)
    git(same.app, "tag", "v1.5.0")
    outcome = same.run(moving=ALL)
    assert outcome.moved == ("1.4",)
    assert outcome.kept == {
        "1": f"1.5.0 is newer{GIT}",
        "latest": "2.0.0 is newer (known from the registry)",
    }
    contents = same.contents
    assert contents["1.4"] == contents["1.4.0"] == same.digest
    assert "1" not in contents
    assert newer == contents["2.0.0"]
    assert contents["latest"] != same.digest


def test_a_newer_version_that_is_published_meanwhile_keeps_its_moving_tags(same: World) -> None:
    """Another release comes between our version tag and our moving tags."""
    newer: list[str] = []

    def meanwhile(asked: Request) -> None:
        if asked.method == "PUT" and asked.path.endswith("/1.4.0"):
            newer.extend(same.put(tag, OTHER) for tag in ("1.4.1", "latest"))

    with Proxy(same.server.host, (meanwhile,)).running() as proxy:
        same.host = proxy.host
        source = f"{proxy.host}/{same.candidates}@{same.digest}"
        outcome = same.run(moving=("minor", "latest"), source=source)
    reason = "1.4.1 is newer (known from the registry)"
    assert (outcome.moved, outcome.kept) == ((), {"1.4": reason, "latest": reason})
    assert same.contents == {
        "sha-x": same.digest,
        "1.4.0": same.digest,
        **dict(zip(("1.4.1", "latest"), newer, strict=True)),
    }


def test_a_pre_release_moves_nothing(same: World) -> None:
    before = same.put("latest", OTHER)
    outcome = same.run("1.4.0-rc.1", moving=ALL)
    assert outcome.moved == ()
    assert same.contents == {"1.4.0-rc.1": same.digest, "sha-x": same.digest, "latest": before}


def test_a_version_of_the_same_commit_is_taken_for_ours(across: World) -> None:
    built_before = across.put("1.4.0", across.commit)
    outcome = across.run(moving=("latest",))
    assert outcome.digest == built_before != across.digest
    assert across.contents == {"1.4.0": built_before, "latest": built_before}


def test_a_version_of_another_commit_stays(across: World) -> None:
    other = across.put("1.4.0", OTHER)
    with pytest.raises(Refused, match=OTHER) as caught:
        across.run(moving=ALL)
    assert across.commit in caught.value.message
    assert across.contents == {"1.4.0": other}


@pytest.mark.parametrize("is_index", [False, True])
def test_a_named_source_of_another_commit_is_refused(across: World, *, is_index: bool) -> None:
    """An index is refused for any one of its images."""
    server, place = across.server, across.candidates
    wrong = images.put_image(server, place, "wrong", {images.REVISION: OTHER})
    digest = images.put_index(server, place, "both", [across.digest, wrong]) if is_index else wrong
    with pytest.raises(Refused, match=OTHER) as caught:
        across.run(source=f"{across.host}/{place}@{digest}")
    assert across.commit in caught.value.message
    assert across.contents == {}


def test_a_named_source_without_an_image_is_refused(across: World) -> None:
    raw = json.dumps({"schemaVersion": 2, "mediaType": images.INDEX, "manifests": []}).encode()
    digest = images.put_manifest(across.server, across.candidates, "empty", raw, images.INDEX)
    with pytest.raises(Refused, match="holds no image"):
        across.run(source=f"{across.server.host}/{across.candidates}@{digest}")
    assert across.contents == {}


def test_a_named_source_that_names_no_commit_is_published(
    across: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Another tool built it; whoever names it answers for it."""
    digest = images.put_image(across.server, across.candidates, "foreign", {"vendor": "somebody"})
    outcome = across.run(source=f"{across.host}/{across.candidates}@{digest}")
    assert outcome.digest == digest
    assert across.contents == {"1.4.0": digest}
    assert "does not say of which commit" in caplog.text


def test_without_a_receipt_the_checkouts_tag_tells_the_commit(same: World) -> None:
    built_before = same.put("1.4.0", same.commit)
    asked = push.request(
        push.Options(
            repository=f"{same.host}/{same.target}",
            source=f"{same.host}/{same.candidates}@{same.digest}",
            tag="v1.4.0",
        ),
        Receipt(),
    )
    ports = push.Ports(Checkout(same.app), Registries(lambda _: same.login), list)
    assert run(push.STEP, asked, ports).digest == built_before


def test_immutable_tags(tmp_path: Path, registry: Server, repository: str) -> None:
    world = World(application(tmp_path / "app"), registry, repository, f"immutable/{repository}")
    assert world.run().status is Status.DONE
    assert world.run().status is Status.UNCHANGED
    world.put("latest", OTHER)
    with pytest.raises(Refused, match="immutability") as caught:
        world.run(moving=("latest",))
    assert "without immutable tags" in caught.value.hint


def test_where_tags_are_known_to_be_immutable_nothing_is_written(
    tmp_path: Path, registry: Server, repository: str
) -> None:
    world = World(application(tmp_path / "app"), registry, repository, f"immutable/{repository}")
    world.keeps_tags = True
    with registry.recording() as exchanges, pytest.raises(Refused, match="1, latest cannot move") as caught:
        world.run(moving=("major", "latest"))
    assert caught.value.exit_code == 3
    assert {e.method for e in exchanges} == {"HEAD", "GET"}
    assert world.run().status is Status.DONE
    assert world.contents == {"1.4.0": world.digest}


def test_a_failure_says_what_is_done_and_what_is_left(same: World) -> None:
    listener = Listener()
    with (
        same.server.failing(Fault("PUT", r"manifests/1$", answer=refusal(403), times=None)),
        pytest.raises(Denied) as caught,
    ):
        same.run(moving=ALL, listener=listener)
    assert listener.outcomes == [caught.value.done]
    outcome = listener.outcomes[0]
    assert (outcome.status, outcome.moved, outcome.left) == (Status.FAILED, ("1.4",), ("1", "latest"))
    assert outcome.summary().endswith(": done: 1.4.0, 1.4; left: 1, latest")
    assert same.contents.keys() == {"sha-x", "1.4.0", "1.4"}
    assert same.run(moving=ALL).moved == ("1.4", "1", "latest")


def test_somebody_else_publishes_at_the_same_time(across: World) -> None:
    """Their manifest arrives just after ours: found by the proof, planned again, and taken for ours."""
    built_before = across.put("theirs", across.commit)
    gone = Answer(200, b"", {"Docker-Content-Digest": built_before})
    first = Fault("HEAD", "manifests/1", answer=refusal(404))
    with across.server.failing(first, Fault("HEAD", "manifests/1", answer=gone, times=2)):
        outcome = across.run()
    assert outcome.digest == built_before


def test_a_candidate_that_was_cleaned_up(across: World) -> None:
    across.digest = THEIRS
    with pytest.raises(PipelineError, match="MANIFEST_UNKNOWN") as caught:
        across.run()
    assert "cleaned up" in caught.value.hint
    assert across.contents == {}


def test_who_may_only_read(tmp_path: Path, token_registry: Server, repository: str) -> None:
    world = World(application(tmp_path / "app"), token_registry, repository, repository)
    world.login = Credential(READER, Secret(READER_PASSWORD))
    assert world.run(dry_run=True).status is Status.PLANNED
    with pytest.raises(Denied, match="push") as caught:
        world.run()
    assert "right to push" in caught.value.hint
    assert world.contents == {"sha-x": world.digest}


@pytest.mark.parametrize("method", ["HEAD", "GET", "POST", "PUT"])
def test_what_does_not_pass_can_be_retried(
    tmp_path: Path, registry: Server, repository: str, method: str
) -> None:
    world = World(application(tmp_path / "app"), registry, f"{repository}/candidates", repository)
    always = Fault(method, answer=refusal(429, retry_after="0"), times=None)
    with registry.failing(always), pytest.raises(Unavailable):
        world.run()
    assert world.contents == {}
    world.run()
    assert world.contents == {"1.4.0": world.digest}
