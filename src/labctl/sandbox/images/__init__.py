"""The sandbox's own container images: built once from packages, kept as files, served to the guests' Docker engines.

For machines without a container registry. `catalogue` says which images there are and what each is built from, `build` builds
them in this machine's Docker engine, `store` keeps them by digest, `registry` serves what is kept, read-only. Nothing here
knows labs or guests.
"""
