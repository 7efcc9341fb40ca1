"""The lab as people write it: the models behind `lab.yaml`. Sizes carry their unit in the name (`memory_mib`, `disk_gib`)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from labctl.model.apps import Apps, AppSpec, LabApp, app_problems
from labctl.model.ci import Ci
from labctl.model.driftsettings import DriftSettings
from labctl.model.guestfiles import DOCKER, GITLAB, PACKAGES_PORT, STORE, VAULT, GuestRole
from labctl.model.labrules import LabRule
from labctl.model.report import KEEP_RUNS, MOST_RUNS
from labctl.model.services import Services, ServiceSpec, problems
from labctl.model.settings import LIST, Name, Settings
from labctl.model.target import Datastores, Port, Target

BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$")]
Domain = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")]

VmId = Annotated[int, Field(ge=100, le=999_999_999)]

OPERATOR_KEY = re.compile(r"^(age1[0-9a-z]{58}|ssh-(ed25519|rsa) [A-Za-z0-9+/=]+( .*)?)$")


class Guest(Settings):
    """A virtual machine of the lab."""

    vmid: VmId
    cores: int = Field(2, ge=1, le=512)
    memory_mib: int = Field(2048, ge=256)
    balloon_mib: int | None = Field(None, ge=0, description="floor of the balloon; none: memory is not ballooned")
    disk_gib: int = Field(20, ge=4)
    address: str = Field("", description="`dhcp`, or address/prefix; empty: the network's default")
    on_boot: bool = Field(True, description="start with the hypervisor")
    cpu_type: str = "x86-64-v2-AES"

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        if value in ("", "dhcp"):
            return value
        if "/" not in value:
            raise ValueError("an address needs its prefix length, as 192.0.2.11/24; or write dhcp")
        return str(IPv4Interface(value))


class VaultGuest(Guest):
    """Guest `vault`: OpenBao."""

    vmid: VmId = 102
    cores: int = Field(1, ge=1, le=512)
    memory_mib: int = Field(1024, ge=512)


class StoreGuest(Guest):
    """Guest `store`: the S3 object store (SeaweedFS)."""

    vmid: VmId = 101
    memory_mib: int = Field(2048, ge=512)
    disk_gib: int = Field(200, ge=4)
    region: str = "eu-west-1"
    buckets: Annotated[tuple[BucketName, ...], LIST] = ("sandbox", "terraform", "gitlab", "lakehouse", "mlflow")

    @field_validator("buckets")
    @classmethod
    def _state_bucket(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for needed in ("terraform", "gitlab"):
            if needed not in value:
                raise ValueError(f"bucket {needed!r} is needed by the lab itself")
        return value


class Runner(Settings):
    """The GitLab runner on guest `gitlab`."""

    concurrent: int = Field(4, ge=2, le=64, description="jobs at once; 1 would freeze a job that waits for another pipeline")
    image: str = "ubuntu:latest"
    tags: Annotated[tuple[str, ...], LIST] = ("docker", "remote", "ubuntu")
    run_untagged: bool = True


class GitlabGuest(Guest):
    """Guest `gitlab`: GitLab, its container registry and a runner."""

    vmid: VmId = 201
    cores: int = Field(4, ge=1, le=512)
    memory_mib: int = Field(8192, ge=4096)
    disk_gib: int = Field(200, ge=20)
    external_url: str = Field("", description="empty: http://gitlab.<domain>")
    registry_port: Port = 5050
    time_zone: str = "Etc/UTC"
    package_repository: str = Field("https://packages.gitlab.com", description="apt repositories of gitlab-ce and gitlab-runner")
    runner: Runner = Runner()

    @field_validator("external_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d+)?", value):
            raise ValueError("write a URL without a path, as http://gitlab.example.com")
        return value


class Gpu(Settings):
    """A GPU handed to guest `docker` by PCI mappings. `pvesh get /nodes/NODE/hardware/pci` lists the values."""

    vga_path: str = Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}(\.[0-7])?$")
    vga_id: str = Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")
    vga_subsystem_id: str = Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")
    vga_iommu_group: int = Field(ge=0)
    audio_path: str = Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}(\.[0-7])?$")
    audio_id: str = Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")
    audio_subsystem_id: str = Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")
    audio_iommu_group: int = Field(ge=0)


class DockerGuest(Guest):
    """Guest `docker`: the one Docker engine, reached over SSH only."""

    vmid: VmId = 202
    cores: int = Field(11, ge=1, le=512)
    memory_mib: int = Field(36864, ge=1024)
    disk_gib: int = Field(400, ge=10)
    gpu: Gpu | None = None
    package_source: Literal["docker", "distribution"] = Field(
        "docker", description="where the guests' Docker engine comes from: Docker's repository, or the image's distribution"
    )

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.gpu and self.balloon_mib is not None:
            raise ValueError("gpu and balloon_mib exclude each other: a passed-through device pins all memory")
        return self


class Image(Settings):
    """The cloud image that guests boot from. Pin it: a `latest` image plans a replacement when it changes."""

    url: str = "https://cloud-images.ubuntu.com/releases/noble/release-20251001/ubuntu-24.04-server-cloudimg-amd64.img"
    file_name: str = Field("ubuntu-24.04-20251001.qcow2", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(qcow2|raw|vmdk)$")
    checksum: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="sha256; empty: not checked")


class Foundation(Settings):
    """Layer 1."""

    image: Image = Image()
    vault: VaultGuest = VaultGuest()
    store: StoreGuest = StoreGuest()


class Platform(Settings):
    """Layer 2."""

    gitlab: GitlabGuest = GitlabGuest()
    docker: DockerGuest = DockerGuest()


class Network(Settings):
    """The guests' network."""

    bridge: str = Field("vmbr0", pattern=r"^[a-zA-Z][a-zA-Z0-9_]{0,14}$")
    domain: Domain = "lab.internal"
    cidr: IPv4Network | None = Field(None, strict=False, description="guests' static addresses must lie in it")
    gateway: IPv4Address | None = Field(None, strict=False)
    dns: Annotated[tuple[str, ...], LIST] = ()

    @field_validator("dns")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(IPv4Address(v)) for v in value)


