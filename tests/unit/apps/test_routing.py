"""Which model answers whom."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserver.routing import choose


@dataclass(frozen=True)
class Arm:
    name: str
    weight: float

    def __str__(self) -> str:
        return self.name


weights = st.floats(0.01, 100)
arms = st.lists(weights, min_size=1, max_size=6).map(lambda values: [Arm(f"m{i}@a", w) for i, w in enumerate(values)])
keys = st.text(max_size=40)


@given(arms, keys, st.randoms())
def test_a_key_keeps_its_model_in_whatever_order_they_are_listed(models: list[Arm], key: str, random: Random) -> None:
    chosen = choose(models, key)
    random.shuffle(models)
    assert choose(models, key) == chosen


@given(arms, weights, keys)
def test_a_new_model_takes_keys_and_moves_none_between_the_others(models: list[Arm], weight: float, key: str) -> None:
    new = Arm("new@a", weight)
    assert choose([*models, new], key) in (choose(models, key), new)


@given(arms, keys)
def test_a_model_that_is_away_hands_over_its_own_keys_only(models: list[Arm], key: str) -> None:
    chosen = choose(models, key)
    for gone in models:
        if gone != chosen:
            assert choose([m for m in models if m != gone], key) == chosen


@given(arms, st.integers(0, 5), st.floats(1, 10), keys)
def test_a_raised_weight_only_attracts(models: list[Arm], index: int, factor: float, key: str) -> None:
    raised = models[index % len(models)]
    after = [replace(m, weight=m.weight * factor) if m == raised else m for m in models]
    if choose(models, key) == raised:
        assert choose(after, key).name == raised.name
    else:
        assert choose(after, key).name in (choose(models, key).name, raised.name)


@given(arms, st.integers(-8, 8), keys)
def test_only_the_ratio_of_weights_counts(models: list[Arm], power: int, key: str) -> None:
    scale = 2.0**power  # exact in floats
    assert choose([replace(m, weight=m.weight * scale) for m in models], key).name == choose(models, key).name


def test_shares_are_the_weights() -> None:
    models = [Arm("a@production", 6), Arm("b@canary", 3), Arm("c@canary", 1)]
    keys = 20_000
    counts = Counter(choose(models, f"user-{number}").name for number in range(keys))
    # Four standard deviations of a binomial share; the hash is fixed, so that this is no gamble.
    for model in models:
        share = model.weight / 10
        assert abs(counts[model.name] / keys - share) < 4 * (share * (1 - share) / keys) ** 0.5


def test_the_draw_is_the_same_on_every_machine() -> None:
    models = [Arm("a@production", 1), Arm("b@production", 1)]
    assert [choose(models, f"user-{number}").name[0] for number in range(12)] == list("aaabbbbaabaa")


def test_no_choice_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        choose([], "key")
