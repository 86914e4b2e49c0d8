"""Keep threads that wait from using their cores, and count the cores of this process."""

from __future__ import annotations

import os

# GNU OpenMP, and that of Intel and LLVM: threads that wait leave their core to others at once
_WAIT_SETTINGS = {"GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


def leave_cores_while_waiting() -> None:
    """Set the environment so that threads of OpenMP which wait for others leave their core.

    By default they keep it for a while: beside one other busy process, two threads then need
    many times as long as one. The setting reaches libraries that are loaded later, such as torch,
    and child processes. It stays as it is if the user has set OMP_WAIT_POLICY, GOMP_SPINCOUNT or
    KMP_BLOCKTIME.
    """
    if not {"OMP_WAIT_POLICY", *_WAIT_SETTINGS} & os.environ.keys():
        os.environ.update(_WAIT_SETTINGS)


def count_cores() -> int:
    """Return the number of cores that this process may use.

    It is limited by the affinity of the process and by the quota of its container (cgroup).

    Examples
    --------
    >>> 1 <= count_cores() <= os.cpu_count()
    True
    """
    from joblib import cpu_count  # noqa: PLC0415 - `import skastro` stays fast

    return int(cpu_count())
