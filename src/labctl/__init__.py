"""labctl: a whole data and ML lab on Proxmox VE, from one description."""

__version__ = "0.1.0"
