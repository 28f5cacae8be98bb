"""The binding file, schema 1: which job of which environment is whom in Kubernetes, Google Cloud and Vault.

`docs/reference/binding.md` is written from these classes. `binding_file` reads one, and holds what the classes cannot say
alone (a class on spot nodes, an image that is not allowed).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import names
from pipeline_tools.text.schema import (
    Choice,
    Duration,
    Flag,
    Many,
    Number,
    Part,
    Parts,
    Text,
    said,
)

MINUTE, HOUR = 60, 3600
LONGEST_GRACE = HOUR
"""GKE ends a pod after 1 h of grace on a node upgrade, after 10 min on scale-down
(cloud.google.com/kubernetes-engine/docs/concepts/node-pool-upgrade-strategies; .../cluster-autoscaler)."""

KUBERNETES, JWT, BOTH = "kubernetes", "jwt", "kubernetes+jwt"
IN_CLUSTER, TOKEN_SECRET, ISSUER = "in-cluster", "token-secret", "jwt-issuer"
DEPLOY, BUILD, APPLY = "deploy", "build", "apply"
SHARED = "shared"
"""The folder of what no single environment has, among the rendered files; so no environment has this name."""


@dataclass(frozen=True)
class NodePool:
    """A node pool of the cluster."""

    spot: bool = said(Flag(), "its nodes can be taken away at any time", default=False)
    taints: tuple[str, ...] = said(Many(Text(names.TAINT)), "taints that its jobs tolerate", default=())
    name: str = ""

    @property
    def tolerated(self) -> tuple[str, ...]:
        """Its taints, with the one that GKE's documentation puts on spot nodes ("Spot VMs", `cloud.google.com/gke-spot`)."""
        return tuple(
            dict.fromkeys(
                [*self.taints, *(["cloud.google.com/gke-spot=true:NoSchedule"] if self.spot else [])]
            )
        )


@dataclass(frozen=True)
class Cluster:
    """The GKE cluster of the runners."""

    project: str = said(Text(names.PROJECT), "its Google Cloud project")
    location: str = said(Text(names.LOCATION), "its region or zone")
    name: str = said(Text(names.CLUSTER), "its name")
    dataplane: str = said(
        Choice(("v1", "v2")), "GKE Dataplane: where the metadata server is, for the NetworkPolicy"
    )
    node_pools: tuple[NodePool, ...] = said(
        Parts(NodePool, names.CLUSTER), "the node pools that classes may name"
    )
    project_number: str | None = said(
        Text(names.PROJECT_NUMBER),
        "its project's number, for people: nothing rendered needs it",
        default=None,
    )
    endpoint: str | None = said(
        Text(names.HTTPS), "address of its API, as Vault outside the cluster reaches it", default=None
    )
    ca: str | None = said(Text(names.CERTIFICATE), "certificate authority of that address", default=None)

    @property
    def issuer(self) -> str:
        """The issuer of its service-account tokens (kubernetes.io: OIDC discovery; GKE's form of the address)."""
        return (
            "https://container.googleapis.com/v1/"
            f"projects/{self.project}/locations/{self.location}/clusters/{self.name}"
        )

    @property
    def pool(self) -> str:
        """The workload identity pool (cloud.google.com/kubernetes-engine/docs/how-to/workload-identity)."""
        return f"{self.project}.svc.id.goog"


@dataclass(frozen=True)
class Gitlab:
    """The GitLab instance whose jobs run."""

    url: str = said(Text(names.HTTPS), "its address, which is also the issuer of its ID tokens")
    public_keys: tuple[str, ...] = said(
        Many(Text(names.PUBLIC_KEY)),
        "keys of its ID tokens, where Vault cannot reach it; else Vault discovers them",
        default=(),
    )


@dataclass(frozen=True)
class Reviewer:
    """How Vault proves a service-account token."""

    kind: str = said(
        Choice((IN_CLUSTER, TOKEN_SECRET, ISSUER)),
        "`in-cluster`: Vault's own account asks the TokenReview API; `token-secret`: Vault is outside and asks with a "
        "long-lived token; `jwt-issuer`: Vault is outside and checks signatures by the cluster's issuer",
    )
    namespace: str = said(
        Text(names.DNS_LABEL), "namespace of the reviewer's account, for `token-secret`", default="vault"
    )
    service_account: str = said(
        Text(names.DNS_LABEL), "the reviewer's account, for `token-secret`", default="vault-reviewer"
    )
    public_keys: tuple[str, ...] = said(
        Many(Text(names.PUBLIC_KEY)),
        "keys of the cluster's issuer, for `jwt-issuer` where Vault cannot reach it",
        default=(),
    )


