from __future__ import annotations

import pickle

import pytest

from alpagasus_ray.serve.whole_answers import WholeAnswers


@pytest.mark.slow
def test_it_is_vllms_own_only_where_it_is_unpickled() -> None:
    packed = pickle.dumps(WholeAnswers())
    assert b"vllm" not in packed, "it takes 10 s to import, and only the engine's process needs it"
    from vllm.sampling_params import RequestOutputKind

    assert pickle.loads(packed) is RequestOutputKind.FINAL_ONLY
