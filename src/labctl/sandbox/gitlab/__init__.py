"""Stand-ins for GitLab in guests that boot: an apt repository in GitLab's layout, with packages that behave at their interfaces.

`repository` builds and serves it. `standin` is what the packages carry into a guest: Python of the standard library only, run
by the guest's own Python, never by labctl. `packages` holds the rest of each package: units, Ruby, maintainer scripts. Nothing
here is GitLab's code. What the stand-ins promise is what labctl and the lab's scripts use: the commands, the API, the files
that they write.
"""