@dataclass(frozen=True)
class Vault:
    """The Vault or OpenBao server."""

    address: str = said(Text(names.HTTPS), "its address, as jobs reach it")
    reviewer: Reviewer = said(Part(Reviewer), "how it proves service-account tokens")
    ca: str | None = said(
        Text(names.CERTIFICATE), "its certificate authority, where it is no public one", default=None
    )
    kubernetes_mount: str = said(
        Text(names.MOUNT), "auth mount for the cluster's service accounts", default="kubernetes"
    )
    jwt_mount: str = said(Text(names.MOUNT), "auth mount for GitLab's ID tokens", default="jwt")
    transit_mount: str = said(
        Text(names.MOUNT), "secrets engine of the keys for dual proof", default="transit"
    )
    audience: str = said(
        Text(names.AUDIENCE), "audience of the projected service-account token", default="vault"
    )


@dataclass(frozen=True)
class Secrets:
    """Secrets of one KV version 2 mount."""

    mount: str = said(Text(names.MOUNT), "the mount, made by `runner bind` where it is missing")
    paths: tuple[str, ...] = said(
        Many(Text(names.SECRET_PATH), least=1), "what may be read below it, without `data/`"
    )


@dataclass(frozen=True)
class Lease:
    """What an environment's deploy and apply jobs get from Vault."""

    role: str = said(Text(names.VAULT_NAME), "role on the auth mounts")
    policy: str = said(
        Text(names.VAULT_NAME), "policy of the role; with dual proof the ID token's is this with `-jwt`"
    )
    secrets: tuple[Secrets, ...] = said(Many(Part(Secrets), least=1), "what they may read")
    ttl: int = said(Duration(MINUTE, HOUR), "life of a Vault token")
    max_ttl: int = said(Duration(MINUTE, 24 * HOUR), "its life with renewals")
    auth: str = said(
        Choice((KUBERNETES, JWT, BOTH)),
        "who must prove itself: the service account, the ID token, or both together (dual proof, by a transit key)",
        default=KUBERNETES,
    )
    REFUSED: ClassVar = {
        "bound_service_account_names": "the environment's service_account is the one that is bound",
        "bound_service_account_namespaces": "the environment's namespace is the one that is bound",
    }

    @property
    def has_kubernetes(self) -> bool:
        return self.auth in {KUBERNETES, BOTH}

    @property
    def has_jwt(self) -> bool:
        return self.auth in {JWT, BOTH}

    @property
    def is_dual(self) -> bool:
        return self.auth == BOTH

    @property
    def jwt_policy(self) -> str:
        """The ID token's policy: with dual proof one that reads ciphertext only."""
        return f"{self.policy}-jwt" if self.is_dual else self.policy


@dataclass(frozen=True)
class Claims:
    """What a GitLab ID token must say (docs.gitlab.com/ci/secrets/id_token_authentication, "Token payload")."""

    project_ids: tuple[int, ...] = said(Many(Number(1, 10**15), least=1), "the projects, by number")
    ref_protected: bool = said(Flag(), "only from protected branches and tags", default=True)
    environment: str | None = said(
        Text(names.GITLAB_ENVIRONMENT), "only from jobs of this GitLab environment", default=None
    )


@dataclass(frozen=True)
class Quota:
    """The ResourceQuota of each namespace."""

    pods: int = said(Number(1, 5000), "pods at once")
    cpu: str = said(Text(names.QUANTITY), "CPU requested, and at most used, by all")
    memory: str = said(Text(names.QUANTITY), "memory requested, and at most used, by all")
    ephemeral_storage: str = said(
        Text(names.QUANTITY), "disk of the nodes requested, and at most used, by all"
    )


@dataclass(frozen=True)
class Runner:
    """What the classes have in common."""

    tags: tuple[str, ...] = said(Many(Text(names.TAG), least=1), "tags of its jobs")
    image: str = said(Text(names.IMAGE), "image of a job that names none; not `latest`")
    allowed_images: tuple[str, ...] = said(
        Many(Text(names.IMAGE_PATTERN), least=1), "images that jobs may name"
    )
    node_pool: str = said(Text(names.CLUSTER), "node pool of its jobs")
    allowed_services: tuple[str, ...] = said(
        Many(Text(names.IMAGE_PATTERN)), "images that jobs may name as services; none where empty", default=()
    )
    concurrent: int = said(Number(1, 1000), "jobs at once", default=5)
    cpu: str = said(Text(names.QUANTITY), "CPU of a job, requested and limit", default="1")
    memory: str = said(Text(names.QUANTITY), "memory of a job, requested and limit", default="1Gi")
    ephemeral_storage: str = said(Text(names.QUANTITY), "disk of a job, requested and limit", default="5Gi")
    grace: int = said(
        Duration(10, LONGEST_GRACE), "how long a pod may go on when its node is taken away", default=600
    )
    REFUSED: ClassVar = {
        "service_account_overwrite": "a job does not choose its account; another account is another class",
        "privileged": "no class is privileged",
        "vault": "the environment's vault is that of deploy and apply; a build has none",
    }


