"""Layer 1: the pool, the cloud image, the Vault and the object store. Its state lies in the lab's own folder."""

from __future__ import annotations

from typing import ClassVar

from labctl.model.contracts import FoundationContract
from labctl.model.guestfiles import STORE, VAULT
from labctl.model.stackcontext import StackContext
from stacks.cdk import App
from stacks.constructs import (
    CloudImage,
    Endpoints,
    HypervisorStack,
    LabGuest,
    Place,
    Pool,
    local_backend,
    local_path,
    publish,
)


class Foundation(HypervisorStack):
    """What everything else stands on."""

    layer: ClassVar[str] = "foundation"

    def __init__(self, app: App, context: StackContext) -> None:
        super().__init__(app, context)
        lab = context.lab
        local_backend(self, local_path(self.layer, context.state_dir, context.outdir))

        pool = Pool(self, lab)
        image = CloudImage(self, lab)
        place = Place(
            node=lab.node,
            pool_id=pool.pool_id,
            image_file_id=image.file_id,
            snippet_datastore=lab.datastores.snippets,
            disk_datastore=lab.datastores.disks,
            after=(image,),
        )
        # The two know each other by address where it is static, else by name: a reference to an address that DHCP gives
        # would make each wait for the other.
        vault_spec, store_spec = lab.guest("vault"), lab.guest("store")
        region = lab.foundation.store.region
        endpoints = Endpoints(
            vault_address=f"https://{vault_spec.ip or vault_spec.fqdn}:{VAULT.port}",
            s3_endpoint=f"https://{store_spec.ip or store_spec.fqdn}:{STORE.port}",
            s3_region=region,
        )
        vault = LabGuest(self, context, vault_spec, place, endpoints)
        store = LabGuest(self, context, store_spec, place, endpoints)

        publish(
            self,
            FoundationContract,
            {
                "node": lab.node,
                "pool_id": pool.pool_id,
                "image_file_id": image.file_id,
                "snippet_datastore": lab.datastores.snippets,
                "disk_datastore": lab.datastores.disks,
                "vault_address": f"https://{vault.vm.ip}:{VAULT.port}",
                "s3_endpoint": f"https://{store.vm.ip}:{STORE.port}",
                "s3_region": region,
                "buckets": list(lab.foundation.store.buckets),
                "guests": {"vault": vault.vm.outputs, "store": store.vm.outputs},
            },
            depends_on=(vault.vm, store.vm),
        )
