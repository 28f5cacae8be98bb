"""SBOM and provenance of a build: in the image's index as BuildKit lists them, and among its referrers."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import requests

from pipeline_tools.adapters import http
from pipeline_tools.adapters.buildkit import Buildkit
from pipeline_tools.adapters.checkout import Checkout
from pipeline_tools.adapters.context import Contexts
from pipeline_tools.adapters.registry import Registries
from pipeline_tools.steps import build, push
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.receipt import Built, Receipt, Tagged
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER
from tests.steps import fake_buildctl
from tests.steps.driving import application, run
from tests.world import git

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.registry import Registry as Server


class World:
    """A checkout, a BuildKit that leaves what BuildKit would, and a registry."""

    def __init__(self, directory: Path, server: Server, repository: str) -> None:
        self.server, self.repository = server, repository
        self.candidates = f"{repository}/candidates"
        app = application(directory / "app")
        self.checkout, self.tagged = Checkout(app), Tagged("v1.4.0", "1.4.0", git(app, "rev-parse", "HEAD"))
        program = directory / "buildctl"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {fake_buildctl.__file__} "$@"\n')
        program.chmod(0o755)
        path = f"{directory}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "BUILDKIT_HOST": "tcp://127.0.0.1:9"}
        login = Credential(CI_USER, Secret(CI_PASSWORD))
        self.registries = Registries(lambda _: login, partial(http.session, backoff=0.01))
        self.build_ports = build.Ports(
            self.checkout, Contexts(app, os.environ), self.registries, (Buildkit(self.environment),)
        )
        self.push_ports = push.Ports(
            self.checkout, self.registries, lambda: self.checkout.tags, lambda _: None
        )

    def candidate(self, **changes: Any) -> build.Outcome:
        options = build.Options(repository=f"{self.server.host}/{self.candidates}", attest=True)
        request = build.request(replace(options, **changes), Receipt(tag=self.tagged))
        outcome = run(build.STEP, request, self.build_ports)
        assert isinstance(outcome, build.Outcome)
        return outcome

    def publish(self, built: build.Outcome) -> None:
        options = push.Options(repository=f"{self.server.host}/{self.repository}")
        candidate = Built(built.repository, built.tag, built.digest)
        run(push.STEP, push.request(options, Receipt(self.tagged, candidate)), self.push_ports)

    def manifest(self, repository: str, reference: str) -> Any:
        return json.loads(images.raw_manifest(self.server, repository, reference))

    def referrers(self, repository: str, digest: str) -> list[Any]:
        """What the registry itself lists: by its API, by the tag's index where it has none."""
        headers = images.headers(self.server, repository)
        url = f"{self.server.url}/v2/{repository}/referrers/{digest}"
        answer = requests.get(url, headers=headers, timeout=5)
        if answer.ok:
            return list(answer.json()["manifests"])
        tag = digest.replace(":", "-")
        known = images.contents(self.server, repository)
        return list(self.manifest(repository, tag)["manifests"]) if tag in known else []


@pytest.fixture(params=["registry", "listing"])
def world(tmp_path: Path, repository: str, request: pytest.FixtureRequest) -> World:
    """On a registry without the referrers API, and on one with it."""
    return World(tmp_path, request.getfixturevalue(request.param), repository)


def test_attestations_refer_to_the_image_wherever_it_goes(world: World) -> None:
    built = world.candidate()
    image, attestation = world.manifest(world.candidates, str(built.digest))["manifests"]
    world.publish(built)
    assert world.manifest(world.repository, "1.4.0")["manifests"] == [image, attestation]
    for repository in (world.candidates, world.repository):
        (row,) = world.referrers(repository, image["digest"])
        assert {key: row[key] for key in ("mediaType", "digest", "size", "artifactType")} == {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": attestation["digest"],
            "size": attestation["size"],
            "artifactType": fake_buildctl.ARTIFACT,
        }
        assert "platform" not in row
        statements = world.manifest(repository, row["digest"])["layers"]
        said = [json.loads(images.raw_blob(world.server, repository, each["digest"])) for each in statements]
        assert tuple(each["predicateType"] for each in said) == fake_buildctl.PREDICATES


def test_built_again_they_are_listed_once(world: World) -> None:
    built = world.candidate()
    world.candidate(reuse=False)
    image, _ = world.manifest(world.candidates, str(built.digest))["manifests"]
    assert len(world.referrers(world.candidates, image["digest"])) == 1


def test_nothing_refers_to_an_image_without(world: World) -> None:
    built = world.candidate(attest=False)
    (image,) = world.manifest(world.candidates, str(built.digest))["manifests"]
    assert world.referrers(world.candidates, image["digest"]) == []


def test_the_legacy_form_travels_in_the_index(world: World) -> None:
    """A BuildKit before 0.19 knows no `oci-artifact`."""
    world.environment[fake_buildctl.VERSION] = "0.18"
    built = world.candidate()
    world.publish(built)
    image, attestation = world.manifest(world.repository, "1.4.0")["manifests"]
    assert images.raw_manifest(world.server, world.repository, attestation["digest"])
    assert world.referrers(world.repository, image["digest"]) == []
