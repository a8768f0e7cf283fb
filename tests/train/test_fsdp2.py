"""When FSDP2 gathers and reduces: what `reshard_after_forward` changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_without_resharding_parameters_and_gradients_stay_whole_until_the_step(
    tiny_model: Path, tmp_path: Path
) -> None:
    """On CPUs that is what one gets; the gradients' norm is the same either way."""
    out = tmp_path / "seen.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.train.gathering", str(tiny_model), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(out.read_text())
    assert seen["True"][:2] == [[1.0, 1.0], [1.0, 1.0]], "sharded and reduced after every pass"
    assert seen["False"][:2] == [[0.0, 0.0], [1.0, 1.0]], "whole after the first pass, sharded after the last"
    assert seen["None"] == seen["False"]
    assert seen["False"][2] == pytest.approx(seen["True"][2], rel=1e-5)
