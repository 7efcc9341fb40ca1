"""Stand-ins for services that no package registry has: their HTTP interface, as far as the lab uses it, and no more.

They run in images of their own with Debian's Python and nothing else, so they import nothing of labctl. Every answer says what
it comes from, in the header `X-Stand-In`.
"""
