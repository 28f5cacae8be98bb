"""Kustomizations of every shape, each with an edit and the text that it must become, worked out without a parser."""

from dataclasses import dataclass

from hypothesis import strategies as st

from pipeline_tools.text.kustomization import Image

DIGESTS = ["sha256:" + "0a" * 32, "sha256:" + "f1" * 32]
FIELDS = {"newName": "new_name", "newTag": "tag", "digest": "digest"}

Line = tuple[str, str, str]
"""A key of an entry: its name, its value as it is written, and what stands behind it."""


@dataclass(frozen=True)
class Case:
    """`text` in which `image` is set becomes `expected`."""

    text: str
    image: Image
    expected: str


@dataclass(frozen=True)
class Layout:
    """How a list of entries is written. `style`: block, items (flow in block), flow."""

    style: str
    indent: str
    gap: str


CHUNKS = [
    "# a comment: with a colon, [brackets] and a 'quote",
    "",
    "apiVersion: kustomize.config.k8s.io/v1beta1",
    "kind: Kustomization\n# émoji 🙂 and a tab\t.",
    "resources:\n  - ../../base\n  - 'a b.yaml'   # why",
    "components: [../c, {a: 1}]",
    "patches:\n- patch: |-\n    - op: add\n      path: /images\n    images:\n    - name: app\n  target: {kind: Deployment}",
    "commonLabels: &labels {team: web}\ncommonAnnotations: *labels",
    "generatorOptions:\n    labels:   \n        a: 'b'",
    "vars: []   # images: []",
    "namePrefix: " + "very-long-" * 12,
    "configMapGenerator:\n- name: x\n  literals: [newTag=1, 'digest: 2']",
]
values = {
    "newName": st.sampled_from(["r.example.com/app", "localhost:5000/x/y", "other"]),
    "newTag": st.sampled_from(["v1.0.0", "1.10.0", "latest", "1e10", "0123", "2.0.0-rc.1"]),
    "digest": st.sampled_from(DIGESTS),
}
BARE_NUMBERS = {"1e10", "0123"}
quotes = st.sampled_from(["", "'", '"'])
notes = st.sampled_from(["", "", "  # why", " # newTag: x"])


@st.composite
def entries(draw: st.DrawFn, name: str, commented: bool) -> list[Line]:
    keys = ["name", *draw(st.sampled_from([[], ["newTag"], ["newName", "newTag"], ["digest"], ["newTag", "digest"],
                                           ["newName", "newTag", "digest"]]))]  # fmt: skip
    lines = []
    for key in draw(st.permutations(keys)):
        value = name if key == "name" else draw(values[key])
        quote = draw(quotes)
        lines.append((key, f"{quote}{value}{quote}", draw(notes) if commented else ""))
    return lines


@st.composite
def images(draw: st.DrawFn, name: str) -> Image:
    """What is to be set: a tag, a digest or both, each alone with the other left as it is or taken away."""
    tag, digest = draw(values["newTag"]), draw(values["digest"])
    pair = draw(st.sampled_from([(tag, digest), (tag, None), (tag, ""), (None, digest), ("", digest)]))
    return Image(name, draw(st.none() | values["newName"]), *pair)


@st.composite
def cases(draw: st.DrawFn, *, is_new: bool) -> Case:
    """`is_new`: the image has no entry yet."""
    there, lacking = ["block", "block", "items", "flow"], ["empty", "null", "tilde", "absent"]
    style = draw(st.sampled_from(there + lacking if is_new else there))
    layout = Layout(style, draw(st.sampled_from(["", "  ", "    "])), draw(st.sampled_from([" ", "   "])))
    names = draw(st.permutations(["app", "db", "r.example.com/app"]))[: draw(st.integers(1, 3))]
    made = [(name, draw(entries(name, style == "block"))) for name in names]
    target = "new/image" if is_new else draw(st.sampled_from(names))
    image = draw(images(target))
    before = _list(layout, [lines for _, lines in made])
    after = _after(layout, made, image) if style in there else _first(style, image)
    head = draw(st.lists(st.sampled_from(CHUNKS), max_size=3, unique=True))
    tail = draw(st.lists(st.sampled_from(CHUNKS), max_size=2, unique=True))
    tail = [chunk for chunk in tail if chunk not in head]
    whole = [chunk for chunk in (*head, before, *tail) if chunk is not None] or ["kind: Kustomization"]
    if style == "absent" and not any(line[:1].isalpha() for chunk in whole for line in chunk.split("\n")):
        whole = [*whole, "kind: Kustomization"]
    changed = [*whole, after] if style == "absent" else [*head, after, *tail]
    return _written(draw, "\n".join(whole), image, "\n".join(changed))


