"""Checks of a request that need no framework: they come first, so that a mistake is told within a second or two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fantasytalking.data.preparation.executors import check_cluster
from fantasytalking.data.preparation.model_files import read_model_file
from fantasytalking.data.preparation.output_place import check_place
from fantasytalking.data.preparation.preparation_settings import PreparationSettings, RunSettings
from fantasytalking.data.preparation.video_sources import check_exists
from fantasytalking.data.set_records import MANIFEST
from fantasytalking.pipeline.model_names import INDEX, resolve_model
from fantasytalking.system.startup import check_device

__all__ = ["check_request"]


def check_request(
    places: Sequence[Path], output: Path, settings: PreparationSettings, run_settings: RunSettings
) -> None:
    """Check what was asked for, before anything is read or written.

    Args:
        places: Videos, folders, catalogues.
        output: Folder of the set.
        settings: What becomes a clip.
        run_settings: How the preparation is executed.

    Raises:
        InputError: A place does not exist, or there is no Ray cluster at the address.
        SettingsError: There is no such device.
        CheckpointError: There is no such model.
        OutputError: The set must not be written there.
    """
    for place in places:
        check_exists(place)
    check_place(output, places)
    # those of a cluster's machines are not known here
    if run_settings.address is None:
        check_device(settings.device)
    read_model_file(resolve_model(settings.model), INDEX)
    # a finished set is only verified
    if run_settings.address is not None and not (output.expanduser() / MANIFEST).is_file():
        check_cluster(run_settings.address)
