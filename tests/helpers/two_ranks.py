"""A Python program as two processes of one process group.

They are forked by a fresh process, which imports once and has no threads: a test's process has some, and forked ones
inherit their locks.
"""

import subprocess
import sys

_FORK = """
import os, sys, torch
{imports}
folder, other = sys.argv[1], os.fork()
rank = 1 if other else 0
torch.distributed.init_process_group("gloo", init_method=f"file://{{folder}}/store", rank=rank, world_size=2)
{body}
torch.distributed.destroy_process_group()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) if other else 0)
"""


def run_as_two(imports, body, folder, paths=()):
    """Run ``body``, which knows ``rank`` and ``folder``, on both ranks; it fails if one of them does."""
    head = f"sys.path[:0] = {[str(path) for path in paths]!r}\n{imports}"
    program = _FORK.format(imports=head, body=body)
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, timeout=300)
