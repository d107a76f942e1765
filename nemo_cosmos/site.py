"""The site's settings: Hydra groups in ``conf/``, and the choices that ``configure`` keeps."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.home import conf_folder, expanded, user_folder
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.storage.paths import expand_home

if TYPE_CHECKING:
    from yaml import YAMLError

SITE_VARIABLE = "NEMO_COSMOS_SITE"
CONFIG_NAME = "config"
CLUSTER = "cluster"
_UNKNOWN_KEY = re.compile(r"Could not override '([\w.]+)'")
OPEN_GROUPS = tuple(
    f"cluster.{name}."
    for name in (
        "env_vars",
        "sbatch",
        "secrets",
        "extra_resources",
        "node_selector",
        "annotations",
        "resources",
    )
)
"""Where a setting's name is the site's to choose."""


def groups() -> dict[str, list[str]]:
    """Return every group of settings with the names of its options."""
    found = {
        folder.name: {option.stem for option in folder.glob("*.yaml")}
        for folder in conf_folder().iterdir()
        if folder.is_dir()
    }
    found[CLUSTER] |= {option.stem for option in own_clusters().glob("*.yaml")}
    return {group: sorted(options) for group, options in sorted(found.items())}


def own_clusters() -> Path:
    """Return the folder of the user's own cluster files, beside the kept choices."""
    return site_file().parent / CLUSTER


def site_file() -> Path:
    """Return the file of the kept choices: ``$NEMO_COSMOS_SITE``, else one of the user's."""
    named = os.environ.get(SITE_VARIABLE)
    if named:
        return Path(named)
    return user_folder("XDG_CONFIG_HOME") / "site.txt"


def kept_choices() -> list[str]:
    """Return the words that ``configure`` kept, such as ``logger=wandb``."""
    file = site_file()
    return file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []


def keep_choices(words: Sequence[str]) -> list[str]:
    """Keep words; a later word for the same key replaces the earlier one.

    Raises:
        ConfigError: a word names no group, option or key.
    """
    choices = _merge(kept_choices(), words)
    compose_site(choices, with_kept=False)
    with atomic_path(site_file()) as path:
        path.write_text("".join(f"{word}\n" for word in choices), encoding="utf-8")
    return choices


def choices_for_jobs() -> list[str]:
    """Return the kept choices for a process that a launcher starts: all but where it runs."""
    return [word for word in kept_choices() if not is_of_cluster(word)]


def is_of_cluster(word: str) -> bool:
    """Whether a word says where things run: ``cluster=slurm`` or ``cluster.account=robotics``."""
    return _key(word) == CLUSTER or word.startswith(f"{CLUSTER}.")


def compose_site(words: Sequence[str] = (), with_kept: bool = True) -> dict[str, Any]:
    """Compose the site's configuration.

    Args:
        words: Hydra overrides, ``group=option`` or ``key=value``; they come after the kept ones.
        with_kept: whether to start with the kept choices.

    Returns:
        Plain dictionaries; ``overrides`` maps keys of a recipe to values.

    Raises:
        ConfigError: an unknown group, option or key.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from yaml import YAMLError

    all_words = _merge(kept_choices() if with_kept else (), words)
    _check_options(all_words)
    _check_cluster_file(dict(word.split("=", 1) for word in all_words).get(CLUSTER, ""))
    overrides = [*_own_places(), *(_for_hydra(word) for word in all_words)]
    try:
        with initialize_config_dir(str(conf_folder().absolute()), version_base="1.3"):
            composed = compose(CONFIG_NAME, overrides=overrides)
    except YAMLError as error:
        raise ConfigError(_yaml_said(error)) from error
    except HydraException as error:
        if found := _UNKNOWN_KEY.match(str(error)):
            _refuse_key(found[1], all_words)
        raise ConfigError(
            f"The site's settings {' '.join(all_words)} do not compose: "
            f"{str(error).splitlines()[0].rstrip('.')}. 'nemo-cosmos configure' shows the groups, "
            "their options, and what is in force."
        ) from error
    plain: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    for group in groups():
        if not isinstance(plain.get(group, {}), Mapping):
            raise ConfigError(
                f"The file that is chosen for the group '{group}' holds no keys but a "
                f"{type(plain[group]).__name__}. Write a key and its value on each line, such as "
                "'executor: slurm'."
            )
    return {key: _expanded(value) for key, value in plain.items()}


def _yaml_said(error: YAMLError) -> str:
    """Where a file of settings cannot be read, and why."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = f"Line {mark.line + 1} of '{mark.name}'" if mark is not None else "A file of settings"
    reason = problem or str(error).splitlines()[0]
    return (
        f"{place} cannot be read as YAML: {reason}. Mend it; spaces indent, not tabs, and what is "
        "opened with [, { or a quotation mark is closed."
    )


