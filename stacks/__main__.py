"""The stacks for CDKTF's own CLI: what `cdktf.json` runs. labctl does the same in its own process.

The lab is described by the file that `LABCTL_LAB` names, `lab.yaml` here by default. States are labctl's own, so that
`cdktf diff` after a `labctl up` compares with what is there. Guests carry `prevent_destroy`, because this CLI knows nothing of
labctl's consent by name.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from labctl.model.errors import LabError, UserError
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab
from labctl.model.stackcontext import StackContext
from stacks import App, build


def read_context(environment: dict[str, str]) -> StackContext:
    """The lab that the environment names, with the authority and the SSH key that labctl made for it, if it did.

    Raises:
        UserError: The lab file cannot be read or does not describe a lab.
    """
    path = Path(environment.get("LABCTL_LAB") or "lab.yaml")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path), hint="LABCTL_LAB names the lab file.") from error
    lab = parse_lab(text, str(path))
    home = path.absolute().parent / ".labctl" / lab.name
    lab = _decided(lab, home / "sandbox" / "config.json")
    authority, ssh_key = home / "keys" / "authority.crt", home / "keys" / "ssh.pub"
    return StackContext(
        lab=lab,
        authority_pem=authority.read_text(encoding="utf-8") if authority.is_file() else "",
        state_dir=home / "state",
        outdir=Path(environment.get("CDKTF_OUTDIR") or "cdktf.out").absolute(),
        prevent_destroy=True,
        own_ssh_key=ssh_key.read_text(encoding="utf-8").strip() if ssh_key.is_file() else "",
    )


def _decided(lab: Lab, config: Path) -> Lab:
    """The lab with the kind of guests that its sandbox was made with; as it is where there is no sandbox yet."""
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("guests")
    except (OSError, ValueError):
        return lab
    return lab.with_guests("container" if kind == "container" else "appliance")


def main() -> None:
    """Synthesises the lab's stacks into `CDKTF_OUTDIR`, `cdktf.out` by default."""
    try:
        context = read_context(dict(os.environ))
        context.outdir.parent.mkdir(parents=True, exist_ok=True)
        app = App(outdir=str(context.outdir), skip_validation=True, stack_traces=False)
        build(app, context)
        app.synth()
    except LabError as error:
        raise SystemExit(f"{error}\n{error.hint}".rstrip()) from error


if __name__ == "__main__":
    main()
