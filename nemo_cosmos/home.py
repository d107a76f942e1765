"""The user's folders, also where the user has no home: containers, service accounts, clusters."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from nemo_cosmos.errors import ConfigError

#: Where XDG's base folders are without their variables.
_BASES = {
    "XDG_CACHE_HOME": "~/.cache",
    "XDG_CONFIG_HOME": "~/.config",
    "XDG_STATE_HOME": "~/.local/state",
}


def user_folder(variable: str) -> Path:
    """Return our folder in one of the user's base folders, which may not exist yet.

    Args:
        variable: ``XDG_CACHE_HOME``, ``XDG_CONFIG_HOME`` or ``XDG_STATE_HOME``.

    Returns:
        ``nemo_cosmos`` in the folder that the variable names, else in its usual place. A user
        without a home directory has a place in none of them, ``/nonexistent``, as Debian's
        accounts have.
    """
    return expanded(os.environ.get(variable) or _BASES[variable]) / "nemo_cosmos"


def expanded(path: str) -> Path:
    """Return the path with ``~`` replaced by the user's home, or by ``/nonexistent``."""
    if path.startswith("~") and os.environ.get("HOME") == str(_temporary_folder()):
        return Path(path.replace("~", "/nonexistent", 1))  # a lent home is none of the user's
    try:
        return Path(path).expanduser()
    except RuntimeError:  # a user id that no table of users knows, and no HOME
        return Path(path.replace("~", "/nonexistent", 1))


def lend_a_home() -> None:
    """Give libraries of this process and its children a ``HOME`` where the user has none.

    Some ask for it when they are imported. What we keep ourselves does not go there: an audit log
    among the temporary files would be lost unseen.

    Raises:
        ConfigError: something of another user is at its place.
    """
    if not expanded("~").is_dir():
        os.environ["HOME"] = str(private_temporary_folder())


def can_be_made(folder: Path) -> bool:
    """Whether this process may write to the folder, or may make it."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def private_temporary_folder() -> Path:
    """Return a folder of this user alone among the temporary files; it is the same every time.

    Raises:
        ConfigError: something of another user is at its place.
    """
    folder = _temporary_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    others_may_write = stat.S_IMODE(found.st_mode) & 0o022
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or others_may_write:
        raise ConfigError(
            f"'{folder}' is not a folder of yours alone, so nothing is kept there. Set "
            "NEMO_COSMOS_CACHE to a folder that you may write to."
        )
    return folder


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"nemo-cosmos-{os.geteuid()}"


def conf_folder() -> Path:
    """Return ``conf/`` of a checkout, or of the installed package."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"
