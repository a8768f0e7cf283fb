"""Entry point for `ray job submit -- python jobs/compare.py ...`: the command `alpagasus compare`."""

import sys

from alpagasus_ray.cli import main

sys.exit(main(["compare", *sys.argv[1:]]))
