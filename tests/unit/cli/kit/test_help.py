import shlex

from rich.text import Text

from nemo_cosmos.cli.kit.help import folded, help_text


def test_paragraphs_of_help_are_one_line_and_examples_one_each():
    docstring = """Do it.

Long words that
go over two lines.

Examples:
    nemo-cosmos do a[0]
    nemo-cosmos do --not
"""
    first, second, examples = help_text(docstring).split("\n\n")
    assert (first, second) == ("Do it.", "Long words that go over two lines.")
    assert Text.from_markup(examples).plain.splitlines() == [
        "Examples", "  nemo-cosmos do a[0]", "  nemo-cosmos do --not",
    ]  # fmt: skip


def test_an_example_is_folded_as_a_shell_takes_it():
    line = "nemo-cosmos generate outputs/world/export --prompt 'a red block on a table' --json"
    parts = folded(line, 46)
    assert all(len(part) <= 46 for part in parts) and len(parts) == 2
    assert all(part.startswith("    ") for part in parts[1:])
    whole = "\n".join(parts).replace("\\\n", "")
    assert shlex.split(whole) == shlex.split(line)
    assert folded(line, 100) == [line]
    assert folded("", 80) == []
