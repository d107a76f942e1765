"""Scripts that run a job and that a person can read: Jinja templates, filled in."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from functools import cache

import jinja2

import nemo_cosmos
from nemo_cosmos.launch.job import COMMAND_MODULE

_INDENT = "    "


def render(template: str, **values: object) -> str:
    """Fill in a template of ``nemo_cosmos/launch/templates``.

    Args:
        template: the file's name.
        values: what it names; all of it must be given.
    """
    version = nemo_cosmos.__version__
    return _environment().get_template(template).render(version=version, **values)


def command_lines(
    python: str, words: Sequence[str], more: str = "", through: Sequence[str] = ()
) -> str:
    """Return ``python -m nemo_cosmos ...`` as a shell takes it, an option or word a line.

    Args:
        python: the interpreter.
        words: the words after ``nemo-cosmos``.
        more: what the shell adds at the end, such as an array of words.
        through: words of the interpreter before ours, such as ``-m torch.distributed.run``.
    """
    first, *rest = words
    parts = [shlex.join([python, *through, "-m", COMMAND_MODULE, first])]
    pending = ""
    for word in rest:
        is_flag = word.startswith("--") and "=" not in word
        if pending and not is_flag:
            parts.append(f"{pending} {shlex.quote(word)}")
            pending = ""
            continue
        if pending:
            parts.append(pending)
        pending = shlex.quote(word) if is_flag else ""
        if not is_flag:
            parts.append(shlex.quote(word))
    parts += [word for word in (pending, more) if word]
    return f" \\\n{_INDENT}".join(parts)


def file_name(name: str) -> str:
    """Return a job's name without what a file name or a line of a script could not hold."""
    return re.sub(r"[^\w.+-]+", "_", name) or "job"


def _grouped(words: Sequence[str]) -> list[str]:
    """Words as a shell takes them: those before the first option, then an option a line."""
    first = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    rest = words.index("--") if "--" in words else len(words)
    lines = [words[:first], *([word] for word in words[first:rest]), words[rest:]]
    return [shlex.join(line) for line in lines if line]


def _as_yaml(value: object) -> str:
    """A value as YAML takes it within a line; JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nemo_cosmos.launch", "templates"),
        autoescape=False,  # shell, not HTML: the filter quotes values
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["quote"] = lambda value: shlex.quote(str(value))
    environment.filters["words"] = lambda words: shlex.join(words)
    environment.filters["lines"] = lambda words: f" \\\n{_INDENT}".join(_grouped(words))
    environment.filters["text"] = _as_yaml
    # Kubernetes replaces $(NAME) in the words of a command, and reads $$ as one dollar.
    environment.filters["argument"] = lambda value: _as_yaml(str(value).replace("$", "$$"))
    return environment
