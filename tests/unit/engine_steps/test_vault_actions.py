"""The decision what a Vault needs next: cases, and a world in which `up` is killed anywhere."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.engine.steps.vault_actions import Action, Operator, Root, Situation, proves_unused, vault_actions
from labctl.model.errors import UserError

A = Action
FIRST = (A.CONFIGURE, A.SEED, A.KEEP_OPERATOR, A.LOGIN, A.REVOKE_ROOT, A.FORGET_ROOT)


def situation(**changed: object) -> Situation:
    ready = {"initialised": True, "sealed": False, "keys_kept": True, "operator": Operator.KEPT}
    return Situation(**{**ready, **changed})  # type: ignore[arg-type]


CASES = [
    (
        "nothing yet",
        situation(initialised=False, sealed=True, keys_kept=False, operator=Operator.NONE),
        (A.MARK, A.INITIALISE, A.UNMARK, A.UNSEAL, *FIRST),
    ),
    (
        "marked, not initialised",
        situation(initialised=False, sealed=True, keys_kept=False, operator=Operator.NONE, marked=True),
        (A.INITIALISE, A.UNMARK, A.UNSEAL, *FIRST),
    ),
    (
        "its storage is prepared, and nothing lies in it",
        situation(initialised=False, sealed=True, keys_kept=False, operator=Operator.NONE, marked=True, half=True),
        (A.RESET, A.INITIALISE, A.UNMARK, A.UNSEAL, *FIRST),
    ),
    (
        "a new Vault, keys of an old one",
        situation(initialised=False, sealed=True),
        (A.RETIRE, A.MARK, A.INITIALISE, A.UNMARK, A.UNSEAL, *FIRST),
    ),
    (
        "retired by half",
        situation(initialised=False, sealed=True, keys_kept=False),
        (A.RETIRE, A.MARK, A.INITIALISE, A.UNMARK, A.UNSEAL, *FIRST),
    ),
    (
        "cut off before the keys were kept",
        situation(sealed=True, keys_kept=False, operator=Operator.NONE, marked=True),
        (A.RESET, A.INITIALISE, A.UNMARK, A.UNSEAL, *FIRST),
    ),
    (
        "cut off after the keys were kept",
        situation(sealed=True, root=Root.UNKNOWN, operator=Operator.NONE, marked=True),
        (A.UNMARK, A.UNSEAL, *FIRST),
    ),
    ("cut off in the middle", situation(root=Root.LIVE, operator=Operator.NONE, done=frozenset({A.CONFIGURE})), FIRST[1:]),
    (
        "cut off before the root token was revoked",
        situation(root=Root.LIVE),
        (A.CONFIGURE, A.SEED, A.LOGIN, A.REVOKE_ROOT, A.FORGET_ROOT),
    ),
    ("kept credentials refused, root alive", situation(root=Root.LIVE, operator=Operator.REFUSED), FIRST),
    (
        "revoked, still named in the keys",
        situation(root=Root.REVOKED),
        (A.LOGIN, A.FORGET_ROOT, A.CONFIGURE, A.SEED),
    ),
    ("sealed after a restart", situation(sealed=True), (A.UNSEAL, A.LOGIN, A.CONFIGURE, A.SEED)),
    ("up", situation(), (A.LOGIN, A.CONFIGURE, A.SEED)),
    ("done", situation(done=frozenset({A.LOGIN, A.CONFIGURE, A.SEED})), ()),
]


@pytest.mark.parametrize(("now", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_cases(now: Situation, expected: tuple[Action, ...]) -> None:
    assert vault_actions(now) == expected


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (situation(sealed=True, keys_kept=False), "keys are not in the lab's folder"),
        (situation(sealed=False, keys_kept=False, marked=True), "keys are not in the lab's folder"),
        (situation(operator=Operator.NONE), "credentials for the Vault are not kept"),
        (situation(operator=Operator.REFUSED), "refused at a login"),
    ],
)
def test_what_cannot_be_mended_is_said_and_nothing_is_reset(now: Situation, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        vault_actions(now)
    assert caught.value.hint


def test_reset_is_reached_from_one_kind_of_situation_only() -> None:
    bools = (False, True)
    for initialised, sealed, keys, marked in itertools.product(bools, bools, bools, bools):
        for root, operator in itertools.product(Root, Operator):
            now = Situation(initialised, sealed, keys, root, operator, marked)
            try:
                resets = A.RESET in vault_actions(now)
            except UserError:
                continue
            assert resets == (initialised and sealed and not keys and marked)


@dataclass
class World:
    """A Vault, a lab's folder, and what must hold of them."""

    initialised: bool = False
    sealed: bool = True
    generation: int = 0
    root_alive: bool = False
    used: bool = False
    operator_generation: int = -1
    kept_keys: int = -1
    kept_root: bool = False
    kept_operator: int = -1
    marked: bool = False
    done: set[Action] = field(default_factory=set)
    refused: bool = False
    prepared: bool = False
    half: bool = False

    def situation(self) -> Situation:
        root = Root.NONE
        if self.kept_keys >= 0 and self.kept_root and self.initialised:
            root = Root.UNKNOWN if self.sealed else (Root.LIVE if self.root_alive else Root.REVOKED)
        operator = Operator.NONE if self.kept_operator < 0 else (Operator.REFUSED if self.refused else Operator.KEPT)
        kept = self.kept_keys >= 0
        return Situation(self.initialised, self.sealed, kept, root, operator, self.marked, frozenset(self.done), self.half)

    def do(self, action: Action, *, cut: bool) -> None:  # noqa: C901, PLR0912 - one branch an action
        """Does the action; with `cut` only its first half, where it has two."""
        if action is A.RESET:
            assert not self.used, "a Vault that was used is never reset"
            self.initialised, self.sealed, self.root_alive = False, True, False
            self.prepared = self.half = False
        elif action is A.RETIRE:
            self.kept_operator = -1
            if not cut:
                self.kept_keys, self.kept_root = -1, False
        elif action is A.MARK:
            self.marked = True
        elif action is A.UNMARK:
            assert self.kept_keys == self.generation
            self.marked = False
        elif action is A.INITIALISE:
            assert not self.initialised
            assert self.marked
            if self.prepared:
                self.half = True
                return
            if cut and self.generation % 2:
                self.prepared = True
                return
            self.initialised, self.generation, self.root_alive = True, self.generation + 1, True
            if not cut:
                self.kept_keys, self.kept_root = self.generation, True
        elif action is A.UNSEAL:
            assert self.kept_keys == self.generation
            self.sealed = False
        elif action in (A.CONFIGURE, A.SEED):
            assert self.root_alive or A.LOGIN in self.done
            self.used = True
            self.done.add(action)
        elif action is A.KEEP_OPERATOR:
            assert self.root_alive
            self.operator_generation += 1
            if not cut:
                self.kept_operator, self.refused = self.operator_generation, False
        elif action is A.LOGIN:
            self.refused = self.kept_operator != self.operator_generation
            if not self.refused:
                self.done.add(action)
        elif action is A.REVOKE_ROOT:
            assert A.LOGIN in self.done, "labctl can log in before the root token goes"
            self.root_alive = False
            self.done.add(action)
        elif action is A.FORGET_ROOT:
            assert not self.root_alive
            self.kept_root = False

    def killed(self, *, restarted: bool) -> None:
        self.done, self.refused, self.half = set(), False, False
        self.sealed = self.sealed or restarted

    def up(self, kill_at: int | None = None, *, cut: bool = False) -> bool:
        """One run; True if it got to its end."""
        for step in range(40):
            left = vault_actions(self.situation())
            if not left:
                return True
            if step == kill_at:
                if cut:
                    self.do(left[0], cut=True)
                return False
            self.do(left[0], cut=False)
        raise AssertionError("does not settle")


