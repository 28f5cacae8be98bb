"""What goes along with an image from one repository to another, and what that takes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline_tools.errors import PipelineError
from pipeline_tools.steps.shape import Status
from pipeline_tools.text.manifests import Manifest
from pipeline_tools.text.usage import Usage
from sandbox.proxy import Answer, Fault, Proxy
from sandbox.referrers import ReferrersApi
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER
from tests.steps.driving import application
from tests.steps.publishing import World

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.proxy import Exchange, Request
    from sandbox.registry import Registry as Server


@pytest.fixture
def across(tmp_path: Path, registry: Server, repository: str) -> World:
    return World(application(tmp_path / "app"), registry, f"{repository}/candidates", repository)


def has(server: Server, repository: str, digest: str) -> bool:
    try:
        images.raw_manifest(server, repository, digest)
    except OSError:
        return False
    return True


def refer(server: Server, repository: str, subject: str, *contents: bytes) -> list[str]:
    """Artifacts about `subject`, listed as the registry can; their digests."""
    rows = [images.put_referrer(server, repository, subject, content) for content in contents]
    if not server.proxy.rules or not isinstance(server.proxy.rules[0], ReferrersApi):
        images.list_by_tag(server, repository, subject, rows)
    return [row["digest"] for row in rows]


def listed(server: Server, repository: str, subject: str) -> list[str]:
    """What a registry says refers to `subject`: by its API, else by the tag."""
    with server.recording():
        tag = images.contents(server, repository).get(subject.replace(":", "-"))
    assert tag
    return [row["digest"] for row in json.loads(images.raw_manifest(server, repository, tag))["manifests"]]


@pytest.mark.parametrize("source", ["registry", "listing"])
@pytest.mark.parametrize("target", ["registry", "listing"])
def test_what_refers_to_an_image_goes_along(
    tmp_path: Path, repository: str, source: str, target: str, request: pytest.FixtureRequest
) -> None:
    """Signatures and SBOMs, and what refers to those, from and to registries with the API and without."""
    here, there = request.getfixturevalue(source), request.getfixturevalue(target)
    world = World(application(tmp_path / "app"), here, f"{repository}/candidates", repository)
    world.host = there.host
    found = refer(here, world.candidates, world.digest, b"one", b"two", b"three")
    nested = refer(here, world.candidates, found[0], b"about one")
    world.run()
    for digest in (*found, *nested):
        assert images.raw_manifest(there, repository, digest) == images.raw_manifest(
            here, world.candidates, digest
        )
    tags = images.contents(there, repository).keys() - {"1.4.0"}
    if target == "listing":
        assert not tags
    else:
        assert listed(there, repository, world.digest) == found
        assert listed(there, repository, found[0]) == nested


def test_what_is_listed_already_stays_listed(across: World) -> None:
    ours = refer(across.server, across.candidates, across.digest, b"ours")
    theirs = refer(across.server, across.target, across.digest, b"theirs")
    across.run()
    assert listed(across.server, across.target, across.digest) == [*theirs, *ours]


def test_what_refers_to_another_image_does_not_go_along(across: World) -> None:
    """Whoever may write the candidates' tags may list anything."""
    other = images.put_referrer(across.server, across.candidates, "sha256:" + "0" * 64, b"other")
    images.list_by_tag(across.server, across.candidates, across.digest, [other])
    across.run()
    assert across.contents == {"1.4.0": across.digest}
    assert not has(across.server, across.target, other["digest"])


