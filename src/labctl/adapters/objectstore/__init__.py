"""The lab's object store: S3 as SeaweedFS speaks it.

The only room that knows boto3. It is told its endpoint, authority and credentials and looks at no AWS file, profile or variable.
It makes buckets, shows that the store can lock (Terraform's state depends on it), and writes the store's list of identities.
"""

from labctl.adapters.objectstore._errors import Denied, NotThere, PreconditionFailed, Unready
from labctl.adapters.objectstore.identities import Credentials, identities
from labctl.adapters.objectstore.store import ObjectStore

__all__ = ["Credentials", "Denied", "NotThere", "ObjectStore", "PreconditionFailed", "Unready", "identities"]
