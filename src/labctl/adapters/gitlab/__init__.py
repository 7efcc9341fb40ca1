"""GitLab's API as labctl uses it.

The only room that knows python-gitlab. It speaks to one GitLab with one token and looks at no configuration file and no
environment variable, proxies included. It says what is; what to do about it is decided elsewhere (`labctl.engine.steps.gitlab`).
"""

from labctl.adapters.gitlab._errors import Forbidden, Invalid, NotThere, Refused, Unready
from labctl.adapters.gitlab.client import DeployToken, GitLab, Issue, NewDeployToken, NewRunner, Project, Runner
from labctl.adapters.gitlab.mergerequests import MergeRequest, MergeRequests, Note

__all__ = [
    "DeployToken",
    "Forbidden",
    "GitLab",
    "Invalid",
    "Issue",
    "MergeRequest",
    "MergeRequests",
    "NewDeployToken",
    "NewRunner",
    "NotThere",
    "Note",
    "Project",
    "Refused",
    "Runner",
    "Unready",
]
