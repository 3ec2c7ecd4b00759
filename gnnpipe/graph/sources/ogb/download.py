"""Downloading OGB's zip files with torch_geometric's helpers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gnnpipe.errors import DataError, shown
from gnnpipe.files.arrays import checked_zip
from gnnpipe.files.reading import open_file
from gnnpipe.files.writing import PART, PREFIX, make_folder, remove, rename
from gnnpipe.graph.sources.ogb.releases import Release

# Unpacked content and zip file together take about this many times the zip file, and stand side by side.
_ROOM = 3


def download(release: Release, root: Path) -> None:
    """Download and unpack a data set into ``root``, whole or not at all.

    Raises:
        DataError: there is no network or no room; the message names the address and the folder.
    """
    # an unfinished download must not be taken for a whole one: it lies aside until it is unpacked
    aside = root / f"{PREFIX}{os.urandom(8).hex()}{PART}"
    try:
        make_folder(root, link=True)
        _check_room(release, root)
        make_folder(aside)
        _fetch(release, aside)
        rename(aside / release.archive, root / release.archive)
    except Exception as error:  # the helpers fail in any way
        looked = ", ".join(f"'{shown(str(folder))}'" for folder in release.folders(root))
        raise DataError(
            f"root: {release.name} is not in {looked} (no folder raw), and can't be downloaded "
            f"({type(error).__name__}: {shown(str(error))}); download {release.url}, unpack it, and give "
            "--root the folder it is in"
        ) from None
    finally:
        if aside.exists():
            remove(aside)


def _fetch(release: Release, folder: Path) -> None:
    from torch_geometric.data import download_url, extract_zip

    path = Path(download_url(release.url, str(folder)))
    with open_file(path) as file, checked_zip(file, in_memory=False):
        pass
    extract_zip(str(path), str(folder), log=False)
    if not (folder / release.archive / "raw").is_dir():
        raise OSError(f"the zip file holds no folder {release.archive}/raw")


def _check_room(release: Release, root: Path) -> None:
    free, needed = shutil.disk_usage(root).free, _ROOM * release.gigabytes * 1e9
    if free < needed:
        raise OSError(f"about {needed / 1e9:.1f} GB are needed there, and {free / 1e9:.1f} are free")
