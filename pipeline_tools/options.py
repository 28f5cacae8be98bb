"""Every option of the command line, once: one name, one meaning, one type, one variable.

A command takes the options that its steps' `Options` classes have as fields (`of`), so the class is the list.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from pipeline_tools.text.masks import Secret
from pipeline_tools.text.references import RELEASE_TAG
from pipeline_tools.text.state_backend import DEFAULT as STATE

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


_RUBY_HASH = re.compile(r"(?<!\\)((?:\\\\)*)\\#")
"""GitLab writes an array input into a text as Ruby's `to_s` does: like JSON, but with `#{`, `#$` and `#@` escaped."""


class Setting(click.Option):
    """An option with its variable. A repeatable one takes a JSON array or one value a line from it."""

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        value, source = super().consume_value(ctx, opts)
        if self.multiple and source is ParameterSource.DEFAULT_MAP and not isinstance(value, tuple):
            raise click.UsageError(
                f"input {self.name} of the include in .gitlab-ci.yml must be a list", ctx=ctx
            )
        return value, source

    def value_from_envvar(self, ctx: click.Context) -> Any:
        text = self.resolve_envvar_value(ctx)
        if text is None or not self.multiple:
            return super().value_from_envvar(ctx)
        if not text.lstrip().startswith("["):
            return tuple(line for line in text.splitlines() if line.strip())
        try:
            return tuple(str(item) for item in json.loads(_RUBY_HASH.sub(r"\1#", text)))
        except ValueError:
            raise click.BadParameter("not a JSON array", ctx=ctx, param=self) from None


class Words(Setting):
    """A repeatable option of plain words, which may also stand in one value with commas between."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        words = [word.strip() for text in value or () for word in str(text).split(",")]
        return super().type_cast_value(ctx, tuple(word for word in words if word))


class SecretSetting(click.Option):
    """A secret: its value from the variable, or from the file that the option names; never from an argument."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["type"] = click.Path(exists=True, dir_okay=False, path_type=Path)
        super().__init__(*args, **kwargs)

    def process_value(self, ctx: click.Context, value: Any) -> Secret:
        """The secret, registered with the mask; an empty one where neither is given."""
        secret = Secret(self._text(ctx, value))
        if ctx.obj is not None:
            ctx.obj.mask.add(secret)
        text = secret.reveal()
        if str(self.name).endswith("_token") and not (text.isascii() and text.isprintable()):
            raise click.BadParameter(
                "a token is one line of ASCII; was more copied than the token?", ctx=ctx, param=self
            )
        return secret

    def _text(self, ctx: click.Context, value: Any) -> str:
        if isinstance(value, str) and value and value == self.resolve_envvar_value(ctx):
            return value.strip()
        path = super().process_value(ctx, value)
        try:
            return path.read_text().strip() if isinstance(path, Path) else ""
        except ValueError:
            raise click.BadParameter("the file is not text", ctx=ctx, param=self) from None


class KeySetting(SecretSetting):
    """A key in PEM or ASCII armour; its variable may hold the key or, as GitLab's variables of type file, its path."""

    def _text(self, ctx: click.Context, value: Any) -> str:
        is_key = isinstance(value, str) and value.lstrip().startswith("-----BEGIN ")
        if is_key or not isinstance(value, str) or not value:
            return super()._text(ctx, value)
        try:
            return super()._text(ctx, self.type.convert(value, self, ctx))
        except click.BadParameter:  # its words would show the value, which may be a key in another form
            raise click.BadParameter("neither a key nor the path of a file", ctx=ctx, param=self) from None


def _setting(flag: str, variable: str | list[str], text: str, **kwargs: Any) -> Callable[[F], F]:
    return click.option(flag, **{"cls": Setting, **kwargs}, envvar=variable, show_envvar=True, help=text)


SECRET_VARIABLES: set[str] = {"VAULT_ID_TOKEN", "VAULT_TOKEN"}
"""Every variable that holds a secret of ours, whichever command reads it."""


def _secret(
    name: str, variable: str, text: str, cls: type[SecretSetting] = SecretSetting
) -> Callable[[F], F]:
    SECRET_VARIABLES.add(variable)
    flag = f"--{name.replace('_', '-')}-file"
    return click.option(flag, name, cls=cls, envvar=variable, show_envvar=True, metavar="FILE", help=text)


