"""`python -m benchmarks`: the comparison of `benchmarks.run`."""

import sys

from benchmarks.run import main

sys.exit(main())
