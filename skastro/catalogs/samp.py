"""Send tables to TOPCAT, Aladin and other programs by SAMP."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from skastro.catalogs.writing import write_table
from skastro.utils.packages import import_optional

_LOAD_TABLE = "table.load.votable"
_SECONDS = 60  # that a program has to read the table


def send_table(table: pd.DataFrame, name: str) -> list[str]:
    """Send a table to all programs on this machine that read tables by SAMP.

    SAMP (Taylor et al. 2015, Astronomy and Computing 11, 81) connects programs such as TOPCAT and
    Aladin through a hub, which TOPCAT brings. The table goes through a temporary VOTable, which is
    removed when all programs have read it.

    Parameters
    ----------
    table : DataFrame
        Columns and units as in `write_table`.
    name : str
        Name of the table in the programs.

    Returns
    -------
    programs : list of str
        Names of the programs that have read the table.

    Raises
    ------
    ConnectionError
        No hub is running, or no program reads tables, or one could not read this table.
    ImportError
        pyvo is not installed, and astropy has no SAMP any more.
    """
    samp = find_samp()
    with samp.conf.set_temp("use_internet", False):  # a web page is asked otherwise
        client = samp.SAMPIntegratedClient(name="skastro", callable=False)
        try:
            client.connect()
        except (samp.SAMPHubError, OSError) as error:
            raise ConnectionError(
                "no SAMP hub is running on this machine: start TOPCAT, which brings one, and send "
                "the table again."
            ) from error
        try:
            return _send(client, table, name, samp.SAMPProxyError)
        finally:
            client.disconnect()


def find_samp() -> ModuleType:
    """Return the module of SAMP: that of pyvo, or of an astropy before 8, from which it comes.

    Examples
    --------
    >>> find_samp().SAMPHubServer.__name__
    'SAMPHubServer'
    """
    found = [name for name in ("pyvo", "astropy") if _has_samp(name)]
    if found == ["astropy"]:
        return importlib.import_module("astropy.samp")
    return import_optional("pyvo.samp", extra="data", needed_by="SAMP")


def _has_samp(package: str) -> bool:
    """Return whether a package is installed in a release that has SAMP."""
    there = importlib.util.find_spec(package) is not None
    return there and importlib.util.find_spec(f"{package}.samp") is not None


def _send(client: Any, table: pd.DataFrame, name: str, proxy_error: type[Exception]) -> list[str]:
    """Let each program read the table, and return their names."""
    programs = {
        key: client.get_metadata(key).get("samp.name", key)
        for key in client.get_subscribed_clients(_LOAD_TABLE)
    }
    if not programs:
        raise ConnectionError(
            "no program that reads tables is connected to the SAMP hub: start TOPCAT or Aladin, "
            "and send the table again."
        )
    with tempfile.TemporaryDirectory(prefix="skastro-") as folder:
        path = Path(folder, "table.vot")
        write_table(path, table)
        params = {"url": path.as_uri(), "name": name, "table-id": f"skastro-{name}"}
        message = {"samp.mtype": _LOAD_TABLE, "samp.params": params}
        for key, program in programs.items():
            try:
                reply = client.call_and_wait(key, message, str(_SECONDS))
            except proxy_error as error:
                raise ConnectionError(
                    f"{program} did not read the table within {_SECONDS} seconds: close its "
                    "dialogs, and send the table again."
                ) from error
            if reply["samp.status"] != "samp.ok":
                problem = reply.get("samp.error", {}).get("samp.errortxt", "it gave no reason")
                raise ConnectionError(f"{program} could not read the table ({problem}): save it.")
    return list(programs.values())
