"""The emulated Proxmox VE: its state, its API over HTTPS and its SFTP server.

It answers the part of the PVE 9 API that Terraform's bpg/proxmox provider and proxmoxer use, checks parameters and permissions
as PVE documents them, and says 501 to the rest. What a guest really runs is not its business: it calls `labctl.sandbox.guests`.
"""