def _output(ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if ctx.obj is not None:
        ctx.obj.output = value
    return value


def _verbose(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    if value and ctx.obj is not None:
        ctx.obj.verbose()
    return value


def _regex(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise click.BadParameter(f"not a regular expression: {error}") from None
    return value


_ONE, _MANY = {"metavar": "TEXT"}, {"multiple": True}

CATALOGUE: Mapping[str, Callable[[Any], Any]] = {
    # Where the release comes from. In a job GitLab's predefined variables say it, elsewhere the checkout.
    "checkout": _setting("--checkout", "CI_PROJECT_DIR", "The git checkout to release from.", default=".",
                         type=click.Path(file_okay=False, path_type=Path), metavar="DIR"),
    "tag": _setting("--tag", "CI_COMMIT_TAG", "The git tag of the release. Default: the version tag at HEAD.", **_ONE),
    "commit": _setting("--commit", "CI_COMMIT_SHA", "The commit of the release. Default: HEAD.", **_ONE),
    "project": _setting("--project", "CI_PROJECT_PATH", "This project. Default: the path of the origin remote.", **_ONE),
    "project_url": _setting("--project-url", "CI_PROJECT_URL", "Where people see this project.", metavar="URL"),
    "project_title": _setting("--project-title", "CI_PROJECT_TITLE", "Title of the image (OCI label).", **_ONE),
    "project_description": _setting("--project-description", "CI_PROJECT_DESCRIPTION",
                                    "Description of the image (OCI label).", **_ONE),
    "licenses": _setting("--licenses", "PT_LICENSES", "SPDX licence expression of the image (OCI label).", **_ONE),
    "pipeline_url": _setting("--pipeline-url", "CI_PIPELINE_URL", "This pipeline, named in the bump's commit.",
                             metavar="URL"),
    "gitlab_url": _setting("--gitlab-url", "CI_SERVER_URL", "The GitLab instance. Default: the host of the origin remote.",
                           metavar="URL"),
    "default_branch": _setting("--default-branch", "CI_DEFAULT_BRANCH",
                               "This project's default branch. Default: the remote's HEAD.", metavar="BRANCH"),
    "receipt": _setting("--receipt", "PT_RECEIPT", "The receipt that the steps hand on.", default="release.json",
                        show_default=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE"),
    # tag
    "tag_pattern": _setting("--tag-pattern", "PT_TAG_PATTERN", "Regular expression that a release tag must match.",
                            default=RELEASE_TAG, metavar="REGEX", callback=_regex),
    "branch": _setting("--branch", "PT_BRANCH", "Branch that may be released from. Repeatable. Default: the default "
                       "branch, and the protected ones as far as the token sees them.", **_MANY, metavar="BRANCH"),
    "pre": _setting("--pre", "PT_PRE", "Choose a pre-release of this kind (rc, beta).", metavar="KIND"),
    "message": _setting("--message", "PT_MESSAGE", "Message of the tag. Default: the list of changes.", **_ONE),
    # build and push
    "repository": _setting("--repository", "PT_REPOSITORY", "Where releases are published: host/path, no tag.",
                           metavar="REPOSITORY"),
    "candidate_repository": _setting("--candidate-repository", "PT_CANDIDATE_REPOSITORY",
                                     "Where candidates are kept. Default: the release repository.", metavar="REPOSITORY"),
    "context": _setting("--context", "PT_CONTEXT", "Build context, inside the checkout.", default=".", show_default=True,
                        metavar="DIR"),
    "file": _setting("--file", "PT_FILE", "Dockerfile, inside the checkout. Default: CONTEXT/Dockerfile.", metavar="FILE"),
    "git_context": click.option("--git-context/--no-git-context", cls=Setting, envvar="PT_GIT_CONTEXT", show_envvar=True,
                                default=False, help="Send the builder exactly the commit's files, and no other."),
    "builder": _setting("--builder", "PT_BUILDER", "What builds; auto takes the first that this machine lets work.",
                        default="auto", show_default=True, type=click.Choice(["auto", "docker", "buildah", "buildkit"])),
    "storage_driver": _setting("--storage-driver", "STORAGE_DRIVER", "How buildah keeps layers: vfs works everywhere, overlay "
                               "is faster. The digest depends on it.", default="vfs", show_default=True,
                               type=click.Choice(["vfs", "overlay"])),
    "target": _setting("--target", "PT_TARGET", "Stage of the Dockerfile to build.", metavar="STAGE"),
    "platform": _setting("--platform", "PT_PLATFORM", "Platform to build for, such as linux/amd64. Repeatable.", **_MANY,
                         metavar="PLATFORM"),
    "build_arg": _setting("--build-arg", "PT_BUILD_ARG", "Build argument; never a secret. Repeatable.", **_MANY,
                          metavar="KEY=VALUE"),
    "build_secret": _setting("--build-secret", "PT_BUILD_SECRET", "Secret that RUN --mount=type=secret,id=NAME may read, from a "
                             "file or a variable. Repeatable.", **_MANY, metavar="NAME=FILE|NAME=env:VARIABLE"),
    "cache": _setting("--cache", "PT_CACHE", "Repository that keeps layers from build to build: host/path, no tag.",
                      metavar="REPOSITORY"),
    "attest": click.option("--attest/--no-attest", cls=Setting, envvar="PT_ATTEST", show_envvar=True, default=False,
                           help="Let the builder add an SBOM and its provenance (buildkit)."),
    "max_size": _setting("--max-size", "PT_MAX_SIZE", "Publish no image larger than this, unpacked.", metavar="SIZE"),
    "require_label": _setting("--require-label", "PT_REQUIRE_LABEL", "Publish no image without this label. Repeatable.", **_MANY,
                              metavar="KEY[=VALUE]"),
    "require_non_root": click.option("--require-non-root/--allow-root", cls=Setting, envvar="PT_REQUIRE_NON_ROOT",
                                     show_envvar=True, default=False, help="Publish no image that runs as root."),
    "base_pinned": click.option("--base-pinned/--base-floating", cls=Setting, envvar="PT_BASE_PINNED", show_envvar=True,
                                default=False, help="Build only on images that are named by digest."),
    "reuse": click.option("--reuse/--no-reuse", cls=Setting, envvar="PT_REUSE", show_envvar=True, default=True,
                          help="Take a candidate of the same commit and build inputs as it is."),
    "source": _setting("--source", "PT_SOURCE", "Candidate to publish. Default: the receipt's.", metavar="IMAGE@DIGEST"),
    "moving": _setting("--moving", "PT_MOVING", "Moving tags to move forward, with commas between. Repeatable.",
                       **_MANY, cls=Words, type=click.Choice(["minor", "major", "latest"])),
    # bump and trigger
    "env_project": _setting("--env-project", "PT_ENV_PROJECT", "The env repository: its GitLab path or its address.",
                            metavar="PATH|URL"),
    "env_branch": _setting("--env-branch", "PT_ENV_BRANCH", "Branch of the env repository. Default: its HEAD.",
                           metavar="BRANCH"),
    "overlay": _setting("--overlay", "PT_OVERLAY", "Folder of an overlay in the env repository, or a glob such as "
                        "apps/*/overlays/dev. Repeatable.", **_MANY, metavar="DIR|GLOB"),
    "image": _setting("--image", "PT_IMAGE", "Entry of images: to bump, with what to write. Repeatable. "
                      "Default of REF: the published image.", **_MANY, metavar="NAME[=REF]"),
    "pin": _setting("--pin", "PT_PIN", "What an entry says of the image: with the tag alone a digest is taken away, and "
                    "the reverse.", default="both", show_default=True, type=click.Choice(["tag", "digest", "both"])),
    "allow_downgrade": click.option("--allow-downgrade", cls=Setting, envvar="PT_ALLOW_DOWNGRADE", show_envvar=True,
                                    is_flag=True, help="Write an older version over a newer one."),
    "order": _setting("--order", "PT_ORDER", "How versions follow each other: semver, or numeric for build numbers such as "
                      "1234 or 20261123.7.", default="semver", show_default=True,
                      type=click.Choice(["semver", "numeric"])),
    "override": _setting("--override", "PT_OVERRIDE", "Bump although a freeze or a hold of the env repository forbids it; "
                         "the reason is recorded in the commit.", metavar="REASON"),
    "check_image": click.option("--check-image/--no-check-image", cls=Setting, envvar="PT_CHECK_IMAGE", show_envvar=True,
                                default=False, help="See first that the registry has tag, digest and platform."),
    "via_merge_request": click.option("--via-merge-request/--no-via-merge-request", cls=Setting,
                                      envvar="PT_VIA_MERGE_REQUEST", show_envvar=True, default=False,
                                      help="Propose the bump in a merge request instead of pushing it."),
    "label": _setting("--label", "PT_LABEL", "Label of the merge request. Repeatable.", **_MANY, metavar="LABEL"),
    "reviewer": _setting("--reviewer", "PT_REVIEWER", "User who is asked to review the merge request. Repeatable.", **_MANY,
                         metavar="USER"),
    "auto_merge": click.option("--auto-merge/--no-auto-merge", cls=Setting, envvar="PT_AUTO_MERGE", show_envvar=True,
                               default=False, help="Let GitLab merge it when its pipeline succeeds."),
    "committer_name": _setting("--committer-name", "PT_COMMITTER_NAME", "Committer of the bump.",
                               default="pipeline-tools", show_default=True, metavar="NAME"),
    "committer_email": _setting("--committer-email", "PT_COMMITTER_EMAIL", "E-mail address of the bump's committer.",
                                default="pipeline-tools@noreply.invalid", metavar="EMAIL"),
    "render": click.option("--render/--no-render", cls=Setting, envvar="PT_RENDER", show_envvar=True, default=True,
                           help="Prove the bump with kustomize build, before and after."),
    "dependents": click.option("--dependents/--no-dependents", cls=Setting, envvar="PT_DEPENDENTS", show_envvar=True,
                               default=False, help="Render every overlay too that builds on a changed folder."),
    "skip_ci": click.option("--skip-ci/--no-skip-ci", cls=Setting, envvar="PT_SKIP_CI", show_envvar=True, default=False,
                            help="Push with ci.skip, because a trigger follows. Always so in release."),
    "author_name": _setting("--author-name", "GITLAB_USER_NAME", "Author of the bump.", default="pipeline-tools", **_ONE),
    "author_email": _setting("--author-email", "GITLAB_USER_EMAIL", "E-mail address of the bump's author.",
                             default="pipeline-tools@noreply.invalid", **_ONE),
    "env_commit": _setting("--env-commit", "PT_ENV_COMMIT", "Commit that the pipeline must contain. Default: the "
                           "receipt's bump.", metavar="SHA"),
    "variable": _setting("--variable", "PT_VARIABLE", "Variable of the pipeline. Repeatable.", **_MANY,
                         metavar="KEY=VALUE"),
    "input": _setting("--input", "PT_INPUT", "Input of the pipeline. Repeatable.", **_MANY, metavar="KEY=VALUE"),
    "wait": click.option("--wait/--no-wait", cls=Setting, envvar="PT_WAIT", show_envvar=True, default=False,
                         help="Wait for the pipeline's end and end as it does."),
    "timeout": _setting("--timeout", "PT_TIMEOUT", "How long to wait or to go on trying, in seconds.", default=3000.0,
                        type=click.FloatRange(min=0), show_default=True, metavar="SECONDS"),
    # runner
    "binding": _setting("--binding", "PT_BINDING", "The binding file of the runners.", default="runner/binding.yml",
                        show_default=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE"),
    "directory": _setting("--directory", "PT_DIRECTORY", "Where the rendered files are, a folder for each environment.",
                          default="runner", show_default=True, type=click.Path(file_okay=False, path_type=Path),
                          metavar="DIR"),
    "only_check": click.option("--check", "only_check", cls=Setting, envvar="PT_CHECK", show_envvar=True, is_flag=True,
                               help="Change nothing; end with exit 6 where something differs."),
    "environment": _setting("--environment", "PT_ENVIRONMENT", "Environment of the binding. Repeatable. Default: all.",
                            **_MANY, metavar="NAME"),
    "prove": click.option("--prove/--no-prove", cls=Setting, envvar="PT_PROVE", show_envvar=True, default=True,
                          help="Prove afterwards that no environment's policy reaches another's secrets."),
    # Terraform
    "root": _setting("--root", "PT_ROOT", "Folder of a Terraform root in the checkout, or a glob such as scaleway/*. "
                     "Repeatable. Default: every folder with a backend block.", **_MANY, metavar="DIR"),
    "changed_since": _setting("--changed-since", ["PT_CHANGED_SINCE", "CI_MERGE_REQUEST_DIFF_BASE_SHA"], "Take only the "
                              "roots that differ from this commit, their local modules included.", metavar="COMMIT"),
    "state": _setting("--state", "PT_STATE", "Where the state is: gitlab[:NAME], gs://BUCKET/PREFIX, "
                      "s3://BUCKET/KEY?region=REGION on Scaleway, or configured: as the root's backend block says all. "
                      "{root} in it stands for the root's name.", default=STATE, show_default=True, metavar="PLACE"),
    "terraform_binary": _setting("--terraform-binary", "PT_TERRAFORM_BINARY", "Terraform, or OpenTofu's tofu.",
                                 default="terraform", show_default=True, metavar="PROGRAM"),
    "var_file": _setting("--var-file", "PT_VAR_FILE", "Variable file in the checkout, for every root. Repeatable.", **_MANY,
                         metavar="FILE"),
    "allow_provider": _setting("--allow-provider", "PT_ALLOW_PROVIDER", "Provider that roots may use, by its source "
                               "address; in place of the default list. Repeatable.", **_MANY, metavar="ADDRESS"),
    "plans": _setting("--plans", "PT_PLANS", "Folder where plan leaves the encrypted plans and passports, for apply.",
                      default="plans", show_default=True, type=click.Path(file_okay=False, path_type=Path), metavar="DIR"),
    "plan_recipient": _setting("--plan-recipient", "PT_PLAN_RECIPIENT", "Age recipient that plan files are encrypted to.",
                               metavar="age1…"),
    "note": click.option("--note/--no-note", cls=Setting, envvar="PT_NOTE", show_envvar=True, default=True,
                         help="Write the plan into a note on the merge request, if PT_GITLAB_TOKEN is there."),
    "merge_request": _setting("--merge-request", "CI_MERGE_REQUEST_IID", "The merge request that the plan is for.",
                              type=click.IntRange(min=1), metavar="IID"),
    "job_url": _setting("--job-url", "CI_JOB_URL", "This job, named in passports.", metavar="URL"),
    "job_id": _setting("--job-id", "CI_JOB_ID", "This job's number, to tell who holds a lock.",
                       type=click.IntRange(min=1), metavar="ID"),
    "ref": _setting("--ref", "CI_COMMIT_REF_NAME", "Branch that the plan is made on.", **_ONE),
    "max_deletes": _setting("--max-deletes", "PT_MAX_DELETES", "How many objects an apply may delete or replace unasked.",
                            default=0, show_default=True, type=click.IntRange(min=0), metavar="NUMBER"),
    "approve_deletes": _setting("--approve-deletes", "PT_APPROVE_DELETES", "Passport whose deletions and replacements are "
                                "approved, beyond --max-deletes and of protected types. Repeatable.", **_MANY,
                                metavar="PASSPORT"),
    "as_reviewed": click.option("--as-reviewed", cls=Setting, envvar="PT_AS_REVIEWED", show_envvar=True, is_flag=True,
                                help="Apply only what equals the plan that was reviewed on the merge request."),
    "lock_timeout": _setting("--lock-timeout", "PT_LOCK_TIMEOUT", "How long to wait for the state's lock, in seconds.",
                             default=300.0, show_default=True, type=click.FloatRange(min=0), metavar="SECONDS"),
    "grace": _setting("--grace", "PT_GRACE", "How long an interrupted apply may take to end in peace, in seconds; keep it "
                      "below the pod's terminationGracePeriodSeconds.", default=1500.0, show_default=True,
                      type=click.FloatRange(min=0), metavar="SECONDS"),
    "force": click.option("--force", cls=Setting, envvar="PT_FORCE", show_envvar=True, is_flag=True,
                          help="Remove a lock that is not ours, or whose job may still run."),
    # Vault
    "vault_address": _setting("--vault-address", "VAULT_ADDR", "The Vault or OpenBao server.", metavar="URL"),
    "vault_namespace": _setting("--vault-namespace", "VAULT_NAMESPACE", "Namespace in Vault.", metavar="NAMESPACE"),
    "vault_ca_file": _setting("--vault-ca-file", "VAULT_CACERT", "Certificate authority of Vault, in PEM.",
                              type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE"),
    "vault_auth": _setting("--vault-auth", "PT_VAULT_AUTH", "How to prove who we are to Vault. With kubernetes+jwt the "
                           "JWT role reads what only the Kubernetes role may decrypt.", default="kubernetes",
                           show_default=True, type=click.Choice(["kubernetes", "jwt", "kubernetes+jwt", "token"])),
    "vault_role": _setting("--vault-role", "PT_VAULT_ROLE", "Role in Vault.", metavar="ROLE"),
    "vault_jwt_role": _setting("--vault-jwt-role", "PT_VAULT_JWT_ROLE", "Role of the id token. Default: --vault-role.",
                               metavar="ROLE"),
    "vault_kubernetes_mount": _setting("--vault-kubernetes-mount", "PT_VAULT_KUBERNETES_MOUNT", "Where Vault's Kubernetes "
                                       "auth method is mounted.", default="kubernetes", show_default=True, metavar="MOUNT"),
    "vault_jwt_mount": _setting("--vault-jwt-mount", "PT_VAULT_JWT_MOUNT", "Where Vault's JWT auth method is mounted.",
                                default="jwt", show_default=True, metavar="MOUNT"),
    "vault_timeout": _setting("--vault-timeout", "PT_VAULT_TIMEOUT", "How long to go on asking a Vault that is sealed, "
                              "standby, overloaded or unreachable, in seconds.", default=60.0, show_default=True,
                              type=click.FloatRange(min=0), metavar="SECONDS"),
    "vault_transit_key": _setting("--vault-transit-key", "PT_VAULT_TRANSIT_KEY", "Transit key that decrypts, for "
                                  "kubernetes+jwt.", metavar="MOUNT/NAME"),
    "kubernetes_token_file": _setting("--kubernetes-token-file", "PT_KUBERNETES_TOKEN_FILE", "The pod's projected "
                                      "service-account token.", default="/var/run/secrets/tokens/vault-token",
                                      show_default=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE"),
    "secret": _setting("--secret", "PT_SECRET", "Variable to lend, masked where it is printed. Repeatable.", **_MANY,
                       metavar="NAME=PATH#FIELD[@VERSION][:base64][:file]"),
    "value": _setting("--value", "PT_VALUE", "Variable to lend that is no secret: an id, a region. Repeatable.", **_MANY,
                      metavar="NAME=PATH#FIELD[@VERSION][:base64][:file]"),
    "secrets_below": _setting("--secrets-below", "PT_SECRETS_BELOW", "Lend every field at and below a path, masked, as "
                              "PREFIX and its name in capitals. Repeatable.", **_MANY, metavar="[PREFIX]=PATH"),
    "scaleway": _setting("--scaleway", "PT_SCALEWAY", "Lend a Scaleway project's SCW_ACCESS_KEY, SCW_SECRET_KEY and "
                         "SCW_DEFAULT_PROJECT_ID.", metavar="PROJECT"),
    "s3_backend": click.option("--s3-backend", cls=Setting, envvar="PT_S3_BACKEND", show_envvar=True, is_flag=True,
                               help="Lend that key as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY too, for Terraform's S3 "
                               "backend."),
    # Credentials
    "vault_token": _secret("vault_token", "VAULT_TOKEN", "A token for Vault; it is not revoked."),
    "vault_id_token": _secret("vault_id_token", "VAULT_ID_TOKEN", "The job's id token for Vault."),
    "gitlab_token": _secret("gitlab_token", "PT_GITLAB_TOKEN", "Token of this project, for tags and releases."),
    "env_token": _secret("env_token", "PT_ENV_TOKEN", "Token of the env project, to push and to follow pipelines."),
    "trigger_token": _secret("trigger_token", "PT_TRIGGER_TOKEN", "Trigger token of the env project."),
    "plan_identity": _secret("plan_identity", "PT_PLAN_IDENTITY", "Age identity that decrypts plan files; Vault may lend it "
                             "under this name to the job that applies, and to no other."),
    "passport_key": _secret("passport_key", "PT_PASSPORT_KEY", "Key that sensitive values in passports are hashed with and "
                            "passports are sealed with; Vault may lend it under this name."),
    "signing_key": _secret("signing_key", "PT_SIGNING_KEY", "GPG or SSH private key that signs the bump's commit; the "
                           "variable may be of type file.", cls=KeySetting),
    "job_token": _secret("job_token", "CI_JOB_TOKEN", "The job's own token."),
    "reviewer_token": _secret("reviewer_token", "PT_REVIEWER_TOKEN", "Token that Vault outside the cluster asks for "
                              "token reviews with."),
    "registry_auth": _setting("--registry-auth", "PT_REGISTRY_AUTH", "How to log in at the registries of --repository and "
                              "--candidate-repository. auto takes what is there, and says what and why.", default="auto",
                              show_default=True,
                              type=click.Choice(["auto", "metadata", "oidc", "docker-config", "basic"])),
    "registry_user": _setting("--registry-user", "PT_REGISTRY_USER", "User at the registry.", metavar="NAME"),
    "registry_password": _secret("registry_password", "PT_REGISTRY_PASSWORD", "Password or access token at the registry."),
    "google_id_token": _secret("google_id_token", "PT_GOOGLE_ID_TOKEN", "The job's id token for Google."),
    "google_workload_identity_provider": _setting(
        "--google-workload-identity-provider", "PT_GOOGLE_WORKLOAD_IDENTITY_PROVIDER", "The provider that takes that id "
        "token.", metavar="projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"),
    "google_service_account": _setting("--google-service-account", "PT_GOOGLE_SERVICE_ACCOUNT", "Google account to act as "
                                       "with that id token. Default: the job as itself.", metavar="EMAIL"),
    "google_registry": _setting("--google-registry", "PT_GOOGLE_REGISTRY", "Registry that takes Google's tokens, beside "
                                "*.pkg.dev, gcr.io and *.gcr.io. Repeatable.", **_MANY, metavar="HOST"),
    "google_sts_url": _setting("--google-sts-url", "PT_GOOGLE_STS_URL", "Google's Security Token Service.",
                               default="https://sts.googleapis.com", show_default=True, metavar="URL"),
    "google_iam_url": _setting("--google-iam-url", "PT_GOOGLE_IAM_URL", "Google's Service Account Credentials API.",
                               default="https://iamcredentials.googleapis.com", show_default=True, metavar="URL"),
    "docker_auth_config": _secret("docker_auth_config", "DOCKER_AUTH_CONFIG", "Registry logins as docker writes them."),
    "docker_config": _setting("--docker-config", "DOCKER_CONFIG", "Folder of docker's config.json.",
                              type=click.Path(file_okay=False, path_type=Path), metavar="DIR"),
    "docker_host": _setting("--docker-host", "DOCKER_HOST", "The docker engine.", metavar="URL"),
    "docker_cert_path": _setting("--docker-cert-path", "DOCKER_CERT_PATH", "Folder of the engine's ca, cert and key.",
                                 type=click.Path(file_okay=False, path_type=Path), metavar="DIR"),
    # How it is said
    "report": _setting("--report", "PT_REPORT", "Write a GitLab report: dotenv or annotations; of lint and check codequality; of a plan terraform. Repeatable.", **_MANY,
                       metavar="KIND=FILE"),
    "output": click.option("--output", envvar="PT_OUTPUT", show_envvar=True, type=click.Choice(["text", "json"]),
                           default="text", is_eager=True, expose_value=False, callback=_output,
                           help="Text for people, or one JSON document."),
    "verbose": click.option("-v", "--verbose", envvar="PT_VERBOSE", show_envvar=True, is_flag=True, is_eager=True,
                            expose_value=False, callback=_verbose, help="Say each command and request."),
    "dry_run": click.option("--dry-run", envvar="PT_DRY_RUN", show_envvar=True, is_flag=True,
                            help="Show the plan; write nothing, anywhere."),
}  # fmt: skip


def of(*classes: type, also: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Callable[[F], F]:
    """A decorator that gives a command the options for all fields of `classes`, each once, and `also`.

    `without` names fields that keep their default, because the command decides them itself.
    """
    names = [field.name for cls in classes for field in fields(cls)]
    wanted = [name for name in dict.fromkeys([*names, *also, "output", "verbose"]) if name not in without]

    def decorate(function: F) -> F:
        for name in reversed(wanted):
            function = CATALOGUE[name](function)
        return function

    return decorate


def pick(cls: type[T], params: Mapping[str, Any]) -> T:
    """An instance of `cls` from the parameters that have the names of its fields; others keep their default."""
    return cls(**{field.name: params[field.name] for field in fields(cls) if field.name in params})  # type: ignore[arg-type]
