"""The interval of the winning score covers the truth; the prompts it asks for do make a result clear."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.compare.bootstrap import bootstrap_interval, more_prompts_needed
from alpagasus_ray.compare.statistics import pool
from tests.compare.samples import number
from tests.compare.simulated_judges import Judge, verdicts_of_winners, within_binomial_error

SIMULATIONS = 2_000
COUNTS = st.lists(st.tuples(*[st.integers(0, 60)] * 3), max_size=4)


@pytest.mark.parametrize("rule", ["paper", "mt-bench"])
def test_the_interval_covers_the_truth_at_its_rate(rule: str) -> None:
    """Two test sets of different difficulty, a judge that leans on slot 2, draws, noise."""
    easy, hard = (
        Judge(quality=2.5, spread=1.0, slot=-0.7, margin=0.3),
        Judge(quality=-1.0, slot=-0.7, margin=0.3),
    )
    truth = (60 * easy.winning_score(rule) + 140 * hard.winning_score(rule)) / 200
    generator = np.random.default_rng(7)
    of_easy, of_hard = easy.winners(generator, (SIMULATIONS, 60)), hard.winners(generator, (SIMULATIONS, 140))
    covered = 0
    for seed in range(SIMULATIONS):
        testsets = {
            "easy": verdicts_of_winners(of_easy[seed], rule),
            "hard": verdicts_of_winners(of_hard[seed], rule),
        }
        summary = pool(testsets, num_resamples=500, seed=seed)
        covered += number(summary.winning_score_low) <= truth <= number(summary.winning_score_high)
    assert within_binomial_error(covered, SIMULATIONS, 0.95)


@given(COUNTS)
def test_swapping_the_models_mirrors_interval_and_prompts_needed(counts: list[tuple[int, int, int]]) -> None:
    options = {"num_resamples": 100, "confidence": 0.95, "seed": 3}
    interval = bootstrap_interval(counts, **options)
    swapped = [(lose, tie, win) for win, tie, lose in counts]
    back = bootstrap_interval(swapped, **options)
    if interval[0] is not None:
        assert number(interval[0]) == pytest.approx(2 - number(back[1]), abs=1e-12)
        assert number(interval[1]) == pytest.approx(2 - number(back[0]), abs=1e-12)
    assert more_prompts_needed(counts, interval, confidence=0.95) == more_prompts_needed(
        swapped, back, confidence=0.95
    )


def test_as_many_prompts_as_it_asks_for_make_four_results_of_five_clear() -> None:
    needed = number(more_prompts_needed([(32, 24, 24)], (0.9, 1.3), confidence=0.95))
    assert needed == 542 - 80  # ((1.95996 + 0.84162) / 0.1)^2 (0.7 - 0.1^2) = 541.6, less 80
    generator = np.random.default_rng(4)
    drawn = generator.multinomial(80 + int(needed), [0.4, 0.3, 0.3], size=SIMULATIONS)
    clear = 0
    for seed, (win, tie, lose) in enumerate(drawn.tolist()):
        low, _ = bootstrap_interval([(win, tie, lose)], num_resamples=500, confidence=0.95, seed=seed)
        clear += number(low) > 1
    assert within_binomial_error(clear, SIMULATIONS, 0.8)


def test_test_sets_that_differ_need_fewer_prompts_than_one_of_their_sum() -> None:
    apart = more_prompts_needed([(30, 5, 5), (5, 5, 25)], (0.9, 1.2), confidence=0.95)
    together = more_prompts_needed([(35, 10, 30)], (0.9, 1.2), confidence=0.95)
    assert number(apart) < number(together)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        ([(30, 5, 5)], (1.4, 1.8)),
        ([(5, 5, 30)], (0.2, 0.6)),
        ([(10, 5, 10)], (0.7, 1.3)),
        ([], (None, None)),
    ],
)
def test_no_number_of_prompts_where_it_is_clear_or_exactly_even(
    counts: list[tuple[int, int, int]], interval: tuple[float | None, float | None]
) -> None:
    assert more_prompts_needed(counts, interval, confidence=0.95) is None


def test_more_confidence_asks_for_more_prompts() -> None:
    needed = [more_prompts_needed([(41, 15, 34)], (0.9, 1.2), confidence=c) for c in (0.8, 0.95, 0.99)]
    assert needed == sorted(needed, key=number) and len(set(needed)) == 3


@pytest.mark.parametrize(
    ("counts", "interval", "more"),
    [((1, 0, 0), (0.05, 2.0), 5), ((0, 0, 6), (0.0, 0.9186), None), ((0, 2, 0), (0.1581, 1.8419), None)],
)
def test_a_few_verdicts_that_all_agree_are_not_sure(
    counts: tuple[int, int, int], interval: tuple[float, float], more: int | None
) -> None:
    """Clopper and Pearson's bound on the share of what all of them said: 0.025, 0.5407 and 0.1581."""
    found = bootstrap_interval([counts], num_resamples=100, confidence=0.95, seed=0)
    assert found == (pytest.approx(interval[0], abs=1e-3), pytest.approx(interval[1], abs=1e-3))
    assert more_prompts_needed([counts], found, confidence=0.95) == more
