"""Many runs from one command line: grids and searches that finish.

`plan` reads and checks the command line, `drive` lets Hydra's launcher start workers, a `worker` takes trials until
none is left, `record` is the folder that they share, `search` is Optuna behind it, `show` is what people see.
"""

from lmexp.sweeps.drive import sweep as sweep
