"""Look after the audit log, in which every verdict of every guard is recorded.

[bold]Examples[/bold]

  nemo-cosmos audit verify
"""

from __future__ import annotations

from nemo_cosmos.cli.main import HOUSE, CommandEntry

#: Commands of the group, by the word after ``audit``; a module is imported when it is called.
COMMANDS: dict[str, CommandEntry] = {
    "verify": CommandEntry(
        "audit_verify", HOUSE, "Find out whether a record was changed or removed."
    ),
}
