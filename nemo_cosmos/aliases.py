"""Names of types whose contents are decided by data, not by code.

Whatever has fixed keys is a dataclass, a ``NamedTuple`` or a ``TypedDict``; whatever is only passed
on is an ``object``. These aliases are for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # commands that only print help must not wait for NumPy
    from numpy.typing import NDArray

JsonObject: TypeAlias = dict[str, Any]
"""An object as ``json.loads`` returns it, or as ``json.dump`` takes it; its reader checks it."""

Array: TypeAlias = "NDArray[Any]"
"""An array whose element type its file or its caller decides."""
