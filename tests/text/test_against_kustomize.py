"""Our edit beside `kustomize edit set image` (4.5.4): the same images where that is right, and named where it is not."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import rendered
from pipeline_tools.text.kustomization import Image, Pin, set_image
from tests.text.kustomizations import DIGESTS

pytestmark = pytest.mark.kustomize

NAMES = ["app", "db", "r.example.com/app"]
CONTAINERS = "".join(
    f"  - {{name: c{number}, image: '{name}{rest}'}}\n"
    for number, (name, rest) in enumerate(
        (name, rest) for name in NAMES for rest in ("", ":0.1", f"@{DIGESTS[0]}")
    )
)
POD = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n{CONTAINERS}"


class Folder:
    """A kustomization over one pod with every image, and the real kustomize."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "pod.yaml").write_text(POD)

    def said(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ("kustomize", *words), cwd=self.path, capture_output=True, text=True, check=False, env=os.environ
        )

    def built(self, text: str) -> list[str]:
        """The images of the pod, container by container."""
        (self.path / "kustomization.yaml").write_bytes(text.encode())
        done = self.said("build", ".")
        assert done.returncode == 0, f"{done.stderr}\n{text}"
        return [use.image for use in sorted(rendered.uses(done.stdout), key=lambda use: use.container)]

    def edited(self, text: str, word: str) -> str:
        """What `kustomize edit set image` makes of a file."""
        (self.path / "kustomization.yaml").write_bytes(text.encode())
        done = self.said("edit", "set", "image", word)
        assert done.returncode == 0, done.stderr
        return (self.path / "kustomization.yaml").read_bytes().decode()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("overlay"))


@pytest.fixture
def folder(kustomize: Path, made: Folder) -> Folder:
    return made


def file(images: str) -> str:
    return f"# mine\nresources: [pod.yaml]\n{images}"


ENTRY = "images:\n- name: app # ours\n  newTag: '1.0.0'\n"

tags = st.sampled_from(
    ["2.0.0", "v3.1.0-rc.1", "latest", "1e10", "0123", "12345678", "y", "no", "0x1F", "1_0"]
)
others = st.sampled_from(["", 'newTag: "0.9"', f"digest: {DIGESTS[0]}", "newName: other/name"])
styles: list[Callable[[list[tuple[str, str]]], str]] = [
    lambda rows: "images:\n" + "".join(f"- name: {name}\n" + (f"  {row}\n" if row else "") for name, row in rows),
    lambda rows: "images:\n" + "".join(f"    -   {f'{row}' or '# no more'}\n        name: {name}\n" for name, row in rows),
    lambda rows: f"images: [{', '.join('{' + ', '.join(filter(None, [f'name: {n}', row])) + '}' for n, row in rows)}]\n",
]  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    rows=st.lists(st.tuples(st.sampled_from(NAMES), others), max_size=3, unique_by=lambda row: row[0]),
    style=st.sampled_from(styles),
    image=st.builds(
        lambda name, repository, tag, digest: Image(name, repository, *((tag, "") if tag else ("", digest))),
        st.sampled_from(NAMES),
        st.sampled_from(["x/y", "r.example.com/z"]),
        st.none() | tags,
        st.sampled_from(DIGESTS),
    ),
)
def test_the_same_images_as_kustomize(
    folder: Folder, rows: list[tuple[str, str]], style: Callable[[list[tuple[str, str]]], str], image: Image
) -> None:
    """It writes the tag or the digest, and takes the other away; both at once it cannot before 5.4."""
    text = file(style(rows) if rows else "images: []\n")
    ours = folder.built(set_image(text, image, "k"))
    assert ours == folder.built(folder.edited(text, f"{image.name}={image}"))
    assert str(image) in ours


