"""The toy world: what its rows and test sets promise to whoever builds on them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.corpus import toyworld
from alpagasus_ray.corpus.toytasks import OPENINGS, TASKS
from alpagasus_ray.corpus.toyworld import TESTSET_NAMES, generate_rows, generate_testsets, solve
from alpagasus_ray.corpus.triplets import parse_triplet

ROWS = generate_rows(3_000, 0.18, seed=3)
TESTSETS = generate_testsets(60, seed=3)


def is_right(row: dict[str, str]) -> bool:
    solution = solve(row["instruction"], row["input"])
    assert solution is not None, f"cannot be solved: {row}"
    assert solution.category == row["category"]
    return solution.accepts(row["output"])


def test_rows_are_alpaca_rows_and_carry_no_mark_of_their_quality():
    assert all(set(row) == {"instruction", "input", "output", "category"} for row in ROWS)
    assert len({parse_triplet(row).id for row in ROWS}) == len(ROWS)


def test_same_seed_same_data_other_seed_other_data():
    assert generate_rows(200, 0.18, seed=3) == generate_rows(200, 0.18, seed=3)
    assert generate_rows(200, 0.18, seed=3) != generate_rows(200, 0.18, seed=4)
    assert generate_testsets(20, seed=3) == generate_testsets(20, seed=3)
    assert generate_testsets(20, seed=3) != generate_testsets(20, seed=4)


@settings(max_examples=20, deadline=None)
@given(good_share=st.floats(0, 1), seed=st.integers(0, 10**6), num_rows=st.integers(0, 150))
def test_the_share_of_right_rows_is_the_share_asked_for(good_share: float, seed: int, num_rows: int):
    rows = generate_rows(num_rows, good_share, seed)
    assert len(rows) == num_rows
    assert sum(map(is_right, rows)) == round(num_rows * good_share)


@settings(max_examples=15, deadline=None)
@given(train_seed=st.integers(0, 10**6), test_seed=st.integers(0, 10**6), num_rows=st.integers(1, 500))
def test_no_test_prompt_is_ever_trained_on(train_seed: int, test_seed: int, num_rows: int):
    trained = {(row["instruction"], row["input"]) for row in generate_rows(num_rows, 0.18, train_seed)}
    tested = {
        (prompt["instruction"], prompt["input"])
        for prompts in generate_testsets(30, test_seed).values()
        for prompt in prompts
    }
    assert not trained & tested


def test_no_prompt_occurs_twice():
    for rows in (ROWS, *TESTSETS.values()):
        assert len({(row["instruction"], row["input"]) for row in rows}) == len(rows)


def test_every_test_prompt_is_solvable_and_stands_in_its_test_set():
    assert tuple(TESTSETS) == TESTSET_NAMES
    for name, prompts in TESTSETS.items():
        assert [prompt["id"] for prompt in prompts] == [f"{name}-{number}" for number in range(1, 61)]
        assert len({prompt["category"] for prompt in prompts}) >= 3
        for prompt in prompts:
            solution = solve(prompt["instruction"], prompt["input"])
            assert solution is not None
            assert (solution.testset, solution.category) == (name, prompt["category"])


def test_training_data_covers_every_category_of_the_test_sets():
    counts = Counter(row["category"] for row in ROWS)
    assert set(counts) == {task.category for task in TASKS}
    assert len(counts) >= 6
    assert min(counts.values()) > 0.02 * len(ROWS)


def test_prompts_vary_as_written_ones_do():
    for task in TASKS:
        prompts = {row["instruction"] for row in ROWS if row["category"] == task.category}
        assert len(task.wordings) >= 4
        assert len(prompts) > 10, task.category
    with_input = sum(bool(row["input"]) for row in ROWS) / len(ROWS)
    assert 0.3 < with_input < 0.8
    assert OPENINGS[0] == ""


def test_outputs_are_spoilt_in_several_ways():
    spoilt = [row for row in ROWS if not is_right(row)]
    share = 1 / len(spoilt)
    assert sum("I'm sorry" in row["output"] or "AI" in row["output"] for row in spoilt) * share > 0.2
    assert sum(row["output"] == row["instruction"] for row in spoilt) * share > 0.03
    assert sum(row["output"].startswith(("Yes", "Sure", "Okay")) for row in spoilt) * share > 0.05
    right = [solve(row["instruction"], row["input"]).answer for row in spoilt]
    assert (
        sum(answer.startswith(row["output"]) for answer, row in zip(right, spoilt, strict=True)) * share
        > 0.05
    )
    assert all(row["output"].strip() for row in ROWS)


@pytest.mark.parametrize(
    ("instruction", "input", "answer"),
    [
        ("What is the opposite of hot?", "", "The opposite is cold."),
        ("Quick question: Write the plural form of child.", "", "The plural is children."),
        ("What is the last word of this sentence?", "Old farmers carry lamps.", "The word is lamps."),
        ("What is the first word of this sentence?", "Old farmers carry lamps.", "The word is old."),
        ("Which of these is a tool?", "pear, saw, dog", "The word is saw."),
        ("What kind of things are these?", "dog, tiger", "They are animals."),
        ("How many words are in this list?", "pear, saw, dog", "There are three words."),
        ("What is two plus three?", "", "The sum is five."),
        ("Tom buys two books today and four tomorrow. How many is that?", "", "The answer is six."),
        ("What number comes after six?", "", "The number is seven."),
        ("Name the capital of this country.", "Peru", "The capital is Lima."),
        ("What color is snow?", "", "The color is white."),
        ("What sound does a cow make?", "", "It moos."),
        ("  What is two plus three? ", " ", "The sum is five."),
    ],
)
def test_right_answers_that_a_person_would_give(instruction: str, input: str, answer: str):
    solution = solve(instruction, input)
    assert solution is not None
    assert solution.answer == answer


def test_a_bare_answer_is_right_and_a_longer_or_shorter_one_is_not():
    solution = solve("What is the capital of Peru?")
    assert solution is not None
    for text in ("The capital is Lima.", "Lima", "lima.", "The answer is Lima."):
        assert solution.accepts(text)
    for text in ("", "The capital is", "Lim", "Lima or Rome", "The capital is Rome."):
        assert not solution.accepts(text)


@pytest.mark.parametrize(
    ("instruction", "input"),
    [
        ("", ""),
        ("Give three tips for staying healthy.", ""),
        ("What is the capital of Wakanda?", ""),
        ("What is the capital of Peru?", "Answer in French."),
        ("What is seven hundred plus three?", ""),
        ("How many words are in this list?", "pear, pear"),
        ("Rewrite the sentence in the passive voice.", "The dog eats the pear."),
    ],
)
def test_prompts_of_no_toy_task_have_no_solution(instruction: str, input: str):
    assert solve(instruction, input) is None


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_can_be_looked_at(instruction: str, input: str):
    assert solve(instruction, input) is None


def test_no_prompt_has_two_readings():
    for row in ROWS:
        plain = {row["instruction"].removeprefix(opening) for opening in OPENINGS}
        answers = {
            accepted[0]
            for text in plain
            for task in TASKS
            for wording in task.wordings
            if (slots := wording.read(text, row["input"])) is not None
            and (accepted := task.answer(slots)) is not None
        }
        assert len(answers) == 1, row


def test_asking_for_more_than_the_world_holds_is_said_plainly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(toyworld, "_MAX_DRAWS", 15)  # gives up sooner than in earnest: the test is quick
    with pytest.raises(ValueError, match="the toy world has about"):
        generate_testsets(100_000, seed=0)
    with pytest.raises(ValueError, match="good_share"):
        generate_rows(10, 1.5, seed=0)
