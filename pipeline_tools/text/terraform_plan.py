"""What a Terraform plan will do, from `terraform show -json PLANFILE`, read in one pass and never held whole.

Format 1.x: developer.hashicorp.com/terraform/internals/json-format, "Plan Representation". That JSON prints sensitive
values; nothing of them is in a summary but, under a key, their HMAC.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import json_stream
from pipeline_tools.text import terraform_values as values
from pipeline_tools.text.printing import printable
from pipeline_tools.text.terraform_values import Attribute, Hiding

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = "1"
"""The major version of the format; minor ones only add (ibid., "Introduction")."""
MOST_OF_A_CHANGE = 8 * 1024
"""Bytes of attributes that are kept of one change."""
MOST = 12 * 1024 * 1024
"""Bytes of attributes that are kept of all changes together."""
SHOWN_UNCHANGED = frozenset({"delete_additional_resources"})
"""Attributes that a replacement has although they stay: they say what else goes when the old object goes."""
_OVERHEAD = 200
"""Bytes that an attribute takes in memory beside its characters."""
_LONGEST_PROBLEM = 1000
_MOST_PROBLEMS = 20


class Action(StrEnum):
    """What happens to an object; Terraform's words, and `replace` for its pairs."""

    NO_OP = "no-op"
    CREATE = "create"
    READ = "read"
    UPDATE = "update"
    DELETE = "delete"
    REPLACE = "replace"
    FORGET = "forget"


_ACTIONS: dict[tuple[str, ...], Action] = {
    **{(action.value,): action for action in Action if action is not Action.REPLACE},
    ("delete", "create"): Action.REPLACE,
    ("create", "delete"): Action.REPLACE,
    # The old object stays, unmanaged; for whoever reviews, there is a new one in its place.
    ("create", "forget"): Action.REPLACE,
}


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one object.

    `actions` and `reason` (`action_reason`) are Terraform's own words, `replaced_by` the paths of the attributes that
    force a replacement, `importing` the id that is imported. `digest` is over all of the change, also the
    `attributes_left_out`, so equal digests are equal changes.
    """

    address: str
    previous_address: str | None
    mode: str
    type: str
    actions: tuple[str, ...]
    reason: str
    replaced_by: tuple[str, ...]
    importing: str | None
    attributes: tuple[Attribute, ...]
    attributes_left_out: int
    digest: str

    @property
    def action(self) -> Action:
        return _ACTIONS[self.actions]

    @property
    def is_move(self) -> bool:
        return self.previous_address is not None

    @property
    def is_import(self) -> bool:
        return self.importing is not None


@dataclass(frozen=True, slots=True)
class Deferred:
    """A change that Terraform puts off to a later plan, and its word why."""

    reason: str
    change: Change


@dataclass(frozen=True, slots=True)
class Output:
    """A change of a root output. `references` are the expressions that its value is made of."""

    name: str
    actions: tuple[str, ...]
    is_sensitive: bool
    attributes: tuple[Attribute, ...]
    attributes_left_out: int
    digest: str
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """A check that did not pass: `status` is `fail`, `error` or `unknown`, `problems` what it says."""

    address: str
    status: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Counts:
    """How many objects each thing happens to. A moved or imported one counts with its action too."""

    create: int = 0
    update: int = 0
    delete: int = 0
    replace: int = 0
    move: int = 0
    import_: int = 0
    forget: int = 0
    read: int = 0
    drift: int = 0
    deferred: int = 0


@dataclass(frozen=True)
class Summary:
    """A plan. `drift` is what was found to have changed outside Terraform; `has_unkeyed`: see `Hiding`."""

    format_version: str
    terraform_version: str
    changes: tuple[Change, ...] = ()
    drift: tuple[Change, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    outputs: tuple[Output, ...] = ()
    checks: tuple[Check, ...] = ()
    checks_passed: int = 0
    is_complete: bool = True
    is_errored: bool = False
    is_applyable: bool = True
    has_unkeyed: bool = False

    @property
    def counts(self) -> Counts:
        actions = Counter(change.action for change in self.changes)
        return Counts(
            **{action.value: actions[action] for action in Action if action is not Action.NO_OP},
            move=sum(change.is_move for change in self.changes),
            import_=sum(change.is_import for change in self.changes),
            drift=len(self.drift),
            deferred=len(self.deferred),
        )

    @property
    def failed_checks(self) -> tuple[Check, ...]:
        """The checks with something to look at; what is `unknown` is decided during the apply."""
        return tuple(check for check in self.checks if check.status != "unknown")

    def widget(self) -> dict[str, int]:
        """GitLab's report (docs.gitlab.com/ci/yaml/artifacts_reports, "terraform"): a replacement is two of them."""
        counts = self.counts
        return {
            "create": counts.create + counts.replace,
            "update": counts.update,
            "delete": counts.delete + counts.replace,
        }