def test_a_referrer_that_was_cleaned_up_does_not_stand_in_the_way(
    across: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Its tag's list still names it."""
    gone, there = refer(across.server, across.candidates, across.digest, b"one", b"two")
    with across.server.failing(Fault("GET", gone, answer=Answer(404, b"{}", {}))):
        across.run()
    assert across.contents["1.4.0"] == across.digest
    assert listed(across.server, across.target, across.digest) == [there]
    assert "which is not there any more" in caplog.text


def test_a_list_that_is_immutable_does_not_stand_in_the_way(
    tmp_path: Path, registry: Server, repository: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A signature that came after the first version of an image: no tag can list it where tags are immutable."""
    world = World(application(tmp_path / "app"), registry, repository, f"immutable/{repository}")
    (first,) = refer(registry, world.candidates, world.digest, b"one")
    world.run("1.4.0-rc.1")
    _, later = refer(registry, world.candidates, world.digest, b"one", b"two")
    world.run("1.4.0")
    assert world.contents["1.4.0"] == world.digest
    assert listed(registry, world.target, world.digest) == [first]
    assert has(registry, world.target, later)
    assert "is there but not all of it is listed" in caplog.text


def test_referrers_are_there_before_the_version(across: World) -> None:
    refer(across.server, across.candidates, across.digest, b"one")
    with across.server.recording() as exchanges:
        across.run()
    puts = [e.path.rpartition("/")[2] for e in exchanges if e.method == "PUT" and "/manifests/" in e.path]
    assert puts[-2:] == [across.digest.replace(":", "-"), "1.4.0"]
    assert len(puts) == 3


def test_a_blob_that_many_manifests_name_is_mounted_once(across: World) -> None:
    children = [
        images.put_image(across.server, across.candidates, "@", {images.REVISION: across.commit, "x": x})
        for x in "ab"
    ]
    across.digest = images.put_index(across.server, across.candidates, "sha-x", children)
    with across.server.recording() as exchanges:
        outcome = across.run()
    mounted = [re.findall("mount=([^&]+)", e.query)[0] for e in exchanges if e.method == "POST"]
    assert len(mounted) == len(set(mounted)) == 4  # two layers, two configs
    assert outcome.usage
    assert outcome.usage.requests == len(exchanges)


# What it took ------------------------------------------------------------------------------------------------


def sent(exchanges: list[Exchange]) -> int:
    return sum(e.sent for e in exchanges if e.status == 201)


def test_an_outcome_says_what_mounting_took(across: World) -> None:
    with across.server.recording() as exchanges:
        outcome = across.run()
    raw = images.raw_manifest(across.server, across.target, "1.4.0")
    sizes = [blob.size for blob in Manifest("", raw).blobs()]
    assert outcome.usage
    assert replace(outcome.usage, seconds=0) == Usage(len(raw), sum(sizes), 0, len(exchanges), 0)
    assert sent(exchanges) == len(raw)


def test_an_outcome_says_what_sending_took(
    tmp_path: Path, registry: Server, token_registry: Server, repository: str
) -> None:
    """One layer is there already, from a run that was cut off."""
    world = World(application(tmp_path / "app"), registry, repository, repository)
    world.host = token_registry.host
    raw = images.raw_manifest(registry, repository, world.digest)
    first, second, config = json.loads(raw)["layers"] + [json.loads(raw)["config"]]
    blob = images.raw_blob(registry, repository, first["digest"])
    images.put_blob(token_registry, repository, blob)
    with token_registry.recording() as exchanges:
        outcome = world.run()
    assert outcome.usage
    assert (outcome.usage.bytes_mounted, outcome.usage.cache_hits) == (0, 1)
    assert outcome.usage.bytes_pushed == second["size"] + config["size"] + len(raw) == sent(exchanges)


def test_tries_again_are_requests_too(across: World) -> None:
    fault = Fault("GET", "manifests", answer=Answer(503), times=2)
    with across.server.failing(fault), across.server.recording() as exchanges:
        outcome = across.run()
    assert outcome.usage
    assert outcome.usage.requests == len(exchanges)


CHILD = """
import sys
from pathlib import Path
from pipeline_tools.cli import main
try:
    main()
finally:
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""
"""The peak in KiB, proc(5). Not `ru_maxrss`, which a child has from whoever started it."""


def test_an_image_is_never_whole_in_memory(
    tmp_path: Path, registry: Server, token_registry: Server, repository: str
) -> None:
    """A layer of 80 MiB, which gzip does not make smaller, in a process that needs 40 MB for itself and may have 100."""
    world = World(application(tmp_path / "app"), registry, repository, repository)
    world.digest = images.put_image(registry, repository, "large", layers=(os.urandom(80 * 1024 * 1024),))
    words = ("push", "--tag=v1.4.0", f"--source={registry.host}/{repository}@{world.digest}")
    login = {"PT_REGISTRY_USER": CI_USER, "PT_REGISTRY_PASSWORD": CI_PASSWORD}
    hosts = {
        "PT_REPOSITORY": f"{token_registry.host}/{repository}",
        "PT_CANDIDATE_REPOSITORY": f"{registry.host}/{repository}",
    }
    done = subprocess.run(
        (sys.executable, "-c", CHILD, *words),
        cwd=world.app, env={**os.environ, **login, **hosts}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert images.contents(token_registry, repository) == {"1.4.0": world.digest}
    assert int(done.stderr.split()[-1]) * 1024 < 100e6


# What the registry says ----------------------------------------------------------------------------------------


class Tags:
    """A proxy's rule: a repository of `count` tags, of which a listing gives 10 000, as Artifact Registry's does."""

    def __init__(self, count: int, most: int = 10_000) -> None:
        self.tags = [f"0.{number}.0" for number in range(count)][:most]

    def __call__(self, request: Request) -> Answer | None:
        path, _, query = request.path.partition("?")
        if not path.endswith("/tags/list"):
            return None
        start = int((re.findall(r"last=(\d+)", query) or [0])[0])
        page, rest = self.tags[start : start + 1000], self.tags[start + 1000 :]
        link = {"Link": f'<{path}?n=1000&last={start + 1000}>; rel="next"'} if rest else {}
        return Answer(200, json.dumps({"tags": page}).encode(), {"Content-Type": "application/json", **link})


def test_of_more_tags_than_are_listed_the_moving_tag_tells_the_newest(across: World) -> None:
    """2.0.0 is known neither from git nor from the listing, but `latest` stands for it."""
    labels = {images.REVISION: across.commit, "org.opencontainers.image.version": "2.0.0"}
    before = images.put_image(across.server, across.target, "latest", labels)
    with Proxy(across.server.host, (Tags(12_000),)).running() as proxy:
        across.host = proxy.host
        outcome = across.run(moving=("major", "latest"))
    assert outcome.moved == ("1",)
    assert outcome.kept == {"latest": "2.0.0 is newer (known from the label of latest)"}
    assert across.contents == {"1.4.0": outcome.digest, "1": outcome.digest, "latest": before}


def test_a_whole_listing_needs_no_labels(across: World) -> None:
    """A label may be the base image's, which the image inherited."""
    labels = {"org.opencontainers.image.version": "22.4.0"}
    images.put_image(across.server, across.target, "latest", labels)
    with Proxy(across.server.host, (Tags(9_999),)).running() as proxy:
        across.host = proxy.host
        outcome = across.run(moving=("latest",))
    assert outcome.moved == ("latest",)


class Anything:
    """A proxy's rule: a registry that keeps manifests of any media type, as the specification has it."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, bytes]] = {}

    def __call__(self, request: Request) -> Answer | None:
        if "/manifests/" not in request.path:
            return None
        if request.method == "PUT":
            kind = next(value for key, value in request.headers.items() if key.lower() == "content-type")
            self.kept[request.path] = kind, request.body()
            return Answer(201)
        if request.path not in self.kept:
            return Answer(404)
        kind, raw = self.kept[request.path]
        return Answer(200, raw, {"Content-Type": kind, "Docker-Content-Digest": Manifest(kind, raw).digest})


def test_an_unknown_media_type_is_passed_through_as_it_is(across: World) -> None:
    blob = images.put_blob(across.server, across.candidates, b"a model")
    raw = json.dumps({"layers": [{"mediaType": "x/y", **blob}], "new": [1, 2]}, indent=3).encode()
    kind = "application/vnd.example.model.v3+json"
    across.digest = Manifest(kind, raw).digest
    rule = Anything()
    with Proxy(across.server.host, (rule,)).running() as proxy:
        rule.kept[f"/v2/{across.candidates}/manifests/{across.digest}"] = kind, raw
        across.host = proxy.host
        source = f"{proxy.host}/{across.candidates}@{across.digest}"
        assert across.run(source=source).status is Status.DONE
    assert rule.kept[f"/v2/{across.target}/manifests/1.4.0"] == (kind, raw)
    assert images.raw_blob(across.server, across.target, blob["digest"]) == b"a model"


def test_a_registry_that_keeps_something_else(across: World) -> None:
    """Its answers say what we pushed; what it has is another image, of no commit of ours."""
    other = images.put_image(across.server, across.candidates, "@", {"other": "1"})
    answer = Answer(200, b"", {"Docker-Content-Digest": other})
    with (
        across.server.failing(
            Fault("HEAD", r"manifests/1\.4\.0", answer=Answer(404)),
            Fault("HEAD", r"manifests/1\.4\.0", answer=answer, times=None),
        ),
        pytest.raises(PipelineError, match=other),
    ):
        across.run()
