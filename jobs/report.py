"""Entry point for `ray job submit -- python jobs/report.py ...`: the command `alpagasus report`."""

import sys

from alpagasus_ray.cli import main

sys.exit(main(["report", *sys.argv[1:]]))