def read(stream: BinaryIO, key: bytes = b"") -> Summary:
    """Summarise a plan.

    Args:
        stream: the JSON of one plan.
        key: what sensitive values are hashed with, so that two plans can be compared.

    Raises:
        PipelineError: not JSON (of UTF-8, which Terraform always writes), cut off, no plan, another major version; it
            has actions (Terraform 1.14).
    """
    reader = _Reader(Hiding(key))
    try:
        for name, value in json_stream.sections(
            stream, lists=_LISTS, whole=_WHOLE, inside={"configuration": ("root_module", "outputs")}
        ):
            reader.take(name, value)
        return reader.summary()
    except json_stream.ERRORS as error:
        raise _wrong("is not JSON, or cut off", error) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _wrong("is no plan that this version understands", error) from None


def _wrong(what: str, error: Exception) -> PipelineError:
    first = str(error).splitlines()[0] if str(error) else ""
    return PipelineError(
        f"what terraform show -json printed {what}: {type(error).__name__}: {printable(first, 80)}",
        hint="is it a plan file, and complete? plan again",
    )


_ACTION_LISTS = frozenset({"action_invocations", "deferred_action_invocations"})
"""What an apply would do besides (Terraform 1.14, "Invoke an action"): no summary and no passport has it yet."""
_LISTS = _ACTION_LISTS | {"resource_changes", "resource_drift", "deferred_changes", "checks"}
_WHOLE = frozenset(
    {"format_version", "terraform_version", "output_changes", "complete", "errored", "applyable"}
)


