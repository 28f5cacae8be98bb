"""Images from place to place, beside skopeo; and a release that need not build.

Seconds of the retag are ours in one process beside skopeo's whole process: a step of ours starts Python once and does
more than to retag. Requests and bytes are what a proxy between client and registry counted.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import requests

from benchmarks.bumps import git
from benchmarks.rows import Row, seconds, side_by_side
from pipeline_tools.adapters.registry import Registries
from pipeline_tools.steps import promoting
from pipeline_tools.text.manifests import OCI_MANIFEST, Manifest
from pipeline_tools.text.references import Repository
from sandbox import demo, parts
from sandbox.registry import Registry

MB = 1_000_000
LAYERS, LAYER = 4, 8 * MB
LARGE = 2000 * MB
SLOW = "RUN sleep 30\n"
AGAIN = 5

CHILD = """
import sys
from pathlib import Path
from pipeline_tools.cli import main
try:
    main()
finally:
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


def rows() -> list[Row]:
    """What can be measured with the parts that are here."""
    missing = [problem for part in (parts.REGISTRY, parts.SKOPEO) if (problem := part.problem())]
    if missing:
        print("images: left out, " + "; ".join(missing))
        return []
    with tempfile.TemporaryDirectory() as name, Registry.start(Path(name) / "registry") as registry:
        source = Repository(registry.host, "candidates/app")
        _image(registry, source.name, [LAYER] * LAYERS)
        return [
            *_retag(registry, source),
            *_across(registry, source),
            _large(registry, Path(name)),
            *_release(),
        ]


def _image(registry: Registry, name: str, sizes: list[int]) -> Manifest:
    """An image with layers of noise, under the tag `a`."""
    config = json.dumps({"os": "linux", "architecture": "amd64", "author": os.urandom(8).hex()}).encode()
    told = {**_blob(registry, name, [config]), "mediaType": "application/vnd.oci.image.config.v1+json"}
    kind = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
    layers = [{**kind, **_blob(registry, name, _Noise(size))} for size in sizes]
    data = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": told, "layers": layers}
    made = Manifest(OCI_MANIFEST, json.dumps(data).encode())
    Registries(lambda _: None).at(Repository(registry.host, name)).put(name, "a", made)
    return made


class _Noise:
    """`size` bytes in pieces of a megabyte, the same each time: each another, or a blob would be copies of one."""

    def __init__(self, size: int) -> None:
        self._piece, self._count = os.urandom(min(size, MB)), max(1, size // MB)

    def __iter__(self) -> Iterator[bytes]:
        return (number.to_bytes(8, "big") + self._piece[8:] for number in range(self._count))


def _blob(registry: Registry, name: str, pieces: Iterable[bytes]) -> dict[str, str | int]:
    """Upload, not through the proxy; its descriptor without media type."""
    hashed, size = hashlib.sha256(), 0
    for piece in pieces:
        hashed.update(piece)
        size += len(piece)
    digest = f"sha256:{hashed.hexdigest()}"
    opened = requests.post(f"http://{registry.proxy.backend}/v2/{name}/blobs/uploads/", timeout=60)
    url = opened.headers["Location"]
    requests.put(url, params={"digest": digest}, data=iter(pieces), timeout=600).raise_for_status()
    return {"digest": digest, "size": size}


def _retag(registry: Registry, source: Repository) -> list[Row]:
    """A second tag in the same repository: ours to read and to put back, skopeo's to copy."""
    ours = Registries(lambda _: None).at(source)

    def mine() -> None:
        ours.put(source.name, "ours", ours.get(source.name, "a"))

    def other() -> None:
        _skopeo(f"{source}:a", f"{source}:theirs")

    (our_requests, _), (their_requests, _) = (_counted(registry, each) for each in (mine, other))
    what = "a tag more in one repository"
    return [
        Row(what, "`skopeo copy`", *side_by_side(mine, other), goal=1 / 3),
        Row(f"{what}: requests", "`skopeo copy`", our_requests, their_requests, unit=""),
    ]


def _across(registry: Registry, source: Repository) -> list[Row]:
    """From repository to repository, neither side with anything remembered."""

    def mine() -> None:
        target, registries = Repository(registry.host, "releases/ours"), Registries(lambda _: None)
        manifest = registries.at(source).get(source.name, "a")
        promoting.bring(manifest, source, target, registries)
        registries.at(target).put(target.name, "1.0.0", manifest)

    def other() -> None:
        _skopeo(f"{source}:a", f"{registry.host}/releases/theirs:1.0.0")

    (our_requests, our_bytes), (their_requests, their_bytes) = (
        _counted(registry, each) for each in (mine, other)
    )
    what = f"from repository to repository, {LAYERS} layers of {LAYER // MB} MB"
    return [
        Row(f"{what}: bytes sent", "`skopeo copy`, cold", our_bytes / MB, their_bytes / MB, 0.001, "MB"),
        Row(f"{what}: requests", "`skopeo copy`, cold", our_requests, their_requests, unit=""),
    ]


def _large(registry: Registry, directory: Path) -> Row:
    """An image of 2 GB from one registry to another, by the command."""
    source = Repository(registry.host, "candidates/large")
    image = _image(registry, source.name, [LARGE])
    app = directory / "app"
    git(directory, "init", "--quiet", str(app))
    who = ("-c", "user.name=Anna", "-c", "user.email=anna@example.com")
    git(app, *who, "commit", "--quiet", "--allow-empty", "--message", "an application")
    git(app, "tag", "v1.0.0")
    with Registry.start(directory / "other") as other:
        words = (
            "push",
            "--tag=v1.0.0",
            f"--source={source}@{image.digest}",
            f"--repository={other.host}/large",
        )
        argv = (sys.executable, "-c", CHILD, *words)
        done = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=app)
    peak = int(done.stderr.split()[-1]) * 1024 / MB
    what = f"an image of {LARGE // MB} MB from one registry to another: peak memory"
    return Row(what, "100 MB", peak, 100, 1.0, "MB")


