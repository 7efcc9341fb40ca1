"""The Terraform provider `labctl`: Compose projects and images on the lab's Docker engine, thin over `labctl.adapters.compose`.

Terraform runs it as a process of its own (`python -m labctl.provider`, or the program `labctl-provider`); no other room imports
it. What may be in no state and no plan, the values of secrets, it takes from the Vault when it needs them.
"""
