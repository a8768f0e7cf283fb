from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from alpagasus_ray.serve.endpoint import Endpoint
from alpagasus_ray.serve.model_folder import ServedModel
from alpagasus_ray.serve.sharing import SharedEndpoint

FULL, FILTERED, OTHER = (ServedModel(name, f"models/{name}") for name in ("full", "filtered", "other"))


class Opened:
    """What was opened and closed, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @contextmanager
    def __call__(self, models: Sequence[ServedModel]) -> Iterator[Endpoint]:
        names = tuple(model.name for model in models)
        self.log.append(f"open {'+'.join(names)}")
        try:
            yield Endpoint("http://127.0.0.1:1/v1", names)
        finally:
            self.log.append(f"close {'+'.join(names)}")


def test_two_stages_share_one_endpoint_which_ends_with_the_block() -> None:
    opened = Opened()
    with SharedEndpoint(opened, [FULL, FILTERED]) as shared:
        assert opened.log == []
        for models in ([FULL], [FULL, FILTERED], [FILTERED]):
            with shared.serving(models) as endpoint:
                assert endpoint.model_names == ("full", "filtered")
        assert opened.log == ["open full+filtered"]
    assert opened.log == ["open full+filtered", "close full+filtered"]


def test_what_is_not_shared_and_what_comes_after_is_served_alone() -> None:
    opened = Opened()
    with SharedEndpoint(opened, [FULL]) as shared, shared.serving([OTHER]) as endpoint:
        assert endpoint.model_names == ("other",)
    with shared.serving([FULL]):
        pass
    assert opened.log == ["open other", "close other", "open full", "close full"]


def test_there_is_one_endpoint_at_a_time() -> None:
    """A cluster has one: what is shared ends before another is opened, and begins anew."""
    opened = Opened()
    with SharedEndpoint(opened, [FULL]) as shared:
        for models in ([FULL], [FULL, OTHER], [FULL]):
            with shared.serving(models) as endpoint:
                assert endpoint.model_names == tuple(model.name for model in models)
    assert opened.log == [
        *("open full", "close full"),
        *("open full+other", "close full+other"),
        *("open full", "close full"),
    ]


def test_a_failure_in_the_block_closes_it_too() -> None:
    opened = Opened()
    with (
        pytest.raises(ValueError, match="halfway"),
        SharedEndpoint(opened, [FULL]) as shared,
        shared.serving([FULL]),
    ):
        raise ValueError("halfway")
    assert opened.log == ["open full", "close full"]