@dataclass(frozen=True)
class Deploy(Runner):
    """Hardened: no privilege escalation, no capabilities, the environment's account, Google account and Vault role."""


@dataclass(frozen=True)
class Apply(Runner):
    """As deploy, for `terraform apply`: never evicted by the autoscaler, not on spot nodes."""

    longest: int = said(
        Duration(MINUTE, LONGEST_GRACE), "the longest `terraform apply`; `grace` must be longer", default=1800
    )
    grace: int = said(
        Duration(10, LONGEST_GRACE),
        "how long a pod may go on when its node is taken away",
        default=LONGEST_GRACE,
    )


@dataclass(frozen=True)
class Build(Runner):
    """Seccomp and AppArmor unconfined, as buildah and rootless BuildKit need; in a namespace of its own; no Vault role."""

    service_account: str = said(Text(names.DNS_LABEL), "its own service account", default="")
    google_service_account: str = said(Text(names.GOOGLE_ACCOUNT), "its own Google account", default="")
    artifact_registry: tuple[str, ...] = said(
        Many(Text(names.ARTIFACTS)), "repositories it may write, LOCATION/REPOSITORY", default=()
    )


@dataclass(frozen=True)
class Classes:
    """The runner classes of an environment; each becomes a release of the chart."""

    deploy: Deploy | None = said(Part(Deploy), "jobs that deploy", default=None)
    build: Build | None = said(Part(Build), "jobs that build images", default=None)
    apply: Apply | None = said(Part(Apply), "jobs that apply Terraform plans", default=None)

    def __iter__(self) -> Iterator[tuple[str, Runner]]:
        for name in (DEPLOY, BUILD, APPLY):
            runner = getattr(self, name)
            if runner is not None:
                yield name, runner


@dataclass(frozen=True)
class Environment:
    """One environment: a namespace, an account in each world, and what they may do."""

    namespace: str = said(
        Text(names.ENVIRONMENT), "namespace of deploy and apply jobs; builds have NAMESPACE-build"
    )
    service_account: str = said(Text(names.DNS_LABEL), "Kubernetes service account (KSA) of its jobs")
    google_service_account: str = said(
        Text(names.GOOGLE_ACCOUNT), "Google service account (GSA) that the KSA is by Workload Identity"
    )
    vault: Lease = said(Part(Lease), "what its jobs get from Vault")
    gitlab: Claims = said(Part(Claims), "the GitLab projects, and what their ID tokens must say")
    quota: Quota = said(Part(Quota), "quota of each namespace")
    classes: Classes = said(Part(Classes), "its runner classes")
    egress_ports: tuple[int, ...] = said(
        Many(Number(1, 65535)), "TCP ports beside 443 and Vault's that jobs may reach", default=()
    )
    name: str = ""

    def namespace_of(self, kind: str) -> str:
        """A build's namespace is its own: who may create pods in a namespace may use each of its accounts."""
        return f"{self.namespace}-build" if kind == BUILD else self.namespace


@dataclass(frozen=True)
class Binding:
    """The whole file."""

    schema: int = said(Number(1, 1), "version of the format")
    cluster: Cluster = said(Part(Cluster), "the cluster of the runners")
    gitlab: Gitlab = said(Part(Gitlab), "the GitLab instance")
    vault: Vault = said(Part(Vault), "the Vault server")
    environments: tuple[Environment, ...] = said(Parts(Environment, names.ENVIRONMENT), "the environments")

    def pool(self, name: str) -> NodePool:
        return next(pool for pool in self.cluster.node_pools if pool.name == name)

    def environment(self, name: str) -> Environment:
        """The environment of a name.

        Raises:
            PipelineError: there is none.
        """
        for environment in self.environments:
            if environment.name == name:
                return environment
        known = ", ".join(environment.name for environment in self.environments)
        raise PipelineError(
            f"the binding has no environment {name!r} (it has: {known})", hint="check --environment"
        )


PARTS = (
    (Binding, ""),
    (Cluster, "cluster"),
    (NodePool, "cluster.node_pools.NAME"),
    (Gitlab, "gitlab"),
    (Vault, "vault"),
    (Reviewer, "vault.reviewer"),
    (Environment, "environments.NAME"),
    (Lease, "environments.NAME.vault"),
    (Secrets, "environments.NAME.vault.secrets[]"),
    (Claims, "environments.NAME.gitlab"),
    (Quota, "environments.NAME.quota"),
    (Classes, "environments.NAME.classes"),
    (Deploy, "environments.NAME.classes.deploy"),
    (Build, "environments.NAME.classes.build"),
    (Apply, "environments.NAME.classes.apply"),
)
"""Every class with where it stands, for the documentation."""
