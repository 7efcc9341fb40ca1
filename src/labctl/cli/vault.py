"""`labctl vault`."""

from __future__ import annotations

import json

import typer

from labctl.cli._options import IdentityOption, JsonOption, LabOption

app = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Look after the lab's Vault: status, unseal."
)


@app.command()
def status(lab: LabOption = None, as_json: JsonOption = False) -> int:
    """Show whether the Vault answers, is initialised and unsealed. Exit code 1 where it cannot be used."""
    from labctl.engine.lab import open_lab
    from labctl.engine.secrets import vault_status

    address, found = vault_status(open_lab(lab))
    usable = found.reachable and found.initialised and not found.sealed
    if as_json:
        shape = {"reachable": found.reachable, "initialised": found.initialised, "sealed": found.sealed, "version": found.version}
        print(json.dumps({"address": address, **shape}, indent=2))
    elif not found.reachable:
        print(f"{address}: {found.problem}. {found.hint}".rstrip())
    else:
        words = "unsealed" if usable else "sealed" if found.initialised else "not initialised"
        print(f"{address}: OpenBao {found.version}, {words}")
    return 0 if usable else 1


@app.command()
def unseal(identity: IdentityOption = None, lab: LabOption = None) -> int:
    """Unseal the Vault with the lab's recovery keys, which an operator's key opens."""
    from labctl.engine.lab import open_lab
    from labctl.engine.secrets import unseal as unseal_lab_vault

    print("The Vault is unsealed." if unseal_lab_vault(open_lab(lab), tuple(identity or ())) else "The Vault was not sealed.")
    return 0
