"""The edit changes what it should and not one byte more."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.kustomization import Image, folders, images, set_image

DIGEST = "sha256:" + "0a" * 32
NEW = Image("app", "r.example.com/app", "1.10.0", DIGEST)

CASES = {
    "comments": "# top\nimages: # here\n  # about app\n  - name: app # mine\n    newTag: '1.0' # old\nreplicas: [] # end\n",
    "no final newline": "images:\n- name: app\n  newTag: x",
    "name last": "images:\n- newTag: x\n  name: app\n",
    "crlf": "images:\r\n- name: app\r\n  newTag: x\r\nother: y\r\n",
    "bom": "\ufeffimages:\n- name: app\n",
    "flow": "images: [{name: other}, {name: app, newTag: x}]\n",
    "quoted keys": '"images":\n- "name": "app"\n  "newTag": "x"\n',
    "an unquoted number": "images:\n- name: app\n  newTag: 1.10\n",
    "an empty value": "images:\n- name: app\n  newTag:\n  digest: ~\n",
    "indentation of four": "images:\n    -   name: app\n        newTag: x\n",
    "a long line": f"images:\n- name: app\n  newTag: x\npatches:\n- patch: {'y ' * 200}\n",
    "anchors elsewhere": "a: &x {k: v}\nimages:\n- name: app\nb: *x\n",
    "document start": "---\nimages:\n- name: app\n",
    "a component": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages:\n- name: app\n",
    "digest before": f"images:\n- name: app\n  digest: sha256:{'ff' * 32}\n",
}


def parsed(text: str) -> object:
    return YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_only_the_entry_changes(text: str) -> None:
    edited = set_image(text, NEW, "kustomization.yaml")
    entry = next(image for image in images(edited, "k") if image.name == "app")
    assert entry == NEW
    assert set_image(edited, NEW, "k") == edited
    for line in re.split(r"\r\n|\n", text):
        if not re.search(r"newTag|digest|name: app", line):
            assert line in edited


@pytest.mark.parametrize(
    "value", ["1e10", "0123", "0o17", "y", "on", "null", "12345678", "1_000", "1.10", "0x1F"]
)
def test_values_stay_text(value: str) -> None:
    edited = set_image("images:\n- name: app\n  newTag: x\n", Image("app", tag=value), "k")
    assert edited == f'images:\n- name: app\n  newTag: "{value}"\n'


names = st.from_regex(r"[a-z][a-z0-9./-]{0,15}", fullmatch=True)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
comment = st.sampled_from(["", "  # note", " # newTag: x"])
entries = st.builds(
    lambda name, tag, note, order: (
        name,
        "- " + "\n  ".join(sorted([f"name: {name}{note}", f'newTag: "{tag}"'], reverse=order)),
    ),
    names,
    tags,
    comment,
    st.booleans(),
)


@settings(max_examples=300)
@given(
    st.lists(entries, min_size=1, max_size=5, unique_by=lambda entry: entry[0]),
    st.data(),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_file_any_entry(made: list[tuple[str, str]], data: st.DataObject, newline: str) -> None:
    text = newline.join(
        ["# head", "images:", *(entry.replace("\n", newline) for _, entry in made), "tail: 1", ""]
    )
    name = data.draw(st.sampled_from([name for name, _ in made]))
    image = Image(name, data.draw(st.none() | names), data.draw(tags), data.draw(st.none() | st.just(DIGEST)))
    edited = set_image(text, image, "k")
    before, after = images(text, "k"), images(edited, "k")
    for old, new in zip(before, after, strict=True):
        if old.name == name:
            assert new.tag == image.tag
        else:
            assert new == old
    assert edited.startswith(f"# head{newline}images:{newline}")
    assert edited.endswith(f"tail: 1{newline}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("images:\n- name: app\n- name: app\n", r"k:2: images: has 2 entries 'app' \(lines 2, 3\)"),
        ("images:\n- name: app\n  newTag: &t x\nlabel: *t\n", r"k:3: newTag is shared"),
        ("t: &t x\nimages:\n- name: app\n  newTag: *t\n", r"k:4: newTag is shared"),
        ("images: {}\n", "not a list"),
        ("images:\n- app\n", "k:2: images: is not a list of mappings"),
        ("a: 1\n---\nb: 2\n", "more than one document"),
        ("images: [\n", "k:2: malformed|k:1: malformed"),
        ("- a\n", "not a mapping"),
        ("a: 1\na: 2\n", "k:2: malformed YAML"),
        ("\x00", "not YAML"),
        ("", "not a mapping"),
        (
            "base: &b {name: app}\nimages:\n- <<: *b\n  newTag: x\n",
            "k:3: an entry of images: has no plain name",
        ),
        ("images:\n- name: app\n  newTag: [1]\n", "k:3"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        set_image(text, NEW, "k")


def test_a_name_that_is_a_regular_expression() -> None:
    with pytest.raises(PipelineError, match="regular expression"):
        set_image("images:\n- name: a+b\n", Image("a+b", tag="1"), "k")


def test_folders_are_those_of_other_kustomizations() -> None:
    text = "resources: [../../base, deployment.yaml, 'https://x/y?ref=1', github.com/a/b]\ncomponents:\n- ../c\nbases: ~\n"
    assert folders(text, "k") == ("../../base", "deployment.yaml", "../c")


@pytest.mark.parametrize(
    ("before", "image", "after"),
    [
        ("{}", Image("app", tag="1"), '{images: [{name: "app", newTag: "1"}]}'),
        ("{kind: Kustomization}\n", Image("app", tag="1"), '{kind: Kustomization, images: [{name: "app", newTag: "1"}]}\n'),
        ("{images: [], kind: K}", Image("app", tag="1"), '{images: [{name: "app", newTag: "1"}], kind: K}'),
        ("{images: , kind: K}", Image("app", tag="1"), '{images: [{name: "app", newTag: "1"}] , kind: K}'),
        ("images: null # x\n", Image("app", tag="1"), 'images: [{name: "app", newTag: "1"}] # x\n'),
        ("kind: K\nimages:", Image("app", tag="1"), 'kind: K\nimages:\n- name: "app"\n  newTag: "1"'),
        ("  kind: K\n", Image("app", tag="1"), '  kind: K\n  images:\n  - name: "app"\n    newTag: "1"\n'),
        ("images:\n- name: b\n  newTag:\n# end\n", Image("app", tag="1"),
         'images:\n- name: b\n  newTag:\n- name: "app"\n  newTag: "1"\n# end\n'),
        ("images:\n- name: app\n  digest: x", Image("app", tag="1", digest=""), 'images:\n- name: app\n  newTag: "1"'),
        ("images:\r\n- name: app\r\n  digest: x", Image("app", tag="1", digest=""), 'images:\r\n- name: app\r\n  newTag: "1"'),
        ("images: [{digest: x, name: app}]", Image("app", tag="1", digest=""), 'images: [{name: app, newTag: "1"}]'),
        ("images: [{name: app, digest: x}]", Image("app", tag="1", digest=""), 'images: [{name: app, newTag: "1"}]'),
        ("images:\n- name: app\n  digest: ~\n", Image("app", tag="1", digest=""),
         'images:\n- name: app\n  newTag: "1"\n  digest: ~\n'),
        ("images:\n- name: app\n  newTag: y\n", Image("app", tag="y"), 'images:\n- name: app\n  newTag: "y"\n'),
        ("images:\n- name: app\n  newName: x\n", Image("app", "app", "1"), 'images:\n- name: app\n  newTag: "1"\n  newName: "app"\n'),
        ("images:\n- name: app\n", Image("app", "app", "1"), 'images:\n- name: app\n  newTag: "1"\n'),
        ("x: &x [1]\nimages: &i\n- name: app\n  newTag: &t\n    '0'\n", Image("app", digest=DIGEST),
         f"x: &x [1]\nimages: &i\n- name: app\n  digest: \"{DIGEST}\"\n  newTag: &t\n    '0'\n"),
    ],
)  # fmt: skip
def test_what_it_becomes(before: str, image: Image, after: str) -> None:
    assert set_image(before, image, "k") == after


@pytest.mark.parametrize(
    ("text", "image", "message"),
    [
        ("images:\n- name: app\n", Image("app", tag="a b"), "k:2: tag 'a b' of image 'app' is against its grammar"),
        ("images: []\n", Image("app", tag="$(id)"), "k: tag .* is against its grammar"),
        ("images:\n- name: app\n", Image("app", digest="sha256:1"), "k:2: digest 'sha256:1'"),
        ("images:\n- name: app\n", Image("app", tag=""), "k:2: there is nothing to write"),
        ("images:\n- name: a.*\n", Image("a.*", tag="1"), "k:2: image name .* is not safe"),
        ("images: []\n", Image("", tag="1"), "image name '' is not safe"),
        ("images:\n- digest: x\n  # of the name\n  name: app\n", Image("app", tag="1", digest=""), "k:2: digest cannot be taken"),
        ("images: [{digest: x, # of the name\n name: app}]\n", Image("app", tag="1", digest=""), "k:1: digest cannot be taken"),
        ("images:\n- name: app\n  digest: &d x\nx: *d\n", Image("app", tag="1", digest=""), "k:3: digest is shared"),
        ("images:\n- &e\n  name: app\nx: *e\n", Image("app", tag="1"), "would change more than the image entry"),
        ("x: &e {name: app, newTag: 1}\nimages: [*e]\n", Image("app", tag="1"), "would change more|no plain name"),
        ("images: &i\n- name: b\nx: *i\n", Image("app", tag="1"), "would change more than the image entry"),
        ("images:\n- name: app\n  name: app\n", Image("app", tag="1"), "k:3: malformed YAML"),
        ("kind: K\n...\n", Image("app", tag="1"), "would change more than the image entry"),
    ],
)  # fmt: skip
def test_what_cannot_be_edited_safely_is_refused_with_its_line(text: str, image: Image, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        set_image(text, image, "k")
