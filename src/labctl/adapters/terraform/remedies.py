"""What to do about a diagnostic: a table of rules over its text, from the exact to the general.

Texts were recorded from Terraform 1.11, OpenTofu 1.10, bpg/proxmox 0.111.1 and SeaweedFS 4.48; `tests/unit/terraform` holds them,
with sample hosts and addresses in place of the real ones. A diagnostic that no rule knows passes through with its own words.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from labctl.adapters.terraform.diagnostics import Diagnostic, LockInfo, lock_info


@dataclass(frozen=True, slots=True)
class Remedy:
    """A diagnostic in labctl's words.

    Attributes:
        rule: The rule's id, for tests and for code that must tell errors apart.
        sentence: What is wrong.
        hint: What to do next.
    """

    rule: str
    sentence: str
    hint: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: a pattern over summary and detail; its named groups fill the sentence and the hint."""

    id: str
    text: str
    sentence: str
    hint: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """The pattern, compiled when a diagnostic is looked up: to compile all takes as long as half a plan."""
        # Providers wrap long lines where they like: a space in a pattern is any white space in the text.
        return _compiled(self.text.replace(" ", r"\s+"))


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)


_URL = r'"(?P<endpoint>https?://[^/"]+)[^"]*"'

RULES: tuple[Rule, ...] = (
    Rule(
        "disk-full",
        r"no space left on device|[Dd]isk quota exceeded",
        "The disk is full.",
        "Free space where `.labctl` and the temporary folder lie (`df -h`), then run the command again: it goes on from there.",
    ),
    Rule(
        "backend-changed",
        r"Backend configuration (?:block has )?changed|Backend initialization required|[Ii]nitialization required: please run",
        "The stack's work folder is set up for another state backend.",
        "Run `labctl up` again, which sets it up anew. If the state itself moved, copy it first: nothing was changed.",
    ),
    Rule(
        "s3-no-credentials",
        r"No valid credential sources found",
        "There are no credentials for the object store that keeps the state.",
        "They come from Vault: `labctl vault status` says whether it is unsealed and holds them.",
    ),
    Rule(
        "s3-credentials-refused",
        r"api error (?P<code>InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|AuthorizationHeaderMalformed)",
        "The object store refuses the credentials ({code}).",
        "The store does not know the key that Vault holds: `labctl up --layer foundation` delivers it again.",
    ),
    Rule(
        "s3-denied",
        r"operation error S3: (?P<operation>\w+), .*AccessDenied",
        "The object store does not allow {operation} with these credentials.",
        "The key needs read, write, list and delete on the bucket of the state.",
    ),
    Rule(
        "s3-bucket-missing",
        r'S3 bucket "(?P<bucket>[^"]+)" does not exist|NoSuchBucket',
        "The bucket for the state does not exist: {bucket}.",
        "`labctl up --layer foundation` makes the buckets.",
    ),
    Rule(
        "s3-certificate",
        rf"operation error S3: .*?{_URL}: .*?x509: (?P<reason>[^\n(]+)",
        "The certificate of the object store at {endpoint} is not accepted: {reason}.",
        "If the store was rebuilt, `labctl up --layer foundation` signs its certificate again. Do not switch the check off.",
    ),
    Rule(
        "s3-unreachable",
        rf"operation error S3: .*?request send failed, \w+ {_URL}: (?P<reason>[^\n]+)",
        "The object store at {endpoint} does not answer: {reason}.",
        "`labctl status` says whether guest `store` runs; `labctl up --layer foundation` starts it.",
    ),
    Rule(
        "provider-checksum",
        r"the local package for (?P<provider>\S+) (?P<version>\S+) doesn't match any of the checksums",
        "The provider {provider} {version} in the mirror is not the one that the lock file names.",
        "Run `labctl up` again: it writes the lock file from the mirror. If nobody rebuilt that, find out who changed it.",
    ),
    Rule(
        "provider-missing",
        r"Could not (?:retrieve the list of available versions for|resolve) provider (?P<provider>[^\s:]+): (?P<reason>[^\n]+)",
        "The provider {provider} is neither in the mirror nor in a registry that answers: {reason}.",
        "`labctl mirror` fetches or builds the providers of a lab; run it where there is a network and copy the folder.",
    ),
    Rule(
        "provider-not-installed",
        r"Required plugins are not installed|[Ii]nconsistent dependency lock file|no package for (?P<provider>\S+) \S+ cached",
        "The stack's work folder is not initialised for the providers that it needs.",
        "Run `labctl up` again: it initialises the folder.",
    ),
    Rule(
        "plan-stale",
        r"Saved plan is stale|plan file can no longer be applied",
        "The state changed after this plan was made.",
        "Somebody else applied in between. Plan again and look at what is left.",
    ),
    Rule(
        "upstream-missing",
        r"Unable to find remote state",
        "The state that it reads does not exist.",
        "Deploy the stack that it belongs to. In a workspace on the local backend, backend and reference need a `workspace_dir`.",
    ),
    Rule(
        "upstream-output",
        r'Unsupported attribute.*does not have an attribute named "(?P<output>cross-stack-output-[^"]+)"',
        "The stack that it reads does not publish {output} yet.",
        "Apply that stack first; without --only, what a stack needs comes before it.",
    ),
    Rule(
        "destroy-prevented",
        r"Instance cannot be destroyed.*?Resource (?P<resource>\S+) has lifecycle\.prevent_destroy",
        "{resource} is protected against being destroyed.",
        "If it must go, name it: `--allow-destroy NAME`.",
    ),
    Rule(
        "ssh-host-key",
        r"REMOTE HOST IDENTIFICATION HAS CHANGED for host (?P<host>\S+?)!|knownhosts: key mismatch",
        "The SSH host key of the node is not the one seen before: {host}.",
        "If the node was reinstalled, remove its line from the lab's own `.ssh/known_hosts`; if not, find out who answers.",
    ),
    Rule(
        "ssh-unreachable",
        r'unable to authenticate user "[^"]*" over SSH to "(?P<host>[^"]+)".*failed to dial .*?: (?P<reason>[^\n:]+)$',
        "The node does not answer on SSH at {host}: {reason}.",
        "Snippets are uploaded over SSH. Check `target.proxmox.ssh` (address, port) in lab.yaml and the firewall.",
    ),
    Rule(
        "ssh-authentication",
        r'unable to authenticate user "(?P<user>[^"]*)" over SSH to "(?P<host>[^"]+)"',
        "The node at {host} does not accept the SSH login of user {user}.",
        "Snippets are uploaded over SSH. Check `target.proxmox.ssh` in lab.yaml, and the authorized_keys of the node.",
    ),
    Rule(
        "pve-permission",
        r"Permission check failed \((?P<path>/[^,)]*), (?P<privilege>[^)]+)\)",
        "The token lacks the privilege {privilege} on {path}.",
        "On the node: `pveum acl modify {path} --tokens TOKEN --roles ROLE`, with a role that has it; `labctl doctor` lists all.",
    ),
    Rule(
        "pve-forbidden",
        r"HTTP 403 response - Reason: (?P<reason>[^\n]+)",
        "Proxmox forbids it: {reason}.",
        "`labctl doctor` lists the privileges that the token needs and lacks.",
    ),
    Rule(
        "pve-unauthorised",
        r"HTTP 401 response - Reason: (?P<reason>[^\n]+)",
        "Proxmox does not accept the API token: {reason}.",
        "Check the token's id (user@realm!name), its secret and its expiry: `pveum user token list USER` on the node.",
    ),
    Rule(
        "pve-content-type",
        r"(?:datastore|storage) [\"'](?P<storage>[^\"']+). does not support content.type [\"'](?P<content>[^\"']+)",
        "The datastore {storage} does not hold content of type {content}.",
        "On the node: `pvesm set {storage} --content LIST`, where LIST is what it has now and {content}.",
    ),
    Rule(
        "pve-storage-missing",
        r"storage '(?P<storage>[^']+)' does not exist",
        "The node has no datastore named {storage}.",
        "`pvesm status` on the node lists them; name one of them under `target.proxmox.datastores` in lab.yaml.",
    ),
    Rule(
        "pve-guest-exists",
        r"unable to create (?:VM|CT) (?P<vmid>\d+)[^\n]*already exists|(?:VM|CT) (?P<vmid2>\d+) already exists",
        "The VMID {vmid}{vmid2} is taken by a guest that this lab does not know.",
        "Give the guest another `vmid` in lab.yaml, or import or remove the one that is there. labctl does not touch it.",
    ),
    Rule(
        "pve-no-quorum",
        r"no quorum",
        "The Proxmox cluster has no quorum, so it takes no changes.",
        "`pvecm status` on a node says who is missing. Run the command again when the cluster is whole.",
    ),
    Rule(
        "pve-lock-timeout",
        r"can't lock file '(?P<file>[^']+)' - got timeout",
        "Another task on the node holds the guest's lock ({file}).",
        "Wait for the running task (`pvesh get /cluster/tasks`), then run the command again.",
    ),
    Rule(
        "pve-guest-locked",
        r"(?:VM|CT) is locked \((?P<why>[^)]+)\)",
        "The guest is locked by Proxmox: {why}.",
        "Wait until that has ended. A lock that a dead task left goes with `qm unlock VMID` on the node.",
    ),
    Rule(
        "pve-task-failed",
        r'task "UPID:(?:[^:"]*:){4}(?P<task>\w+):(?P<about>[^:"]*):[^"]*" failed to complete with exit code: (?P<reason>[^\n]+)',
        "Proxmox's task {task} of {about} failed: {reason}.",
        "The task's log on the node says more (`pvesh get /cluster/tasks`). Run the command again when it is mended.",
    ),
    Rule(
        "disk-shrink",
        r"Cannot shrink (?P<disk>\S+) in VM (?P<vmid>\d+)",
        "The disk {disk} of VM {vmid} is larger than lab.yaml says, and disks do not shrink.",
        "Set `disk_gib` in lab.yaml to the size that the disk has now.",
    ),
    Rule(
        "agent-timeout",
        r'timeout while waiting for the QEMU agent on VM "?(?P<vmid>\d+)"?',
        "The guest agent of VM {vmid} did not answer in time.",
        "Look at the guest's console: cloud-init may still be at work, or the agent is not installed.",
    ),
    Rule(
        "pve-node-unreachable",
        r"HTTP 59[5-9] response - Reason: (?P<reason>[^\n]+)",
        "Proxmox cannot reach the node that it should pass the request on to: {reason}.",
        "Check `target.proxmox.node` in lab.yaml and that the node is up (`pvecm nodes`).",
    ),
    Rule(
        "certificate",
        rf"(?:{_URL}: .*?)?x509: (?P<reason>[^\n(]+)",
        "The certificate of {endpoint} is not accepted: {reason}.",
        "Name the authority that signed it in lab.yaml (under `target.proxmox`), or renew it. Do not switch the check off.",
    ),
    Rule(
        "connection-refused",
        rf"(?:{_URL}: )?dial tcp (?P<address>\S+): connect: connection refused",
        "Nothing listens at {endpoint} ({address}).",
        "Check the address and port. On the sandbox, `labctl sandbox status` says whether it runs.",
    ),
    Rule(
        "host-unknown",
        r"lookup (?P<host>[^\s:]+)[^\n]*: no such host",
        "The name {host} does not resolve.",
        "Check the address in lab.yaml and the name server of this machine.",
    ),
    Rule(
        "provider-crash",
        r"Plugin did not respond|plugin process exited|panic: |TERRAFORM CRASH",
        "The provider ended in the middle of a request.",
        "A connection that Proxmox drops can do that. Run the command again; what was made is in the state.",
    ),
    Rule(
        "timeout",
        rf"(?:{_URL}: )?(?:context deadline exceeded|net/http: request canceled|[^\n]*i/o timeout|[^\n]*Client\.Timeout)",
        "{endpoint} did not answer in time.",
        "Check that the host is up and not overloaded, then run the command again.",
    ),
    Rule(
        "connection-dropped",
        rf"(?:{_URL}: )?(?:[^\n]*connection reset by peer|(?:unexpected )?EOF)",
        "{endpoint} closed the connection in the middle of a request.",
        "Run the command again. If it happens each time, look at the log of `pveproxy` on the node.",
    ),
    Rule(
        "pve-failed",
        r"HTTP 5\d\d response - Reason: (?P<reason>[^\n]+)",
        "Proxmox failed: {reason}.",
        "The task log of the node says more (`pvesh get /cluster/tasks`). Run the command again when it is mended.",
    ),
    Rule(
        "state-lock-unknown",
        r"Error (?:acquiring|releasing) the state lock(?:.*?Error message: (?P<reason>[^\n]+))?",
        "The state cannot be locked: {reason}.",
        "Another run may have ended just now: run the command again. If it stays, `labctl unlock {stack}` shows a lab's lock.",
    ),
    Rule(
        "interrupted",
        r"^execution halted|Operation (?:was )?canceled|Stopping operation",
        "Terraform was stopped before it was done.",
        "What was made is in the state: run the command again to go on.",
    ),
)