@dataclass
class _Reader:
    """What has been read so far."""

    hide: Hiding
    seen: set[str] = field(default_factory=set)
    scalars: dict[str, Any] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    drift: list[Change] = field(default_factory=list)
    deferred: list[Deferred] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    references: dict[str, tuple[str, ...]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    checks_passed: int = 0
    left: int = MOST

    def take(self, name: str, value: Any) -> None:
        """One part of the plan."""
        self.seen.add(name)
        if name in _ACTION_LISTS:
            raise PipelineError(
                f"the plan has {name}, and nobody would review them",
                hint="take the action_trigger blocks out of the configuration",
            )
        parts: dict[str, Callable[[Any], None]] = {
            "resource_changes": self.resource_changes,
            "resource_drift": self.resource_drift,
            "deferred_changes": self.deferred_changes,
            "output_changes": self.output_changes,
            "configuration": self.configuration,
            "checks": self.check,
        }
        if name in parts:
            parts[name](value)
        else:
            self.scalars[name] = value

    def resource_changes(self, item: dict[str, Any]) -> None:
        change = self._change(item)
        if change.action is not Action.NO_OP or change.is_move or change.is_import:
            self.changes.append(change)

    def resource_drift(self, item: dict[str, Any]) -> None:
        change = self._change(item)
        if change.action is not Action.NO_OP:
            self.drift.append(change)

    def deferred_changes(self, item: dict[str, Any]) -> None:
        self.deferred.append(Deferred(_word(item, "reason"), self._change(item["resource_change"])))

    def output_changes(self, item: dict[str, Any] | None) -> None:
        for name, change in sorted((item or {}).items()):
            if change["actions"] != ["no-op"]:
                self.outputs.append(self._output(name, change))

    def configuration(self, outputs: dict[str, Any] | None) -> None:
        for name, output in (outputs or {}).items():
            self.references[name] = tuple(output.get("expression", {}).get("references", ()))

    def check(self, item: dict[str, Any]) -> None:
        status = _word(item, "status")
        if status == "pass":
            self.checks_passed += 1
            return
        problems = [
            str(problem["message"])[:_LONGEST_PROBLEM]
            for instance in item.get("instances") or ()
            for problem in instance.get("problems") or ()
        ]
        self.checks.append(
            Check(str(item["address"]["to_display"]), status, tuple(problems[:_MOST_PROBLEMS]))
        )

    def summary(self) -> Summary:
        scalars = self.scalars
        if str(scalars.get("format_version")).partition(".")[0] != FORMAT:
            raise ValueError(f"format_version {scalars.get('format_version')!r:.20}, not {FORMAT}.x")
        if not self.seen & {"planned_values", "resource_changes", "applyable"}:
            raise ValueError("no plan; a state?")
        is_errored = bool(scalars.get("errored"))
        return Summary(
            format_version=str(scalars["format_version"]),
            terraform_version=str(scalars.get("terraform_version", "")),
            changes=tuple(self.changes),
            drift=tuple(self.drift),
            deferred=tuple(self.deferred),
            outputs=tuple(
                replace(output, references=self.references.get(output.name, ())) for output in self.outputs
            ),
            checks=tuple(self.checks),
            checks_passed=self.checks_passed,
            # OpenTofu and older versions do not say.
            is_complete=bool(scalars.get("complete", True)),
            is_errored=is_errored,
            is_applyable=bool(scalars.get("applyable", not is_errored)),
            has_unkeyed=self.hide.has_unkeyed,
        )

    def _change(self, item: dict[str, Any]) -> Change:
        change = item["change"]
        deposed = f" (deposed {item['deposed']})" if item.get("deposed") else ""
        header: dict[str, Any] = {
            "address": _word(item, "address") + deposed,
            "previous_address": item.get("previous_address"),
            "mode": _word(item, "mode"),
            "type": _word(item, "type"),
            "actions": _actions(change),
            "reason": str(item.get("action_reason", "")),
            "replaced_by": tuple(values.path(parts) for parts in change.get("replace_paths") or ()),
            "importing": _importing(change),
        }
        return Change(**header, **self._what_changes(header, change))

    def _output(self, name: str, change: dict[str, Any]) -> Output:
        marks = (change.get("before_sensitive"), change.get("after_sensitive"))
        header: dict[str, Any] = {
            "name": name,
            "actions": _actions(change),
            "is_sensitive": any(mark is True for mark in marks),
        }
        return Output(**header, **self._what_changes(header, change))

    def _what_changes(self, header: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
        """The attributes that are kept, how many are not, and the digest over all."""
        action = _ACTIONS[header["actions"]]
        always = SHOWN_UNCHANGED if action is Action.REPLACE else frozenset[str]()
        attributes = [] if action is Action.NO_OP else values.attributes(change, self.hide, always)
        kept = self._kept(attributes)
        return {
            "attributes": kept,
            "attributes_left_out": len(attributes) - len(kept),
            "digest": _digest(header, attributes),
        }

    def _kept(self, attributes: list[Attribute]) -> tuple[Attribute, ...]:
        most = min(MOST_OF_A_CHANGE, self.left)
        sizes = accumulate(map(_size, attributes))
        kept = [(attribute, size) for attribute, size in zip(attributes, sizes, strict=True) if size <= most]
        self.left -= kept[-1][1] if kept else 0
        return tuple(attribute for attribute, _ in kept)


def _size(attribute: Attribute) -> int:
    texts = (attribute.path, attribute.before or "", attribute.after or "")
    return _OVERHEAD + sum(len(text.encode()) for text in texts)


def _digest(header: dict[str, Any], attributes: list[Attribute]) -> str:
    rows = [(attribute.path, attribute.before, attribute.after) for attribute in attributes]
    return f"sha256:{hashlib.sha256(values.canonical([header, rows]).encode()).hexdigest()}"


def _actions(change: dict[str, Any]) -> tuple[str, ...]:
    actions = tuple(change["actions"])
    if actions not in _ACTIONS:
        raise ValueError(f"actions {actions!r:.40}")
    return actions


def _word(item: dict[str, Any], name: str) -> str:
    if not isinstance(item[name], str):
        raise TypeError(f"{name} is no text")
    return str(item[name])


def _importing(change: dict[str, Any]) -> str | None:
    """The id that is imported; an identity (Terraform 1.12) may stand where it did."""
    importing = change.get("importing")
    if not importing:
        return None
    if importing.get("unknown"):
        return values.UNKNOWN
    return values.shortened(str(importing.get("id") or values.canonical(importing)))
