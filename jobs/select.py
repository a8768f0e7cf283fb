"""Entry point for `ray job submit -- python jobs/select.py ...`: the command `alpagasus select`."""

import sys

from alpagasus_ray.cli import main

sys.exit(main(["select", *sys.argv[1:]]))