class Runs(Settings):
    """What is kept of runs, in `.labctl/<lab>/runs/`."""

    keep: int = Field(KEEP_RUNS, ge=1, le=MOST_RUNS, description="the newest runs to keep, with their journals and reports")


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """A guest with everything resolved.

    Attributes:
        name: Its name, also its host name.
        layer: The layer that makes it.
        role: What it is for.
        settings: What `lab.yaml` says of it.
        address: `address/prefix`, or `dhcp`.
        fqdn: Its name with the lab's domain.
    """

    name: str
    layer: str
    role: GuestRole
    settings: Guest
    address: str
    fqdn: str

    @property
    def ip(self) -> str:
        """The static address without its prefix; "" with DHCP."""
        return "" if self.address == "dhcp" else self.address.split("/")[0]


class Lab(Settings):
    """A whole lab."""

    name: Name
    target: Target
    network: Network = Network()
    operators: Annotated[tuple[str, ...], LIST] = Field(
        (),
        description="age or SSH public keys to which the recovery keys are encrypted; the sandbox makes one of its own",
    )
    foundation: Foundation = Foundation()
    platform: Platform = Platform()
    services: Services = Services()
    apps: Apps = Apps()
    runs: Runs = Runs()
    ci: Ci | None = Field(None, description="the lab's own repository, whose jobs may log in to the Vault")
    drift: DriftSettings = DriftSettings()
    policy: Annotated[tuple[LabRule, ...], LIST] = Field((), description="the lab's own rules over plans, besides labctl's")

    @field_validator("policy")
    @classmethod
    def _ids(cls, value: tuple[LabRule, ...]) -> tuple[LabRule, ...]:
        for rule, count in Counter(rule.id for rule in value).items():
            if count > 1:
                raise ValueError(f"the id {rule!r} is used {count} times; each rule needs one of its own")
        return value

    @field_validator("operators")
    @classmethod
    def _keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for key in value:
            if not OPERATOR_KEY.match(key):
                if "SECRET-KEY" in key.upper() or "PRIVATE KEY" in key.upper():
                    raise ValueError("this is a private key: take it out, and write the public one that belongs to it")
                raise ValueError(f"{key[:24]!r}… is not a public key: write age1…, ssh-ed25519 … or ssh-rsa …")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.target.proxmox and not self.operators:
            raise ValueError("operators: list at least one age or SSH public key, else nobody could unseal the Vault")
        self._check_guests()
        for problem in problems(self.services, buckets=self.foundation.store.buckets, gpu=self.platform.docker.gpu is not None):
            raise ValueError(problem)
        for problem in app_problems(self.apps, self.services):
            raise ValueError(problem)
        return self

    def _check_guests(self) -> None:
        specs = self.guests()
        for what, values in (("vmid", [g.settings.vmid for g in specs]), ("address", [g.ip for g in specs if g.ip])):
            for value, count in Counter(values).items():
                if count > 1:
                    names = " and ".join(g.name for g in specs if value in (g.settings.vmid, g.ip))
                    raise ValueError(f"{what} {value} is used twice, by {names}")
        for guest in specs:
            if self.target.sandbox and guest.address == "dhcp":
                raise ValueError(f"{guest.layer}.{guest.name}.address: the sandbox has no DHCP; leave the address out")
            if guest.ip and self.subnet and IPv4Address(guest.ip) not in self.subnet:
                raise ValueError(f"{guest.layer}.{guest.name}.address: {guest.ip} is outside the network {self.subnet}")

    @property
    def subnet(self) -> IPv4Network | None:
        """The network of static addresses: the sandbox's own, else `network.cidr`."""
        return self.target.sandbox.subnet if self.target.sandbox else self.network.cidr

    @property
    def boots(self) -> bool:
        """Whether guests boot and run their cloud-init: on a real host and as containers, not as appliances."""
        return self.target.sandbox is None or self.target.sandbox.guests == "container"

    def with_guests(self, kind: Literal["container", "appliance"]) -> Lab:
        """The lab with the choice of the sandbox's guests made.

        Raises:
            ValueError: A guest's address does not fit.
        """
        if self.target.sandbox is None or self.target.sandbox.guests == kind:
            return self
        sandbox = self.target.sandbox.model_copy(update={"guests": kind})
        lab = self.model_copy(update={"target": self.target.model_copy(update={"sandbox": sandbox})})
        lab._check_guests()  # noqa: SLF001  (of the same class)
        return lab

    @property
    def node(self) -> str:
        """The Proxmox node that guests are made on."""
        return self.target.proxmox.node if self.target.proxmox else "pve"

    @property
    def datastores(self) -> Datastores:
        """Which datastore holds what."""
        return self.target.proxmox.datastores if self.target.proxmox else Datastores()

    @property
    def sandbox_server(self) -> str:
        """`host:port` where guests of a sandbox that boot find the sandbox's own packages and images; "" elsewhere."""
        sandbox = self.target.sandbox
        return f"{sandbox.guest_network[1]}:{PACKAGES_PORT}" if sandbox and self.boots else ""

    @property
    def package_repository(self) -> str:
        """Where GitLab and its runner come from. Guests of a sandbox that boot take its stand-ins, unless lab.yaml says else."""
        gitlab = self.platform.gitlab
        if self.sandbox_server and "package_repository" not in gitlab.model_fields_set:
            return f"http://{self.sandbox_server}"
        return gitlab.package_repository.rstrip("/")

    @property
    def docker_source(self) -> Literal["docker", "distribution"]:
        """Where the guests' Docker engine comes from. In guests of a sandbox from Debian, unless lab.yaml says else."""
        docker = self.platform.docker
        if self.target.sandbox and self.boots and "package_source" not in docker.model_fields_set:
            return "distribution"
        return docker.package_source

    @property
    def gitlab_url(self) -> str:
        """GitLab's external URL."""
        return self.platform.gitlab.external_url or f"http://gitlab.{self.network.domain}"

    @property
    def registry_host(self) -> str:
        """`host:port` of the container registry."""
        host = re.sub(r"^https?://|:\d+$", "", self.gitlab_url)
        return f"{host}:{self.platform.gitlab.registry_port}"

    def _spec(self, layer: str, name: str, role: GuestRole, settings: Guest) -> GuestSpec:
        address = settings.address
        if not address:
            net = self.subnet if self.target.sandbox else None
            address = f"{net.network_address + 2 + (settings.vmid - 2) % 252}/{net.prefixlen}" if net else "dhcp"
        return GuestSpec(name, layer, role, settings, address, f"{name}.{self.network.domain}")

    def _guests(self) -> Iterator[GuestSpec]:
        yield self._spec("foundation", "vault", VAULT, self.foundation.vault)
        yield self._spec("foundation", "store", STORE, self.foundation.store)
        yield self._spec("platform", "gitlab", GITLAB, self.platform.gitlab)
        yield self._spec("platform", "docker", DOCKER, self.platform.docker)

    def guests(self) -> tuple[GuestSpec, ...]:
        """All guests of the lab, foundation first."""
        return tuple(self._guests())

    def guest(self, name: str) -> GuestSpec:
        """One guest by name.

        Raises:
            KeyError: No guest has this name.
        """
        return {g.name: g for g in self.guests()}[name]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that this lab has. Appliances can run no service."""
        services = ("services",) if self.service_specs() else ()
        return ("foundation", "platform", *services, *(("apps",) if self.app_specs() else ()))

    @property
    def compose_projects(self) -> tuple[str, ...]:
        """The services and apps that are on, by name: each is a Compose project on guest `docker`."""
        specs: tuple[ServiceSpec | AppSpec, ...] = (*self.service_specs(), *self.app_specs())
        return tuple(spec.name for spec in specs)

    def service_image(self, name: str) -> str:
        """The image of a service that is on: that of lab.yaml, else the sandbox's where it serves its guests, else upstream's.

        Raises:
            KeyError: No service that is on has this name.
        """
        service = self.services.on()[name]
        if service.image:
            return service.image
        own = f"{self.sandbox_server}/lab/{name}:{service.kind.version}"
        return own if self.sandbox_server else service.kind.upstream

    def service_specs(self) -> tuple[ServiceSpec, ...]:
        """The services of layer 3, each after those that it needs; none where no guest could run them."""
        if not self.boots:
            return ()
        on = self.services.on()
        return tuple(ServiceSpec(name, service, service.kind.needs, self.service_image(name)) for name, service in on.items())

    def app_specs(self) -> tuple[AppSpec, ...]:
        """The apps of layer 4, each after those that it needs; none where no guest could run them."""
        if not self.boots:
            return ()
        return tuple(
            AppSpec(name, app, f"{self.apps.project}/{name}", self._build_args(app)) for name, app in self.apps.on().items()
        )

    @property
    def sandbox_images(self) -> tuple[str, ...]:
        """What this lab takes from the sandbox's own registry, by name: images of services, and those that apps are built on."""
        if not self.sandbox_server:
            return ()
        services = [spec.name for spec in self.service_specs() if spec.settings.image is None]
        bases = [spec.kind.runtime for spec in self.app_specs() if spec.settings.base_image is None]
        return tuple(dict.fromkeys((*services, *bases)))

    def _build_args(self, app: LabApp) -> dict[str, str]:
        own = f"{self.sandbox_server}/lab/{app.kind.runtime}:{app.kind.runtime_version}"
        base = app.base_image or (own if self.sandbox_server else app.kind.base)
        index = self.apps.package_index
        return {"BASE_IMAGE": base} | ({"PACKAGE_INDEX": index} if index and app.kind.runtime == "python" else {})
