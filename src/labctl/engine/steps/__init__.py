"""Steps: what labctl does after a layer is applied, outside Terraform: everything that touches a secret value."""
