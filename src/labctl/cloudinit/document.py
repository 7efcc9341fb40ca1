"""A merged part as the text of a user-data document."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML

from labctl.cloudinit.part import Account, Command, GuestFile, Part
from labctl.cloudinit.yamltext import yaml_text
from labctl.model.errors import LabError

HEADER = "#cloud-config\n"


def render(part: Part) -> str:
    """The text of the document: `#cloud-config`, then YAML in block style with a stable order of keys.

    Raises:
        LabError: The text does not read back as what was written.
    """
    tree = _tree(part)
    text = HEADER + yaml_text(tree)
    if parse(text) != tree:
        raise LabError("a document does not read back as it was written", hint="This is a bug in labctl: please report it.")
    return text


def parse(text: str) -> Any:
    """The data of a document, read as cloud-init reads it (YAML 1.1).

    Raises:
        ruamel.yaml.error.YAMLError: The text is not YAML.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    return yaml.load(text)


def _tree(part: Part) -> dict[str, Any]:
    tree: dict[str, Any] = {key: list(value) if isinstance(value, tuple) else value for key, value in part.settings.items()}
    lists = {
        "users": [_account(account) for account in part.accounts],
        "packages": list(part.packages),
        "write_files": [_file(file) for file in part.files],
        "runcmd": [_command(command) for command in part.commands],
    }
    return tree | {key: value for key, value in lists.items() if value}


def _account(account: Account) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": account.name}
    if account.system:
        entry |= {"system": True, "shell": "/usr/sbin/nologin"}
    else:
        entry["shell"] = "/bin/bash"
    if account.home:
        entry["homedir"] = account.home
    if account.sudo:
        entry["sudo"] = account.sudo
    entry["lock_passwd"] = True
    if account.ssh_keys:
        entry["ssh_authorized_keys"] = list(account.ssh_keys)
    return entry


def _file(file: GuestFile) -> dict[str, Any]:
    return {"path": file.path, "owner": "root:root", "permissions": file.mode, "content": file.content}


def _command(command: Command) -> str | list[str]:
    return command if isinstance(command, str) else list(command)
