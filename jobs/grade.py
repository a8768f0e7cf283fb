"""Entry point for `ray job submit -- python jobs/grade.py ...`: the command `alpagasus grade`."""

import sys

from alpagasus_ray.cli import main

sys.exit(main(["grade", *sys.argv[1:]]))
