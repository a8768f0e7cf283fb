"""A link that is down for half a minute costs half a minute: with Ray's own settings no host is given up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.cluster.network import why_no_hosts
from tests.cluster.submitted import Submitted, done, site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(why_no_hosts() is not None, reason=str(why_no_hosts())),
]
CUT_S = 30.0


def test_a_link_that_is_cut_for_30_s(tmp_path: Path) -> None:
    with site(tmp_path) as here, here.endpoint() as endpoint:
        grading = Submitted(tmp_path, endpoint, here)
        node_id, job = here.hosts.id_of(1), grading.started()
        victim = grading.busy_host()
        here.hosts.network.cut(victim)
        threading.Timer(CUT_S, here.hosts.network.restore, (victim,)).start()
        grading.check_complete(done(job))
        assert here.hosts.id_of(1) == node_id, "the host is the cluster's still"
