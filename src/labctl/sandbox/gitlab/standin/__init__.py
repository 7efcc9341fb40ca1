"""What the stand-in packages run inside a guest: `gitlab-ctl`, `gitlab-rails`, GitLab's API, `gitlab-runner`.

Only Python's standard library: nothing else is there. The modules import each other relatively, because in a guest this folder
is a package of its own (`/opt/gitlab/standin/standin`). They keep no secret in clear where GitLab keeps none: digests, sealed
values.
"""
