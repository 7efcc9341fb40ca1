"""Pool, cloud image and snippets: what a guest is made from."""

from __future__ import annotations

from constructs import Construct

from labctl.model.lab import Lab
from stacks.constructs.resource import Resource


class Pool(Resource):
    """The pool that all guests of the lab are in. It has the lab's name."""

    def __init__(self, scope: Construct, lab: Lab) -> None:
        super().__init__(
            scope,
            "proxmox_virtual_environment_pool",
            "lab",
            {"pool_id": lab.name, "comment": f"Lab {lab.name}, made by labctl"},
        )

    @property
    def pool_id(self) -> str:
        """Its name, as a reference: what uses it is made after it."""
        return self.get_string_attribute("pool_id")


class CloudImage(Resource):
    """The cloud image that guests boot from, downloaded by the hypervisor itself.

    The file carries the lab's name, so that two labs on one host do not share (and delete) one file. `overwrite` is off: with
    it the provider asks the origin for the size at every refresh and plans a replacement when it differs.
    """

    def __init__(self, scope: Construct, lab: Lab) -> None:
        image, store = lab.foundation.image, lab.datastores.images
        file_name = f"{lab.name}-{image.file_name}"
        super().__init__(
            scope,
            "proxmox_download_file",
            "image",
            {
                "content_type": "import",
                "datastore_id": store,
                "node_name": lab.node,
                "url": image.url,
                "file_name": file_name,
                "overwrite": False,
                "checksum": image.checksum or None,
                "checksum_algorithm": "sha256" if image.checksum else None,
            },
        )
        self.file_id = f"{store}:import/{file_name}"


class Snippet(Resource):
    """A guest's user-data on the hypervisor. Uploaded over SFTP, which is the one thing that PVE's API cannot do.

    Refer to it by `file_id`, which is literal text, and by `depends_on`: with a reference to its id an edited document would
    replace the guest.
    """

    def __init__(self, scope: Construct, name: str, *, node: str, datastore: str, file_name: str, text: str) -> None:
        super().__init__(
            scope,
            "proxmox_virtual_environment_file",
            name,
            {
                "content_type": "snippets",
                "datastore_id": datastore,
                "node_name": node,
                "upload_mode": "sftp",
                "source_raw": {"file_name": file_name, "data": text},
            },
        )
        self.file_id = f"{datastore}:snippets/{file_name}"