def _release() -> list[Row]:
    """A commit that another tag has released already, beside the release that had to build it for 30 s.

    The build is measured once, to keep the run short; a busy machine makes it longer and the ratio better than it is.
    """
    missing = [problem for part in demo.NEEDED if (problem := part.problem())]
    if missing:
        print("release without a build: left out, " + "; ".join(missing))
        return []
    with tempfile.TemporaryDirectory() as directory, demo.opened(Path(directory) / "workspace") as world:
        dockerfile = world.shell.directory / "Dockerfile"
        dockerfile.write_text(dockerfile.read_text().replace("COPY", f"{SLOW}COPY", 1))
        world.shell.quietly("git", "commit", "--quiet", "--all", "--message", "feat: a slow build")
        world.shell.quietly("git", "push", "--quiet", "origin", "main")
        built = _released(world, "v1.0.0")
        again = [_released(world, f"v1.0.{number}") for number in range(1, 1 + AGAIN)]
    what = f"`release` of a commit that is built, best of {AGAIN}"
    return [Row(what, "`release` with its build of 30 s, once", min(again), built, 1 / 20)]


def _released(world: demo.Demo, version: str) -> float:
    world.shell.quietly("pipeline-tools", "tag", "create", version)
    world.shell.quietly("git", "fetch", "--quiet", "--tags")
    return seconds(lambda: world.shell.quietly("pipeline-tools", "release", "--tag", version))


def _skopeo(source: str, target: str) -> None:
    """Copy, with nothing remembered from before."""
    with tempfile.TemporaryDirectory() as home:
        words = ("copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false")
        argv = ("skopeo", *words, f"docker://{source}", f"docker://{target}")
        # As root it remembers blobs for the whole machine, as anybody else below XDG_DATA_HOME
        # (containers/image, pkg/blobinfocache/default.go).
        nobody = {"_CONTAINERS_ROOTLESS_UID": "65534", "XDG_DATA_HOME": home, "HOME": home}
        subprocess.run(argv, check=True, capture_output=True, env={"PATH": os.environ["PATH"], **nobody})


def _counted(registry: Registry, act: Callable[[], None]) -> tuple[int, int]:
    """Requests, and bytes of their bodies."""
    with registry.recording() as exchanges:
        act()
    return len(exchanges), sum(exchange.sent for exchange in exchanges)
