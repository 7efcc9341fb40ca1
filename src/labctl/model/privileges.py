"""Which rights a lab's API token needs on Proxmox VE, which of them are missing, and the commands that grant them.

Sources: the section "Required permissions" of each call in the API viewer (https://pve.proxmox.com/pve-docs/api-viewer/) for the
calls that bpg/proxmox 0.111.1 and labctl make, qemu-server's `PVE/API2/Qemu.pm` for what a guest's settings need one by one, and
`pveum(1)`, "Permission Management", for how rights are passed down. docs/proxmox.md shows the same table to people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from labctl.model.inventory import Release
from labctl.model.lab import Lab

SINCE_ALWAYS = (0, 0)
SINCE_8_2 = (8, 2)
SINCE_9 = (9, 0)
NEVER_ENDS = (999, 0)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One privilege on one path.

    Attributes:
        path: Where PVE checks it; `{node}`, `{pool}`, `{vmid}`, `{bridge}` and the datastores `{snippets}`, `{images}`, `{disks}`
            stand for the lab's.
        privilege: Its name.
        purpose: What labctl needs it for.
        grant_at: Where to grant it (PVE drops what was granted on a single guest or pool together with that guest or pool).
        role: The role of docs/proxmox.md that holds it.
        instead: (path, privilege) pairs that together do as well.
        since: First release (major, minor) that knows the privilege.
        until: First release that does not know it any more.
        gpu: Needed only by a lab with a GPU.
        advisory: Without it a check is blind, but nothing fails.
        reads: Who only looks needs it too: without it, a plan takes what it is not shown for gone.
    """

    path: str
    privilege: str
    purpose: str
    grant_at: str
    role: str
    instead: tuple[tuple[str, str], ...] = ()
    since: tuple[int, int] = SINCE_ALWAYS
    until: tuple[int, int] = NEVER_ENDS
    gpu: bool = False
    advisory: bool = False
    reads: bool = False


def _guest(
    privilege: str,
    purpose: str,
    *,
    since: tuple[int, int] = SINCE_ALWAYS,
    until: tuple[int, int] = NEVER_ENDS,
    reads: bool = False,
) -> Requirement:
    by_pool = (("/pool/{pool}", privilege),)
    return Requirement("/vms/{vmid}", privilege, purpose, "/vms", "LabctlGuests", by_pool, since=since, until=until, reads=reads)


def _datastore(
    which: str, privilege: str, purpose: str, instead: str = "", *, advisory: bool = False, reads: bool = False
) -> Requirement:
    path = f"/storage/{{{which}}}"
    role = "LabctlFiles" if which != "disks" else "LabctlDisks"
    return Requirement(
        path, privilege, purpose, path, role, ((path, instead),) if instead else (), advisory=advisory, reads=reads
    )