_WEAK = ("provider-crash", "interrupted")
_CORE = tuple(rule for rule in RULES if rule.id in _WEAK)
"""What Terraform itself says at a resource."""
_FALLBACK = {"endpoint": "the server", "bucket": "its name is in the stack's backend", "host": "", "reason": "no reason given"}


def explain(diagnostic: Diagnostic, stack: str = "STACK") -> Remedy | None:
    """The remedy for a diagnostic, None when no rule knows it. `stack` is the stack's name, for commands in the hint."""
    # What labctl's own provider says has its remedy in it, and a container's log, in which anything may stand.
    text, rules = (diagnostic.summary, _CORE) if diagnostic.is_own else (diagnostic.text, RULES)
    lock = lock_info(text)
    if lock:
        return _locked(lock, stack)
    # Without a holder, "Error acquiring the state lock" only wraps the cause: a full disk, a store that does not answer.
    for rule in rules:
        match = rule.pattern.search(text)
        if match:
            words = {name: (value or _FALLBACK.get(name, "")).strip(" .") for name, value in match.groupdict().items()}
            return Remedy(rule.id, rule.sentence.format_map(words), rule.hint.format_map(words | {"stack": stack}))
    return None


def _locked(lock: LockInfo, stack: str) -> Remedy:
    since = f" since {lock.created}" if lock.created else ""
    return Remedy(
        "state-locked",
        f"The state is locked by {lock.who or 'somebody'}{since} (operation {lock.operation or 'unknown'}, lock {lock.id}).",
        f"Wait for that run to end. Only if it is certainly dead, break its lock; for a stack of a lab: "
        f"`labctl unlock {stack} --id {lock.id}`.",
    )


def weightiest(diagnostics: Iterable[Diagnostic]) -> Diagnostic | None:
    """The error to show first: one with a remedy before one without, causes before their consequences."""
    errors = [diagnostic for diagnostic in diagnostics if diagnostic.is_error]
    if not errors:
        return None
    return min(errors, key=_weight)


def _weight(diagnostic: Diagnostic) -> int:
    remedy = explain(diagnostic)
    if remedy is None:
        return 0 if diagnostic.is_own else 1
    return 2 + _WEAK.index(remedy.rule) if remedy.rule in _WEAK else 0
