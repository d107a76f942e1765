"""The help of a command, from its docstring."""

from __future__ import annotations

import re

#: Of the help: two columns that typer leaves free, and the indentation of an example.
_HELP_MARGIN = 4


def help_text(docstring: str) -> str:
    """Convert a docstring to Rich markup with each paragraph on one line: the terminal wraps it.

    Args:
        docstring: cleaned of its indentation. The lines of its section ``Examples:`` stay apart;
            one wider than the terminal goes on after a backslash, as a shell takes it.
    """
    from rich.console import Console
    from rich.markup import escape

    prose, _, examples = docstring.partition("\nExamples:\n")
    paragraphs = [" ".join(text.split()) for text in re.split(r"\n\s*\n", prose.strip())]
    if examples:
        # A line that begins with markup keeps its indentation.
        width = Console().width - _HELP_MARGIN
        shown = (part for line in examples.splitlines() for part in folded(line.strip(), width))
        lines = [f"[cyan]  {escape(line)}[/cyan]" for line in shown]
        paragraphs.append("\n".join(["[bold]Examples[/bold]", *lines]))
    return "\n\n".join(paragraphs)


def folded(line: str, width: int) -> list[str]:
    """Fold a command line as a shell takes it: each part but the last ends in a backslash.

    Args:
        line: the command line; what stands in quotation marks stays together.
        width: the most characters of a part; a longer word has a part of its own.
    """
    word = r"""(?:"[^"]*"|'[^']*'|\S)+"""
    parts: list[str] = []
    for words in re.findall(rf"-[^\s=]+ (?!-){word}|{word}", line):  # an option with its value
        if parts and len(f"{parts[-1]} {words} \\") > width:
            parts[-1] += " \\"
            parts.append(f"    {words}")
        else:
            parts[-1:] = [f"{parts[-1]} {words}" if parts else words]
    return parts
