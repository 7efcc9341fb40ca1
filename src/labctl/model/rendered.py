"""What a guest renders from the Vault: which file under `/run/lab` holds which secrets, and the templates that make it.

Nothing else than what the catalogue lets the guest's role read can stand here, and nothing of that is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from labctl.model.catalogue import GITLAB_ROOT, GITLAB_RUNNER, MOUNT, SecretSpec, catalogue
from labctl.model.errors import LabError
from labctl.model.guestfiles import BUCKET_FILE, GITLAB_SECRETS_FILE, IDENTITY_READY, RUNNER_TOKEN_FILE
from labctl.model.lab import GuestSpec, Lab
from labctl.model.vaultroles import guest_role

Source = tuple[str, str]
"""A secret's path, and its field."""

_FIELD = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """A file that a guest renders.

    Attributes:
        path: Where.
        fields: For a JSON object: its keys, each with the secret's field that it holds.
        value: For a file with one bare value: the secret's field.
    """

    path: str
    fields: Mapping[str, Source] | None = None
    value: Source | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """What it is made from."""
        return tuple((self.fields or {}).values()) + ((self.value,) if self.value else ())


_FILES: Mapping[str, tuple[RenderedFile, ...]] = {
    "gitlab": (
        RenderedFile(
            GITLAB_SECRETS_FILE,
            fields={
                "root_password": (GITLAB_ROOT, "password"),
                "api_token": (GITLAB_ROOT, "api_token"),
                "s3_access_key": ("store/gitlab", "access_key"),
                "s3_secret_key": ("store/gitlab", "secret_key"),
            },
        ),
        RenderedFile(RUNNER_TOKEN_FILE, value=(GITLAB_RUNNER, "token")),
    ),
    "docker": (
        RenderedFile(
            BUCKET_FILE, fields={"access_key": ("store/mlflow", "access_key"), "secret_key": ("store/mlflow", "secret_key")}
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Template:
    """A file that a guest renders, as OpenBao's agent takes it.

    Attributes:
        path: Where.
        text: The template, on one line.
        awaited: The secret may not be there yet: the file is empty until it is.
    """

    path: str
    text: str
    awaited: bool = False


def rendered_files(lab: Lab, guest: GuestSpec) -> tuple[RenderedFile, ...]:
    """The files of a guest whose secrets the lab has.

    Raises:
        LabError: A file would hold what the guest may not read.
    """
    specs = {spec.path: spec for spec in catalogue(lab)}
    found = []
    for file in _FILES.get(guest.role.name, ()):
        if not all(path in specs for path, _ in file.sources):
            continue  # a lab without this bucket
        for path, field in file.sources:
            if guest.role.name not in specs[path].readers or field not in specs[path].fields:
                raise LabError(f"{file.path} of guest {guest.name} would hold {path}#{field}, which it may not read")
        found.append(file)
    return tuple(found)


def templates(lab: Lab, guest: GuestSpec) -> tuple[Template, ...]:
    """The guest's templates: first the file that says who it is, then those with its secrets.

    Raises:
        LabError: A file would hold what the guest may not read.
    """
    specs = {spec.path: spec for spec in catalogue(lab)}
    ready = Template(IDENTITY_READY, json.dumps({"role": guest_role(guest)}))
    return (ready, *(_template(file, specs) for file in rendered_files(lab, guest)))


def _template(file: RenderedFile, specs: Mapping[str, SecretSpec]) -> Template:
    """Nested blocks, one a secret, each with its fields in a variable of its own; inside them what the file holds."""
    paths = list(dict.fromkeys(path for path, _ in file.sources))
    variables = {path: f"$s{number}" for number, path in enumerate(paths)}
    if file.value:
        inner = "{{ " + _reference(variables, file.value) + " }}"
    else:
        held = (
            f"{json.dumps(key)}: {{{{ {_reference(variables, source)} | toJSON }}}}"
            for key, source in (file.fields or {}).items()
        )
        inner = "{" + ", ".join(held) + "}"
    awaited = [path for path in paths if not specs[path].generated]
    for path in reversed(paths):
        inner = f'{{{{ with secret "{MOUNT}/data/{path}" }}}}{{{{ {variables[path]} := .Data.data }}}}{inner}{{{{ end }}}}'
        if path in awaited:
            folder, _, name = path.rpartition("/")
            listed = f'{{{{ range secrets "{MOUNT}/metadata/{folder}/" }}}}{{{{ if eq . "{name}" }}}}'
            inner = f"{listed}{inner}{{{{ end }}}}{{{{ end }}}}"
    return Template(file.path, inner, awaited=bool(awaited))


def _reference(variables: Mapping[str, str], source: Source) -> str:
    path, field = source
    if not _FIELD.fullmatch(field):
        raise LabError(f"{path}#{field} cannot stand in a template")
    return f"{variables[path]}.{field}"
