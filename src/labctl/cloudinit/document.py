"""A merged part as the text of a user-data document."""

from __future__ import annotations

import io
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from labctl.cloudinit.part import Account, Command, GuestFile, Part
from labctl.model.errors import LabError

HEADER = "#cloud-config\n"

# cloud-init reads YAML 1.1, where `on`, `no`, `0644` or `12:30` without quotes are no text. What is surely text stays plain.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@+-]*( [A-Za-z0-9_./@+=-]+)*")
_NOT_TEXT = re.compile(r"y|n|yes|no|on|off|true|false|null", re.IGNORECASE)
_LITERAL = re.compile(r"[\x20-\x7e\u00a1-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\n\t]*")


def render(part: Part) -> str:
    """The text of the document: `#cloud-config`, then YAML in block style with a stable order of keys.

    Raises:
        LabError: The text does not read back as what was written.
    """
    tree = _tree(part)
    text = HEADER + _emit(tree)
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


def _emit(tree: dict[str, Any]) -> str:
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 1_000_000  # a folded line could cut a Terraform token
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(_styled(tree), stream)
    return stream.getvalue()


def _styled(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _styled(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_arguments(value) if isinstance(value, list) else _styled(value) for value in node]
    return _scalar(node) if isinstance(node, str) else node


def _arguments(command: list[str]) -> CommentedSeq:
    """A program and its arguments, on one line."""
    line = CommentedSeq(_scalar(word) for word in command)
    line.fa.set_flow_style()
    return line


def _scalar(text: str) -> str:
    styled: str = text
    if _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return styled
    # A block that begins with a blank, or has blanks at the end of a line, is hard to read back for man and parser alike.
    if "\n" in text and _LITERAL.fullmatch(text) and text[0] not in " \t\n" and not re.search(r"[ \t](\n|\Z)", text):
        styled = LiteralScalarString(text)
    else:
        styled = DoubleQuotedScalarString(text)
    return styled