def _written(draw: st.DrawFn, before: str, image: Image, after: str) -> Case:
    """With a byte-order mark, other line ends, or no last one."""
    mark, newline = draw(st.sampled_from(["", "", "\ufeff"])), draw(st.sampled_from(["\n", "\n", "\r\n"]))
    has_last_line = before.rpartition("\n")[2].strip()
    final = draw(st.sampled_from(["\n", "\n", ""])) if has_last_line else "\n"
    if "\n" not in before + final:
        newline = "\n"  # nothing says what else
    texts = (f"{mark}{text}{final}".replace("\n", newline) for text in (before, after))
    return Case(next(texts), image, next(texts))


# What is written, and what it becomes ----------------------------------------------------------------------------


def _list(layout: Layout, made: list[list[Line]]) -> str | None:
    short = {"empty": "images: [] # none", "null": "images: # none", "tilde": "images: ~", "absent": None}
    if layout.style in short:
        return short[layout.style]
    if layout.style == "flow":
        return f"images: [{', '.join(map(_flow, made))}] # all"
    return "images:\n" + "\n".join(_entry(layout, lines) for lines in made)


def _entry(layout: Layout, lines: list[Line]) -> str:
    dash = f"{layout.indent}-{layout.gap}"
    if layout.style == "items":
        return f"{dash}{_flow(lines)} # it"
    return dash + f"\n{' ' * len(dash)}".join(f"{key}: {value}{note}" for key, value, note in lines)


def _flow(lines: list[Line]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value, _ in lines) + "}"


def _after(layout: Layout, made: list[tuple[str, list[Line]]], image: Image) -> str:
    changed = [_changed(lines, image) if name == image.name else lines for name, lines in made]
    if image.name in {name for name, _ in made}:
        return str(_list(layout, changed))
    if layout.style == "flow":
        return f"images: [{', '.join([*map(_flow, changed), _flow(_new(image))])}] # all"
    added = _entry(Layout("block", layout.indent, layout.gap), _new(image))
    return f"{_list(layout, changed)}\n{added}"


def _first(style: str, image: Image) -> str:
    block = _entry(Layout("block", "", " "), _new(image))
    return {
        "empty": f"images: [{_flow(_new(image))}] # none",
        "tilde": f"images: [{_flow(_new(image))}]",
        "null": f"images: # none\n{block}",
        "absent": f"images:\n{block}",
    }[style]


def _changed(lines: list[Line], image: Image) -> list[Line]:
    wanted = _wanted(image, lines)
    kept = [_line(line, wanted) for line in lines if wanted.get(line[0]) != ""]
    there = {key for key, _, _ in lines}
    missing = [(key, f'"{value}"', "") for key, value in wanted.items() if value and key not in there]
    at = next(number for number, line in enumerate(kept) if line[0] == "name") + 1
    return [*kept[:at], *missing, *kept[at:]]


def _wanted(image: Image, lines: list[Line]) -> dict[str, str | None]:
    wanted: dict[str, str | None] = {key: getattr(image, field) for key, field in FIELDS.items()}
    says = {key: value.strip("'\"") for key, value, _ in lines}
    if wanted["newName"] == says.get("newName", image.name):
        wanted["newName"] = None
    return wanted


def _line(line: Line, wanted: dict[str, str | None]) -> Line:
    key, value, note = line
    new = wanted.get(key)
    is_same = new is None or (value.strip("'\"") == new and not (value == new and new in BARE_NUMBERS))
    return line if is_same else (key, f'"{new}"', note)


def _new(image: Image) -> list[Line]:
    found = [("name", f'"{image.name}"', "")]
    return found + [(key, f'"{value}"', "") for key, value in _wanted(image, []).items() if value]
