"""Every row once an epoch, the same rows in each step however many workers there are."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.train.batches import BatchPlan, GlobalBatch, MicroBatch
from alpagasus_ray.train.examples import Example

calmly = settings(deadline=None, derandomize=True, max_examples=60)
PLANS = st.builds(
    BatchPlan,
    num_examples=st.integers(1, 70),
    global_batch_size=st.integers(1, 24),
    micro_batch_size=st.integers(1, 6),
    seed=st.integers(0, 3),
    pack_tokens=st.none() | st.integers(40, 120),
)
WORLDS = st.integers(1, 6)


def examples_of(plan: BatchPlan) -> list[Example]:
    dice = random.Random(plan.num_examples)
    lengths = [dice.randint(2, 40) for _ in range(plan.num_examples)]
    return [Example(tuple(range(length)), dice.randrange(1, length)) for length in lengths]


def steps_of(plan: BatchPlan, world_size: int, epoch: int = 0) -> list[list[GlobalBatch]]:
    """Return the workers' parts, step by step."""
    examples, order = examples_of(plan), plan.epoch_order(epoch)
    return [
        [plan.global_batch(order, step, examples, rank, world_size) for rank in range(world_size)]
        for step in range(plan.steps_per_epoch)
    ]


def rows_of(step: list[GlobalBatch]) -> list[int]:
    return [index for part in step for micro in part.micro_batches for pack in micro for index in pack]


@calmly
@given(PLANS, WORLDS)
def test_every_row_is_trained_on_once_an_epoch(plan: BatchPlan, world_size: int) -> None:
    seen = Counter(index for step in steps_of(plan, world_size) for index in rows_of(step))
    assert seen == Counter(range(plan.num_examples))


@calmly
@given(PLANS, WORLDS)
def test_every_worker_knows_the_tokens_of_all(plan: BatchPlan, world_size: int) -> None:
    lengths = [len(example.input_ids) for example in examples_of(plan)]
    for step in steps_of(plan, world_size):
        rows = rows_of(step)
        assert {part.num_tokens for part in step} == {sum(lengths[row] for row in rows)}
        assert {part.num_attended_tokens for part in step} == {sum(lengths[row] ** 2 for row in rows)}


@calmly
@given(PLANS, WORLDS)
def test_all_workers_do_equally_many_passes(plan: BatchPlan, world_size: int) -> None:
    """Each pass is a collective: a worker with one more would wait for ever."""
    for step in steps_of(plan, world_size):
        assert len({len(part.micro_batches) for part in step}) == 1
        assert len(step[0].micro_batches) >= 1


@calmly
@given(PLANS, WORLDS)
def test_no_pass_is_larger_than_the_memory_was_made_for(plan: BatchPlan, world_size: int) -> None:
    for step in steps_of(plan, world_size):
        sizes = [len(micro) for part in step for micro in part.micro_batches]
        assert max(sizes) <= plan.micro_batch_size
        assert max(sizes) - min(sizes) <= 1


@calmly
@given(PLANS, WORLDS)
def test_a_steps_rows_do_not_hang_on_the_number_of_workers(plan: BatchPlan, world_size: int) -> None:
    alone, together = steps_of(plan, 1), steps_of(plan, world_size)
    assert [sorted(rows_of(step)) for step in alone] == [sorted(rows_of(step)) for step in together]


@calmly
@given(PLANS, WORLDS)
def test_every_worker_knows_the_tokens_of_the_whole_step(plan: BatchPlan, world_size: int) -> None:
    examples = examples_of(plan)
    for step in steps_of(plan, world_size):
        counted = sum(examples[index].num_target_tokens for index in rows_of(step))
        assert {part.num_target_tokens for part in step} == {counted}


@calmly
@given(PLANS)
def test_all_steps_but_the_last_are_full(plan: BatchPlan) -> None:
    sizes = [len(rows_of(step)) for step in steps_of(plan, 2)]
    assert len(sizes) == plan.steps_per_epoch
    assert set(sizes[:-1]) <= {plan.global_batch_size}
    assert 1 <= sizes[-1] <= plan.global_batch_size


@calmly
@given(PLANS)
def test_an_epochs_order_is_the_seeds_and_its_own(plan: BatchPlan) -> None:
    same = BatchPlan(plan.num_examples, 1, 1, plan.seed)
    assert [plan.epoch_order(epoch) for epoch in range(3)] == [same.epoch_order(epoch) for epoch in range(3)]
    assert sorted(plan.epoch_order(1)) == list(range(plan.num_examples))


@calmly
@given(PLANS, WORLDS)
def test_no_pack_is_longer_than_it_may_be(plan: BatchPlan, world_size: int) -> None:
    examples = examples_of(plan)
    for step in steps_of(plan, world_size):
        packs = [pack for part in step for micro in part.micro_batches for pack in micro]
        lengths = [sum(len(examples[index].input_ids) for index in pack) for pack in packs]
        assert plan.pack_tokens is not None or max(map(len, packs)) == 1
        assert plan.pack_tokens is None or max(lengths) <= plan.pack_tokens


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(BatchPlan(50, 8, 4, seed).epoch_order(epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_rows_of_like_length_share_a_pass() -> None:
    examples = [Example(tuple(range(length)), 1) for length in (9, 2, 8, 3, 2, 9)]
    plan = BatchPlan(6, 6, 2, 0)
    parts = plan.global_batch(range(6), 0, examples, 0, 1).micro_batches
    assert [sorted(len(examples[index].input_ids) for (index,) in part) for part in parts] == [
        [2, 2],
        [3, 8],
        [9, 9],
    ]


@pytest.mark.parametrize(("num_examples", "steps"), [(1, 1), (127, 1), (128, 1), (129, 2), (9229, 73)])
def test_the_papers_batches_give_so_many_steps(num_examples: int, steps: int) -> None:
    assert BatchPlan(num_examples, 128, 4, 42).steps_per_epoch == steps


@calmly
@given(PLANS, st.integers(2, 5))
def test_no_worker_waits_for_another_longer_than_for_one_pass(plan: BatchPlan, world_size: int) -> None:
    """What is padded counts: two workers' tokens of a step differ by no more than the step's largest pass."""
    examples = examples_of(plan)

    def padded(micro: MicroBatch) -> int:
        sizes = [sum(len(examples[index].input_ids) for index in pack) for pack in micro]
        return len(sizes) * max(sizes, default=0)

    for step in steps_of(plan, world_size):
        tokens = [[padded(micro) for micro in part.micro_batches] for part in step]
        totals = [sum(passes) for passes in tokens]
        assert max(totals) - min(totals) <= max(max(passes) for passes in tokens)
