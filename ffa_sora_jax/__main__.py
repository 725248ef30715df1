"""`python -m ffa_sora_jax VERB` is the console script `ffa-sora`."""

import sys

from ffa_sora_jax.cli import main

sys.exit(main())
