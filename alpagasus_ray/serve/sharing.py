"""One endpoint for several stages that ask the same models, opened when the first of them needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from alpagasus_ray.serve.endpoint import Endpoint
from alpagasus_ray.serve.model_folder import ServedModel

Open = Callable[[Sequence[ServedModel]], AbstractContextManager[Endpoint]]


class SharedEndpoint:
    """Models that are served from when any of them is asked for, until the end of the block."""

    def __init__(self, open_endpoint: Open, models: Sequence[ServedModel]) -> None:
        self._open = open_endpoint
        self._models: Sequence[ServedModel] = models
        self._stack = ExitStack()
        self._endpoint: Endpoint | None = None

    def __enter__(self) -> SharedEndpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self._models, self._endpoint = (), None
        self._stack.close()

    @contextmanager
    def serving(self, models: Sequence[ServedModel]) -> Iterator[Endpoint]:
        """Yield the endpoint of all the models where these are among them, else one for these alone.

        One at a time: a cluster has one endpoint.
        """
        if not {model.name for model in models} <= {model.name for model in self._models}:
            self._endpoint = None
            self._stack.close()
            with self._open(models) as endpoint:
                yield endpoint
            return
        if self._endpoint is None:
            self._endpoint = self._stack.enter_context(self._open(self._models))
        yield self._endpoint
