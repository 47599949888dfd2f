"""The run record: a folder that holds all that is known about a run, readable without torch.

`folder` writes and reads one run; `listing` finds runs and shows them.
"""

from lmexp.runs.folder import RunFolder as RunFolder
from lmexp.runs.listing import find_run as find_run
from lmexp.runs.listing import list_runs as list_runs
