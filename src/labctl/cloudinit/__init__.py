"""User-data documents for guests, from data.

A document is merged from typed parts (`part`), one common to all guests (`base`) and those of the role (`vault`, `store`,
`gitlab`, `docker`), and then emitted as YAML and read back (`document`). YAML is never joined from strings; files in other
languages are templates under `layers/`, filled with values quoted for their language (`quoting`).

Pure: no clock, no network, no random value, no secret. The same request gives the same text.
"""

from labctl.cloudinit.gitlab import GITLAB_SECRETS_KEYS
from labctl.cloudinit.request import TOKEN, UserDataRequest
from labctl.cloudinit.userdata import user_data
from labctl.model.guestfiles import GITLAB_SECRETS_FILE, RUNNER_TOKEN_FILE

__all__ = ["GITLAB_SECRETS_FILE", "GITLAB_SECRETS_KEYS", "RUNNER_TOKEN_FILE", "TOKEN", "UserDataRequest", "user_data"]
