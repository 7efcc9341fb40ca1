"""What Kafka's programs are told and answer. The texts are what those of Kafka 4.0.1 print."""

from __future__ import annotations

import pytest

from labctl.model.errors import UserError
from labctl.model.projecttopics import (
    Offsets,
    begin,
    create,
    describe,
    group_problem,
    grow,
    in_use,
    no_such_group,
    offsets_of,
    partitions_of,
    partitions_to_make,
    problem,
    was_created,
)

WARNING = "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide.\n"
WARN = "[2026-11-25 11:42:46,409] WARN [AdminClient clientId=adminclient-1] Connection to node -1 could not be established.\n"
ERROR = "[2026-11-25 11:43:06,393] ERROR org.apache.kafka.common.errors.TimeoutException: "
DESCRIBED = (
    "Topic: z.ed\tTopicId: sXcA6fjiRZWD7nbqDvZGyw\tPartitionCount: 2\tReplicationFactor: 1\tConfigs: retention.bytes=-1\n"
    "\tTopic: z.ed\tPartition: 0\tLeader: 1\tReplicas: 1\tIsr: 1\tElr: \tLastKnownElr: \n"
    "\tTopic: z.ed\tPartition: 1\tLeader: 1\tReplicas: 1\tIsr: 1\tElr: \tLastKnownElr: \n"
)
HEADER = "\nGROUP  TOPIC  PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  CONSUMER-ID  HOST  CLIENT-ID\n"
IDLE = HEADER + "g1  z.ed  1  0  0  0  -  -  -\ng1  z.ed  0  12  14  2  -  -  -\ng1  other  5  3  3  0  -  -  -\n"
BUSY = HEADER + "g1  z.ed  1  -  0  -  console-consumer-02b797b4-9a93  /172.25.0.2  console-consumer\n"
NOBODY = (
    "\nError: Executing consumer group command failed due to org.apache.kafka.common.errors.GroupIdNotFoundException: "
    "Group nobody not found.\n"
)
SILENT = (
    "\nError: Executing consumer group command failed due to java.util.concurrent.ExecutionException: "
    "org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node assignment.\n"
)
USED = (
    "\nError: Assignments can only be reset if the group 'g1' is inactive, but the current state is Stable.\n\n"
    "GROUP  TOPIC  PARTITION  NEW-OFFSET\n"
)


def test_a_name_is_escaped_where_a_pattern_is_taken_and_nowhere_else() -> None:
    assert describe("a.b")[-1] == r"a\.b"
    assert r"a\.b" in grow("a.b", 3)
    assert "a.b" in create("a.b", None)
    assert begin("g", "a.b", [2, 0])[-1] == "a.b:0,2"


def test_the_partitions_of_this_topic_are_counted() -> None:
    assert partitions_of(DESCRIBED, "z.ed") == 2
    assert partitions_of(DESCRIBED, "z") == 0
    assert partitions_of("", "z.ed") == 0


def test_who_has_made_it_is_known() -> None:
    assert was_created(f"{WARNING}Created topic z.ed.\n")
    assert not was_created(WARNING)


@pytest.mark.parametrize(
    ("found", "wanted", "more", "to_make"), [(3, None, False, 0), (3, 3, False, 0), (3, 3, True, 0), (3, 5, True, 5)]
)
def test_partitions_that_may_be(found: int, wanted: int | None, more: bool, to_make: int) -> None:
    assert partitions_to_make(found, wanted, "t", more=more) == to_make


@pytest.mark.parametrize(("wanted", "more"), [(2, False), (2, True), (5, False)])
def test_partitions_that_may_not_be(wanted: int, more: bool) -> None:
    with pytest.raises(UserError, match="topic 't' has 3 partitions"):
        partitions_to_make(3, wanted, "t", more=more)


@pytest.mark.parametrize(
    ("text", "offsets"),
    [
        (IDLE, Offsets(False, frozenset({0, 1}))),
        (BUSY, Offsets(True, frozenset())),
        (HEADER, Offsets(False, frozenset())),
        (NOBODY, Offsets(False, frozenset())),
        ("", Offsets(False, frozenset())),
    ],
)
def test_how_far_a_group_is(text: str, offsets: Offsets) -> None:
    assert offsets_of(text, "z.ed") == offsets


def test_an_error_that_ends_with_zero_is_seen() -> None:
    assert group_problem(IDLE) == ""
    assert group_problem(NOBODY) == "Group nobody not found."
    assert no_such_group(group_problem(NOBODY))
    assert no_such_group("Consumer group 'nobody' does not exist.")
    assert group_problem(SILENT) == "Timed out waiting for a node assignment."
    assert not no_such_group(group_problem(SILENT))
    assert in_use(group_problem(USED))
    assert not in_use(group_problem(SILENT))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"{WARN}{ERROR}Timed out waiting for a node assignment. Call: listTopics\n (org.apache.kafka.tools.TopicCommand)",
            "Timed out waiting for a node assignment. Call: listTopics",
        ),
        (
            f"{WARNING}Error while executing topic command : Topic 'z_ed' collides with existing topic: z.ed\n",
            "Topic 'z_ed' collides with existing topic: z.ed",
        ),
        ("sh: 1: /opt/kafka/bin/kafka-topics.sh: not found", "sh: 1: /opt/kafka/bin/kafka-topics.sh: not found"),
        ("", "no reason"),
    ],
)
def test_what_went_wrong_is_one_sentence(text: str, said: str) -> None:
    assert problem(text) == said
