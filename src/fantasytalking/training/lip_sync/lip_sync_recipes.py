"""Ready-made recipe of the lip-sync network."""

from __future__ import annotations

from fantasytalking.training.lip_sync.lip_sync_objective import LipSyncRecipe

__all__ = ["LIP_SYNC_RECIPES"]

LIP_SYNC_RECIPES = {"lip-sync": LipSyncRecipe()}
"""Recipes by name: the network that measures whether lips and sound are in sync."""
