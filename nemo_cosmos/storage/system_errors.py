"""What the system says of a disk that is full or that we may not write to, in one paragraph."""

from __future__ import annotations

import errno

from nemo_cosmos.errors import InputError, NemoCosmosError, StorageFullError
from nemo_cosmos.storage.atomic import is_full

_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_PLACE = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EINVAL)


def said_by_the_system(error: OSError) -> NemoCosmosError | None:
    """Return an error of ours for one of the system's; None for one that only we can mend.

    It is the last resort of the command line. Writers that know what is intact say more.

    Args:
        error: what the system said, perhaps of a file.
    """
    place = f"'{error.filename!s:.200}'" if error.filename else "a file"
    if is_full(error):
        return StorageFullError(
            f"No space left for {place}: {error.strerror}. Free some space, or choose another "
            "output folder, and run the same command again."
        )
    if error.errno in _NOT_ALLOWED:
        return InputError(
            f"{place} cannot be opened or written: {error.strerror}. Choose a place that you may "
            "write to, or change its permissions. What is kept at home goes elsewhere with "
            "NEMO_COSMOS_SITE, NEMO_COSMOS_CACHE and NEMO_COSMOS_AUDIT_LOG."
        )
    if error.errno in _NO_PLACE:
        return InputError(
            f"{place} cannot be a file or folder: {error.strerror}. Check the spelling of the path."
        )
    return None
