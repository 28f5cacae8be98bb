from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import manifests
from pipeline_tools.text.manifests import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, Blob, Manifest
from pipeline_tools.text.references import is_loopback


def manifest(media_type: str = OCI_MANIFEST, **content: Any) -> Manifest:
    return Manifest(media_type, json.dumps(content).encode())


def row(digest: str, **more: Any) -> dict[str, Any]:
    return {"digest": digest, "size": 1, **more}


def test_the_bytes_are_the_name() -> None:
    one, two = Manifest(OCI_MANIFEST, b"{}"), Manifest(OCI_MANIFEST, b"{ }")
    assert one.digest == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert one.digest != two.digest
    assert (one.size, two.size) == (2, 3)


def test_config_and_layers_are_blobs_each_once() -> None:
    layers = [row("b"), row("b"), row("c", urls=["https://elsewhere.example.com/c"])]
    image = manifest(config=row("a"), layers=layers)
    assert image.blobs() == (Blob("a", 1), Blob("b", 1))
    assert image.config() == Blob("a", 1)
    assert (image.is_index, image.children(), image.images()) == (False, (), ())


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_index_has_images_and_attestations(media_type: str) -> None:
    attestation = row("x", platform={"os": "unknown", "architecture": "unknown"})
    index = manifest(
        media_type, manifests=[attestation, row("y"), row("y"), row("z", platform={"os": "linux"})]
    )
    assert index.is_index
    assert index.children() == ("x", "y", "z")
    assert index.images() == ("y", "y", "z")
    assert (index.config(), index.blobs()) == (None, ())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"artifactType": "a/b", "config": row("c", mediaType="c/d")}, {"artifactType": "a/b"}),
        ({"config": row("c", mediaType="c/d")}, {"artifactType": "c/d"}),
        ({"annotations": {"k": "v"}, "manifests": []}, {"annotations": {"k": "v"}}),
    ],
)
def test_how_a_list_of_referrers_names_a_manifest(content: dict[str, Any], told: dict[str, Any]) -> None:
    found = manifest(**content)
    whole = {"mediaType": OCI_MANIFEST, "digest": found.digest, "size": found.size}
    assert found.descriptor() == whole | told


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b"null", b"\xff"])
def test_what_is_no_manifest(raw: bytes) -> None:
    with pytest.raises(PipelineError, match="is not a JSON object"):
        Manifest(OCI_MANIFEST, raw).blobs()


@pytest.mark.parametrize("rows", [[{"size": 1}], [{"digest": 7, "size": 1}], [{"digest": "a", "size": "x"}]])
def test_a_descriptor_that_is_none(rows: list[Any]) -> None:
    for act in (
        lambda: manifest(layers=rows).blobs(),
        lambda: manifest(OCI_INDEX, manifests=rows).children(),
    ):
        with pytest.raises(PipelineError, match="descriptor without digest or size"):
            act()


@pytest.mark.parametrize("odd", ["x", 7, ["x"], {"x": "y"}])
def test_members_of_another_form_say_nothing(odd: Any) -> None:
    index = manifest(OCI_INDEX, manifests=[row("a", platform=odd)])
    assert index.images() == ("a",)
    assert manifest(layers=odd if isinstance(odd, list) else 7).blobs() == ()
    config = json.dumps({"config": {"Labels": odd}, "history": odd}).encode()
    assert manifests.described(config, [1]).layers[0].made_by == ""
    assert manifests.labels(json.dumps({"config": {"Labels": 7}}).encode()) == {}


@pytest.mark.parametrize("config", [{}, {"config": None}, {"config": {}}, {"config": {"Labels": None}}])
def test_a_config_without_labels(config: dict[str, Any]) -> None:
    assert manifests.labels(json.dumps(config).encode()) == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:5000", "127.1.2.3", "localhost:5000", "[::1]:5000"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["registry.example.com", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "a@127.0.0.1", ""],
)
def test_another_machine(host: str) -> None:
    assert not is_loopback(host)
