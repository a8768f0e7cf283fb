"""The first rows tell whether a judge can be read; the others wait for that, and for nothing else."""

from __future__ import annotations

import asyncio

import pytest

from alpagasus_ray.judge.judging import Judgment
from alpagasus_ray.judge.pilot_gate import PilotGate, Readable
from alpagasus_ray.llm.chat import EndpointError

READ = Judgment((8.0, 9.0), None, "8 9", 1, 1, False)
UNREADABLE = Judgment(None, "unreadable: no score", "They are both " + "very " * 30 + "good.", 1, 1, False)
LATE = Judgment(None, "timeout: late", None, 0, 0, False)


async def pass_through(gate: PilotGate, judgments: list[Judgment | None]) -> list[str]:
    """Send rows through in their order, None being given up; return what became of each."""

    async def one(judgment: Judgment | None) -> str:
        try:
            async with gate.row() as row:
                await asyncio.sleep(0)
                if judgment is None:
                    raise asyncio.CancelledError
                row.judgment = judgment
        except EndpointError as error:
            return str(error)
        except asyncio.CancelledError:
            return "given up"
        return "asked"

    return await asyncio.wait_for(asyncio.gather(*map(one, judgments)), 10)


def outcomes(judgments: list[Judgment | None], pilot: int = 4) -> list[str]:
    async def run() -> list[str]:
        return await pass_through(PilotGate("judge", pilot), judgments)

    return asyncio.run(run())


def test_when_most_of_the_pilot_cannot_be_read_nobody_else_is_asked_about() -> None:
    said = outcomes([UNREADABLE, READ, UNREADABLE, UNREADABLE, READ, READ])
    assert said[:4] == ["asked"] * 4
    assert said[4] == said[5]
    assert said[4].startswith("judge: 3 of its first 4 replies hold no scores that can be read, such as ")
    assert said[4].count("They are both very very") == 3


@pytest.mark.parametrize("doubtful", [READ, LATE, None])
def test_half_unreadable_late_or_given_up_rows_stop_nothing(doubtful: Judgment | None) -> None:
    said = outcomes([UNREADABLE, doubtful, UNREADABLE, doubtful, READ, READ])
    assert said[4:] == ["asked"] * 2


def test_fewer_rows_than_a_pilot_wait_for_nobody() -> None:
    assert outcomes([UNREADABLE] * 3) == ["asked"] * 3


@pytest.mark.parametrize(
    ("num_read", "num_unreadable", "is_proof"),
    [(20, 20, True), (19, 0, False), (20, 21, False), (0, 0, False)],
)
def test_a_judge_is_proven_by_a_pilot_of_which_most_was_read(
    num_read: int, num_unreadable: int, is_proof: bool
) -> None:
    readable = Readable()
    readable.add([{"failure": None, "from_ledger": False}] * num_read)
    readable.add([{"failure": UNREADABLE.failure, "from_ledger": False}] * num_unreadable)
    readable.add(
        [{"failure": None, "from_ledger": True}] * 100 + [{"failure": "timeout", "from_ledger": False}]
    )
    assert readable.is_proof() == is_proof
