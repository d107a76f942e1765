"""Ask the guards about a prompt or a video, as every generation does.

[bold]Examples[/bold]

  nemo-cosmos guard text "a robot arm picks up a red block" --json

  nemo-cosmos guard video outputs/world.mp4 --out safe.mp4 --json

  nemo-cosmos guard provenance reuploaded.mp4
"""

from __future__ import annotations

from nemo_cosmos.cli.main import GENERATION, CommandEntry

#: Commands of the group, by the word after ``guard``; a module is imported when it is called.
COMMANDS: dict[str, CommandEntry] = {
    "text": CommandEntry("guard_text", GENERATION, "Judge a prompt, or one prompt a line."),
    "provenance": CommandEntry(
        "guard_provenance", GENERATION, "Tell whether a video says that a model made it."
    ),
    "video": CommandEntry("guard_video", GENERATION, "Judge a video and write its safe copy."),
}
