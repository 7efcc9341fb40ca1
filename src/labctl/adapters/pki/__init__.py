"""The lab's own certificate authority, and labctl's SSH key.

The only room that makes key pairs and signs certificates. Private keys come in and go out as `Secret`; guests keep their own and
send a request (`labctl.model.guestfiles`). What a certificate is for, labctl decides: it takes the request's public key alone.
"""

from labctl.adapters.pki.authority import Authority, create_authority, sign
from labctl.adapters.pki.inspection import covers, expires_in
from labctl.adapters.pki.served import serves, shown
from labctl.adapters.pki.sshkey import SshKey, create_ssh_key

__all__ = ["Authority", "SshKey", "covers", "create_authority", "create_ssh_key", "expires_in", "serves", "shown", "sign"]