@pytest.mark.parametrize("pin", Pin)
def test_what_is_pinned_is_what_runs(folder: Folder, pin: Pin) -> None:
    image = Image("app", "x/app", "1.2.0", DIGESTS[1])
    for entry in ("", "images: [{name: app, newTag: '1', digest: '" + DIGESTS[0] + "'}]\n"):
        found = folder.built(set_image(file(entry), image.pinned(pin), "k"))
        tag, digest = ":1.2.0" * (pin is not Pin.DIGEST), f"@{DIGESTS[1]}" * (pin is not Pin.TAG)
        assert found[:3] == [f"x/app{tag}{digest}"] * 3


@pytest.mark.parametrize(
    "tag",
    (
        "1e10 12345e6 0e123456 9E5 0o17 0x1F 0123 12345678 1_000 1.10 1.0 1. y n on off yes no true null Y NO NaN Inf "
        f"2026-11-23 _ {'a' * 128}"
    ).split(),
)
def test_quoting_any_tag_arrives_as_it_is(folder: Folder, tag: str) -> None:
    """A bare one breaks the file or changes its value."""
    for text in (ENTRY, "", f"images:\n- name: app\n  newTag: {tag}\n"):
        assert folder.built(set_image(file(text), Image("app", tag=tag), "k"))[0] == f"app:{tag}"


def test_an_empty_variable_is_refused(folder: Folder) -> None:
    """`app=*:$TAG` with an empty TAG deletes newTag and ends with 0: the manifest's own tag is deployed."""
    assert folder.built(folder.edited(file(ENTRY), "app=*:"))[:2] == ["app", "app:0.1"]
    with pytest.raises(PipelineError, match="nothing to write"):
        set_image(file(ENTRY), Image("app", tag=""), "k")


def test_duplicates_are_refused(folder: Folder) -> None:
    """Build applies the last one, whatever the first says."""
    text = file(f"{ENTRY}- name: app\n  newTag: '7'\n")
    assert folder.built(text)[0] == "app:7"
    with pytest.raises(PipelineError, match=r"k:4: images: has 2 entries 'app' \(lines 4, 6\)"):
        set_image(text, Image("app", tag="2"), "k")


def test_new_name_stays(folder: Folder) -> None:
    text = file("images:\n- name: app\n  newName: x/y\n  newTag: '1'\n")
    assert folder.built(folder.edited(text, "app:2"))[0] == "app:2"
    assert folder.built(set_image(text, Image("app", tag="2"), "k"))[0] == "x/y:2"


def test_several_documents_are_refused(folder: Folder) -> None:
    """It writes the list twice into one document."""
    text = f"{file(ENTRY)}---\n{ENTRY}"
    assert folder.edited(text, "app=*:2").count("images:") == 2
    with pytest.raises(PipelineError, match="k:6: more than one document"):
        set_image(text, Image("app", tag="2"), "k")


def test_what_is_there_already_is_not_rewritten(folder: Folder) -> None:
    text = file(ENTRY)
    assert folder.edited(text, "app=*:1.0.0") != text
    assert set_image(text, Image("app", tag="1.0.0"), "k") == text


def test_comments_and_order_stay(folder: Folder) -> None:
    text = file(ENTRY) + "namePrefix: a- # last\n"
    assert "# ours" not in folder.edited(text, "app=*:2")
    assert set_image(text, Image("app", tag="2"), "k") == text.replace("'1.0.0'", '"2"')


def test_a_name_is_a_pattern(folder: Folder) -> None:
    """Why only plain names are taken: this one reaches every image."""
    text = file("images:\n- name: '.*'\n  newTag: '9'\n")
    assert all(re.search(":9$", image) for image in folder.built(text))
    with pytest.raises(PipelineError, match=r"k:4: image name '\.\*' is not safe"):
        set_image(text, Image(".*", tag="2"), "k")


def test_a_pattern_of_somebody_else_stays_and_may_win(folder: Folder) -> None:
    """The rendering tells: a bump of `app` is refused here, because nothing runs what it writes."""
    text = file("images:\n- name: app\n  newTag: '1'\n- name: 'a.*'\n  newTag: '9'\n")
    edited = set_image(text, Image("app", tag="2"), "k")
    assert "- name: 'a.*'\n  newTag: '9'\n" in edited
    assert folder.built(edited)[0] == "app:9"
