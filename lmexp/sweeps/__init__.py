"""Many runs from one command line."""

from lmexp.sweeps.basic import sweep as sweep
