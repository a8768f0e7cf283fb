from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from ray import cloudpickle

from alpagasus_ray.generate.offline_road import OfflineEngine, prepared
from alpagasus_ray.serve.whole_answers import WholeAnswers

ENGINE = OfflineEngine("model", {}, {}, {}, 1, 5.0, frozenset(), None, output_kind=WholeAnswers)
PREPARING = """
import pickle, sys
prepare = pickle.load(open(sys.argv[1], "rb"))
row = prepare({"number": 3, "sampling_params": {"max_tokens": 4, "stop": ["###"]}})
assert "vllm" not in sys.modules, "it takes 10 s to import, and only the engine's process needs it"
pickle.dump(row, open(sys.argv[2], "wb"))
"""


@pytest.mark.slow
def test_it_is_vllms_own_only_in_the_engines_process(tmp_path: Path) -> None:
    function, row = f"{tmp_path}/function", f"{tmp_path}/row"
    with open(function, "wb") as file:
        file.write(cloudpickle.dumps(prepared(ENGINE)))
    subprocess.run([sys.executable, "-c", PREPARING, function, row], check=True)
    from vllm.sampling_params import RequestOutputKind

    with open(row, "rb") as file:
        params = pickle.load(file)["sampling_params"]
    assert params == {"max_tokens": 4, "stop": ["###"], "output_kind": RequestOutputKind.FINAL_ONLY}
