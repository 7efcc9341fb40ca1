"""Recovery keys: files encrypted to the operators' age or SSH keys.

The only room that knows pyrage. It encrypts, decrypts, makes identities and keeps the lab's `keys/` folder; what the files mean
is the engine's business. Plain values leave it only as `Secret`, and never reach a disk.
"""

from labctl.adapters.keys.age import decrypt, encrypt, generate_identity, public_key
from labctl.adapters.keys.keyring import Keyring, Payload

__all__ = ["Keyring", "Payload", "decrypt", "encrypt", "generate_identity", "public_key"]
