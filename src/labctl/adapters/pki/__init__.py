"""The lab's own certificate authority.

The only room that signs certificates. The authority's key comes in and goes out as `Secret`; guests keep their own keys and send
a request (`labctl.model.guestfiles`). What a certificate is for, labctl decides: of the request it takes the public key alone.
"""

from labctl.adapters.pki.authority import Authority, create_authority, sign
from labctl.adapters.pki.inspection import covers, expires_in
from labctl.adapters.pki.served import serves

__all__ = ["Authority", "covers", "create_authority", "expires_in", "serves", "sign"]
