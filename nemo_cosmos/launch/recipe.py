"""A recipe as it runs at this site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nemo_cosmos.errors import ConfigError

if TYPE_CHECKING:
    import nemo_run as run


def configure_recipe(
    name: str, overrides: Sequence[str], site: Mapping[str, object], post_training: bool
) -> run.Partial:
    """Configure a recipe with the site's values, then the user's, then what its weights fix.

    Args:
        name: the recipe's name.
        overrides: ``key=value`` words; ``peft_scheme=lora`` is the recipe's own argument.
        site: what :func:`nemo_cosmos.site.compose_site` returned.
        post_training: ``finetune`` instead of ``pretrain``.

    Raises:
        ConfigError: an unknown recipe, key or value.
    """
    from nemo_cosmos.platform.quiet import quiet_nemo
    from nemo_cosmos.site import recipe_overrides
    from nemo_cosmos.storage.paths import expand_home
    from recipes.registry import get_recipe, plain_recipe, require_recipe

    require_recipe(name, post_training)  # before the seconds that NeMo takes to import
    quiet_nemo()
    from recipes.overrides import apply_overrides

    schemes = [word.partition("=")[2].strip() for word in overrides if _is_scheme(word)]
    overrides = [word for word in overrides if not _is_scheme(word)]
    below = [word for word in overrides if word.startswith("peft.")]
    if below and schemes[-1:] in ([], ["none"]):
        raise ConfigError(
            f"'{below[0]}' sets an adapter, but the recipe trains all weights. Add "
            "peft_scheme=lora, or leave it out."
        )
    recipe = get_recipe(name, post_training, schemes[-1] if schemes else None)
    words = [*recipe_overrides(site), *overrides]
    apply_overrides(recipe, [expand_home(word) for word in words])
    if post_training:
        from recipes.weights import take_from_weights

        take_from_weights(recipe, plain_recipe(recipe, name), overrides)
    return recipe


def _is_scheme(word: str) -> bool:
    return word.partition("=")[0].strip() == "peft_scheme"
