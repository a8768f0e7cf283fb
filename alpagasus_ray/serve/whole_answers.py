"""How an engine's process is told to make one output of an answer, by processes that do not import vLLM."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.sampling_params import RequestOutputKind


class WholeAnswers:
    """What stands for vLLM's RequestOutputKind.FINAL_ONLY until the engine's process unpickles it.

    Without it each token of each answer makes an output, with all the text so far, that nobody reads. The
    real one would have the other processes on its way import vLLM, 10 s each.
    """

    def __reduce__(self) -> tuple[Callable[[], RequestOutputKind], tuple[()]]:
        """Return what makes the real one."""
        return _final_only, ()


def _final_only() -> RequestOutputKind:
    from vllm.sampling_params import RequestOutputKind

    return RequestOutputKind.FINAL_ONLY