REQUIRED_PRIVILEGES: tuple[Requirement, ...] = (
    Requirement("/", "Sys.Audit", "see whether the datacenter firewall is on", "/", "LabctlAudit", advisory=True),
    Requirement("/nodes/{node}", "Sys.Audit", "compare the node's clock", "/nodes/{node}", "LabctlNode", advisory=True),
    Requirement(
        "/nodes/{node}",
        "Sys.AccessNetwork",
        "let the node download the cloud image",
        "/nodes/{node}",
        "LabctlNode",
        instead=(("/", "Sys.Audit"), ("/", "Sys.Modify")),
        since=SINCE_8_2,
    ),
    Requirement(
        "/",
        "Sys.Modify",
        "let the node download the cloud image",
        "/",
        "LabctlAudit",
        until=SINCE_8_2,
    ),
    Requirement("/pool/{pool}", "Pool.Allocate", "make the lab's pool and put guests into it", "/pool", "LabctlPool"),
    Requirement("/pool/{pool}", "Pool.Audit", "read the lab's pool", "/pool", "LabctlPool", reads=True),
    _guest("VM.Allocate", "create and remove guests"),
    _guest("VM.Audit", "read guests, and see strangers on the lab's VMIDs", reads=True),
    _guest("VM.PowerMgmt", "start and stop guests"),
    _guest("VM.Config.CPU", "set cores and CPU type"),
    _guest("VM.Config.Memory", "set memory and balloon"),
    _guest("VM.Config.Disk", "set, import and grow disks"),
    _guest("VM.Config.CDROM", "change the cloud-init drive"),
    _guest("VM.Config.Cloudinit", "set cloud-init and make its drive again"),
    _guest("VM.Config.Network", "set network devices and firewall rules"),
    _guest("VM.Config.HWType", "set machine type, serial console and PCI devices"),
    _guest("VM.Config.Options", "set name, description, tags, agent and start on boot"),
    _guest("VM.GuestAgent.Unrestricted", "hand certificates and secrets to guests through the agent", since=SINCE_9),
    _guest("VM.Monitor", "hand certificates and secrets to guests through the agent", until=SINCE_9),
    _datastore("snippets", "Datastore.Audit", "see the datastore", "Datastore.AllocateSpace", reads=True),
    _datastore("snippets", "Datastore.Allocate", "find the datastore's folder, list and remove snippets", reads=True),
    _datastore("images", "Datastore.Audit", "see the datastore and read the cloud image", "Datastore.AllocateSpace", reads=True),
    _datastore("images", "Datastore.AllocateTemplate", "download the cloud image"),
    _datastore("images", "Datastore.Allocate", "remove the cloud image on `down`"),
    _datastore("disks", "Datastore.AllocateSpace", "see the datastore and make the guests' disks"),
    _datastore("disks", "Datastore.Audit", "see disks whose guest is gone, in a drift check", advisory=True),
    Requirement(
        "/sdn/zones/localnetwork/{bridge}",
        "SDN.Use",
        "plug guests into the bridge",
        "/sdn/zones/localnetwork/{bridge}",
        "LabctlBridge",
        instead=(("/sdn/zones", "SDN.Use"),),
    ),
    Requirement("/mapping/pci", "Mapping.Modify", "make the GPU's PCI mappings", "/mapping/pci", "LabctlGpu", gpu=True),
    Requirement("/mapping/pci", "Mapping.Use", "give the GPU to the guest", "/mapping/pci", "LabctlGpu", gpu=True),
)


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a token may do, as `GET /access/permissions` tells it.

    Attributes:
        entries: path → privilege → whether it is passed down to the paths below. Paths without an entry take what is passed down.
    """

    entries: Mapping[str, Mapping[str, bool]]

    def at(self, path: str) -> frozenset[str]:
        """The privileges on a path.

        Rules of PVE's AccessControl `roles`: an entry on the path itself is complete (what lies above is replaced, not added to);
        otherwise the nearest entry above that passes anything down counts.
        """
        if path in self.entries:
            return frozenset(self.entries[path])
        while path != "/":
            path = path.rsplit("/", 1)[0] or "/"
            passed = frozenset(name for name, propagate in self.entries.get(path, {}).items() if propagate)
            if passed:
                return passed
        return frozenset()


@dataclass(frozen=True, slots=True)
class Right:
    """One required privilege, with the lab's names in place, and whether the token has it.

    Attributes:
        paths: The paths that it was looked for on (several for a privilege on guests).
        lacking: Those of them where the token does not have it.
        requirement: What it is; the first of several that ask for the same.
        grant_at: Where to grant it.
        purpose: What labctl needs it for.
    """

    paths: tuple[str, ...]
    lacking: tuple[str, ...]
    requirement: Requirement
    grant_at: str
    purpose: str

    @property
    def held(self) -> bool:
        """Whether the token has it everywhere that the lab needs it."""
        return not self.lacking


def _names(lab: Lab) -> dict[str, str]:
    stores = lab.datastores
    return {
        "node": lab.node,
        "pool": lab.name,
        "bridge": lab.network.bridge,
        "snippets": stores.snippets,
        "images": stores.images,
        "disks": stores.disks,
    }


def requirements(lab: Lab, release: Release) -> Iterator[Requirement]:
    """The requirements that concern this lab on this release."""
    for one in REQUIRED_PRIVILEGES:
        if one.since <= release.numbers < one.until and (lab.platform.docker.gpu or not one.gpu):
            yield one


def rights(permissions: Permissions, lab: Lab, release: Release) -> tuple[Right, ...]:
    """Each required privilege and whether the token has it."""
    names = _names(lab)
    vmids = [str(guest.settings.vmid) for guest in lab.guests()]
    found: dict[tuple[str, tuple[str, ...]], Right] = {}
    for one in requirements(lab, release):
        paths = tuple(dict.fromkeys(one.path.format(vmid=vmid, **names) for vmid in vmids))
        by_other = bool(one.instead) and all(
            privilege in permissions.at(path.format(vmid="", **names)) for path, privilege in one.instead
        )
        lacking = () if by_other else tuple(path for path in paths if one.privilege not in permissions.at(path))
        right = Right(paths, lacking, one, one.grant_at.format(**names), one.purpose)
        # Two settings may name the same datastore.
        if same := found.get((one.privilege, paths)):
            right = replace(same, purpose=same.purpose if one.purpose in same.purpose else f"{same.purpose}; {one.purpose}")
        found[one.privilege, paths] = right
    return tuple(found.values())


def missing_privileges(permissions: Permissions, lab: Lab, release: Release) -> list[Right]:
    """The required privileges that the token lacks; advisory ones are left out."""
    return [right for right in rights(permissions, lab, release) if not right.held and not right.requirement.advisory]


def roles(lab: Lab, release: Release) -> dict[str, tuple[frozenset[str], tuple[str, ...]]]:
    """Role → (its privileges, the paths to grant it on), as docs/proxmox.md sets them up.

    Privileges and paths are complete on each path, because a grant further down replaces what comes from above.
    """
    names = _names(lab)
    collected: dict[str, tuple[set[str], list[str]]] = {}
    for one in requirements(lab, release):
        privileges, paths = collected.setdefault(one.role, (set(), []))
        privileges.add(one.privilege)
        path = one.grant_at.format(**names)
        if path not in paths:
            paths.append(path)
    return {role: (frozenset(privileges), tuple(paths)) for role, (privileges, paths) in collected.items()}


def role_command(role: str, privileges: frozenset[str]) -> str:
    """The command that makes a role, or brings an existing one up to date (`pveum(1)`)."""
    listed = " ".join(sorted(privileges))
    return f'pveum role add {role} --privs "{listed}" || pveum role modify {role} --privs "{listed}"'


def grant_command(role: str, path: str, token_id: str) -> str:
    """The command that grants a role on a path to a token and its user.

    Both, because a token with separated privileges has only what its user has too (`pveum(1)`, "API Tokens").
    """
    return f"pveum acl modify {path} --users {token_id.partition('!')[0]} --tokens '{token_id}' --roles {role}"


def setup_commands(lab: Lab, release: Release, token_id: str) -> tuple[str, ...]:
    """Every command that gives a fresh token what this lab needs."""
    commands = []
    for role, (privileges, paths) in roles(lab, release).items():
        commands.append(role_command(role, privileges))
        commands.extend(grant_command(role, path, token_id) for path in paths)
    return tuple(commands)


def remedy(right: Right, lab: Lab, release: Release, token_id: str) -> str:
    """The commands, to be run as root on the node, that grant one missing privilege."""
    role = right.requirement.role
    return f"{role_command(role, roles(lab, release)[role][0])}; {grant_command(role, right.grant_at, token_id)}"