kills = st.lists(st.tuples(st.integers(0, 14), st.booleans(), st.booleans(), st.booleans()), max_size=8)


@settings(max_examples=500)
@given(kills)
def test_killed_anywhere_it_ends_ready(runs: list[tuple[int, bool, bool, bool]]) -> None:
    world = World()
    for kill_at, cut, restarted, destroyed in runs:
        world.up(kill_at, cut=cut)
        world.killed(restarted=restarted)
        if destroyed:
            world.initialised, world.sealed, world.root_alive, world.used = False, True, False, False
            world.prepared = False
    assert world.up()
    assert not world.sealed
    assert not world.root_alive
    assert not world.kept_root
    assert not world.marked
    assert (world.kept_keys, world.kept_operator) == (world.generation, world.operator_generation)
    world.killed(restarted=False)
    assert vault_actions(world.situation()) == (A.LOGIN, A.CONFIGURE, A.SEED)


def test_proof_of_an_unused_vault() -> None:
    test = '{"type":"request","request":{"path":"sys/audit/test"}}\n'
    assert proves_unused("")
    assert proves_unused(test)
    assert not proves_unused(test + '{"type":"request","request":{"path":"auth/token/lookup-self"}}\n')
    assert not proves_unused(test + "half a li")
    assert not proves_unused("[]")
