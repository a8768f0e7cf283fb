"""Entry point for `ray job submit -- python jobs/serve.py ...`: the command `alpagasus serve`."""

import sys

from alpagasus_ray.cli import main

sys.exit(main(["serve", *sys.argv[1:]]))
