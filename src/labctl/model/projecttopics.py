"""Topics and consumer groups of projects in Kafka: what its programs are told, what they answer, and what may be. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from labctl.model.errors import UserError

_BIN = "/opt/kafka/bin"
_SERVER = ("--bootstrap-server", "localhost:29092")
# They have the broker's own variables, whose heap would not fit a second time; and they end soon.
_LEAN = (
    "env",
    "KAFKA_HEAP_OPTS=-Xmx128m",
    "KAFKA_JVM_PERFORMANCE_OPTS=-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    "KAFKA_JMX_PORT=",
    "KAFKA_OPTS=",
)

_PATIENCE_MS = 40_000
SETTINGS = f"request.timeout.ms=15000\ndefault.api.timeout.ms={_PATIENCE_MS}\n"
"""What the programs read from standard input: how long they wait for a broker that does not answer."""

MOST_PARTITIONS = 1000


@dataclass(frozen=True, slots=True)
class Offsets:
    """How far a consumer group is in a topic.

    Attributes:
        active: Whether somebody consumes in it now.
        committed: The partitions that it has a place in.
    """

    active: bool
    committed: frozenset[int]


def _topics(*arguments: str) -> list[str]:
    return [*_LEAN, f"{_BIN}/kafka-topics.sh", *_SERVER, "--command-config", "/dev/stdin", *arguments]


def _groups(*arguments: str) -> list[str]:
    # Its own option counts more than the settings, and is 5 s by itself: the first group of a broker can take longer.
    patience = ("--timeout", str(_PATIENCE_MS))
    return [*_LEAN, f"{_BIN}/kafka-consumer-groups.sh", *_SERVER, "--command-config", "/dev/stdin", *patience, *arguments]


def _exactly(topic: str) -> str:
    """The topic's name where Kafka's programs take a regular expression."""
    return topic.replace(".", r"\.")


def describe(topic: str) -> list[str]:
    """Asks for a topic."""
    return _topics("--describe", "--if-exists", "--topic", _exactly(topic))


def create(topic: str, partitions: int | None) -> list[str]:
    """Makes a topic, with as many partitions as the broker gives one that does not say."""
    number = ["--partitions", str(partitions)] if partitions else []
    return _topics("--create", "--if-not-exists", "--topic", topic, *number)


def grow(topic: str, partitions: int) -> list[str]:
    """Gives a topic more partitions."""
    return _topics("--alter", "--topic", _exactly(topic), "--partitions", str(partitions))


def describe_group(group: str) -> list[str]:
    """Asks how far a consumer group is."""
    return _groups("--describe", "--offsets", "--group", group)


def begin(group: str, topic: str, partitions: Sequence[int]) -> list[str]:
    """Puts a consumer group at the beginning of these partitions."""
    where = f"{topic}:{','.join(map(str, sorted(partitions)))}"
    return _groups("--reset-offsets", "--to-earliest", "--execute", "--group", group, "--topic", where)


def partitions_of(text: str, topic: str) -> int:
    """How many partitions a topic has; 0 where there is none."""
    for line in text.splitlines():
        match = re.match(r"Topic:\s*(\S+)\s.*\bPartitionCount:\s*(\d+)", line)
        if match and match[1] == topic:
            return int(match[2])
    return 0


def was_created(text: str) -> bool:
    """Whether `create` made the topic; not where somebody else made it a moment before."""
    return "Created topic" in text


def partitions_to_make(found: int, wanted: int | None, topic: str, *, more: bool) -> int:
    """How many partitions a topic that is there is to be given; 0 where it stays as it is.

    Args:
        found: How many it has.
        wanted: How many were asked for; None for any.
        topic: Its name.
        more: Whether it may get more.

    Raises:
        UserError: It has another number, and that is not to be changed.
    """
    if wanted is None or wanted == found:
        return 0
    if wanted < found:
        raise UserError(
            f"topic {topic!r} has {found} partitions, more than {wanted}",
            where="kafka",
            hint=f"Kafka takes none away. Leave --partitions out, or write --partitions {found}.",
        )
    if not more:
        raise UserError(
            f"topic {topic!r} has {found} partitions, not {wanted}",
            where="kafka",
            hint=f"--more adds {wanted - found}. New records of a key may then be in another partition than its earlier ones.",
        )
    return wanted


def offsets_of(text: str, topic: str) -> Offsets:
    """How far a consumer group is in a topic, from what `describe_group` answered."""
    header: list[str] = []
    active, committed = False, set()
    for line in text.splitlines():
        words = line.split()
        if "PARTITION" in words and "CONSUMER-ID" in words:
            header = words
            continue
        if not header or len(words) < len(header):
            continue
        row = dict(zip(header, words, strict=False))
        active = active or row.get("CONSUMER-ID", "-") != "-"
        if row["TOPIC"] == topic and row["CURRENT-OFFSET"].isdigit():
            committed.add(int(row["PARTITION"]))
    return Offsets(active, frozenset(committed))


def group_problem(text: str) -> str:
    """What went wrong in a command about a group, which then ends with 0 all the same; "" for nothing."""
    return problem(text) if re.search(r"^Error: ", text, re.MULTILINE) else ""


def no_such_group(said: str) -> bool:
    """Whether a problem is that there is no such group yet."""
    return re.search(r"group .*(does not exist|not found)", said, re.IGNORECASE) is not None


def in_use(said: str) -> bool:
    """Whether a problem is that somebody consumes in the group, so that it cannot be put anywhere."""
    return "can only be reset if the group" in said


def problem(text: str) -> str:
    """What Kafka's programs say went wrong, without where in their code."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if match := re.match(r"(?:Error while executing .*? command\s*:|Error:|\[[^\]]*\] ERROR)\s*(.+)", line):
            said = match[1].removeprefix("Executing consumer group command failed due to ")
            return re.sub(r"^(?:[\w.$]+(?:Exception|Error): )+", "", said)
    return lines[-1] if lines else "no reason"