def _refuse_key(key: str, words: Sequence[str]) -> None:
    """Refuse a key that no file of settings has, with the nearest of its group."""
    others = [word for word in words if _key(word).lstrip("+") != key]
    if len(others) == len(words):
        return  # it is none of ours
    group: Any = compose_site(others, with_kept=False)
    *places, name = key.split(".")
    for place in places:
        group = group.get(place) if isinstance(group, dict) else None
    if isinstance(group, dict) and group:
        raise ConfigError(
            f"The site's settings have no '{key}'. The nearest of '{'.'.join(places)}' are "
            f"{nearest_names(name, list(group))}; 'nemo-cosmos configure' shows what is in force."
        )


def _own_places() -> list[str]:
    """Return where Hydra also looks for options: the user's own clusters, if there are any."""
    if not own_clusters().is_dir():
        return []
    place = str(own_clusters().parent.absolute()).replace("'", r"\'")
    return [f"hydra.searchpath=['file://{place}']"]


def _expanded(value: Any) -> Any:
    """Return a setting in which a path may begin with ``~``."""
    if isinstance(value, dict):
        return {key: _expanded(inner) for key, inner in value.items()}
    is_home = isinstance(value, str) and (value == "~" or value.startswith("~/"))
    return str(expanded(value)) if is_home else value


def recipe_overrides(site: Mapping[str, Any]) -> list[str]:
    """Return the site's values for a recipe, as ``key=value`` words."""
    words = [f"log.log_dir={site['storage']['outputs']}"]
    return words + [f"{key}={_as_text(value)}" for key, value in site["overrides"].items()]


def _merge(earlier: Sequence[str], later: Sequence[str]) -> list[str]:
    """Return all words, without those that a later one replaces.

    Another option of a group also replaces the group's keys: ``cluster=local`` has no account, so
    that an earlier ``cluster.account=robotics`` would not compose with it.
    """
    before = {_key(word): word for word in earlier}
    now = {_key(word): expand_home(word) for word in later}  # Hydra cannot read a ~
    changed = tuple(f"{key}." for key in now if "." not in key and before.get(key) != now[key])
    kept = [word for key, word in before.items() if key not in now and not key.startswith(changed)]
    return [*kept, *now.values()]


def _key(word: str) -> str:
    return word.partition("=")[0]


def _for_hydra(word: str) -> str:
    """Write a word as Hydra reads it.

    It may add a name that the file lacks, where the names are the site's to choose, and its commas
    are text, as in ``mlx5_0,mlx5_1``: Hydra takes them for values of several runs.
    """
    key, _, value = word.partition("=")
    if "," in value and value[0] not in "[{'\"":
        value = "'" + value.replace("'", r"\'") + "'"
    return f"++{key}={value}" if word.startswith(OPEN_GROUPS) else f"{key}={value}"


def _check_options(words: Sequence[str]) -> None:
    """Refuse an unknown option with the nearest ones; Hydra's own message lists folders."""
    known = groups()
    for word in words:
        key, equals, option = word.partition("=")
        if not equals:
            raise ConfigError(
                f"'{word}' is not of the form group=option or key=value. Write for example "
                "logger=wandb."
            )
        if key in known and option not in known[key]:
            raise ConfigError(
                f"The group '{key}' has no option '{option}'. The nearest are "
                f"{nearest_names(option, known[key])}."
            )


def _check_cluster_file(name: str, including: Sequence[str] = ()) -> None:
    """Refuse a cluster's file that cannot be read; Hydra's own messages name no place in it.

    Args:
        name: the cluster.
        including: the files that begin with it, the first one first.
    """
    import yaml

    path = own_clusters() / f"{name}.yaml"
    if not name or not path.is_file():
        return  # one of ours
    if (conf_folder() / CLUSTER / path.name).is_file():
        raise ConfigError(
            f"The cluster's file '{path}' has the name of one of ours, which would be used in its "
            f"place. Rename it, to 'my_{path.name}' for example, and give that name to --on."
        )
    if name in including:
        chain = " -> ".join([*including, name])
        raise ConfigError(f"The cluster's file '{path}' begins with itself: {chain}.")
    try:
        with path.open(encoding="utf-8") as file:
            values = yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_said(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The cluster's file '{path}' cannot be read: {error}.") from error
    bases = (values.get("defaults") or []) if isinstance(values, dict) else []
    known = groups()[CLUSTER]
    for base in bases if isinstance(bases, list) else [bases]:
        if base not in (*known, "_self_"):
            raise ConfigError(
                f"The cluster's file '{path}' begins with '{base}' (defaults), which is no "
                f"cluster. The nearest are {nearest_names(str(base), known)}."
            )
        _check_cluster_file(base, (*including, name))


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
