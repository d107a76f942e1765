"""Versions of curated data: list, search, compare, export, follow to the source, delete in time.

A version never changes. [bold]nemo-cosmos curate[/bold] adds one when it ends; the catalogue is the
file that the site names (storage.catalogue), or a mongodb:// URL for a team.

[bold]Examples[/bold]

  nemo-cosmos dataset list

  nemo-cosmos dataset query robot --words "red block" --where "scores.motion>=0.01"

  nemo-cosmos dataset diff robot@1 robot@2
"""

from __future__ import annotations

from nemo_cosmos.cli.main import DATA, CommandEntry

#: Commands of the group, by the word after ``dataset``.
COMMANDS: dict[str, CommandEntry] = {
    "list": CommandEntry("dataset_commands", DATA, "List all versions.", "list_versions"),
    "show": CommandEntry("dataset_commands", DATA, "Show a version, or a clip's history.", "show"),
    "diff": CommandEntry("dataset_commands", DATA, "Compare two versions.", "diff"),
    "query": CommandEntry("dataset_commands", DATA, "Search clips by caption and scores.", "query"),
    "export": CommandEntry("dataset_commands", DATA, "Copy what a search finds.", "export"),
    "add": CommandEntry("dataset_commands", DATA, "Add a curated folder as a version.", "add"),
    "retain": CommandEntry("dataset_commands", DATA, "Delete what is past its time.", "retain"),
}
