"""Entry point for `ray job submit -- python jobs/train.py ...`: the command `alpagasus train`."""

import sys

from alpagasus_ray.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
