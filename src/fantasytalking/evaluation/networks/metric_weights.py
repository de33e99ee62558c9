"""Weights of the standard metrics: contents, sources, and the verified copy on this machine.

Nothing is downloaded unless `fetch` is called, and then only what it was given; names, sizes and licences are printed first. Files are
kept in `cache_folder`; files put there by hand under the same names are used as well, if their SHA-256 is the listed one.

    fantasytalking weights inception syncnet

Environment variables: FANTASYTALKING_CACHE (folder of the cache), FANTASYTALKING_WEIGHTS_MIRROR (a folder or base URL with the files
under their names), HF_ENDPOINT (a mirror of the model hub).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.system.digests import verified_digest
from fantasytalking.system.downloads import transfer
from fantasytalking.system.files import atomic_folder
from fantasytalking.system.hub import Hub, RemoteFile, Repository, check_space
from fantasytalking.system.records import nearest_name

__all__ = ["WEIGHTS", "HubRepository", "WeightFile", "cache_folder", "describe", "digest", "fetch", "locate", "require"]

MIRROR = "FANTASYTALKING_WEIGHTS_MIRROR"
FETCH_COMMAND = "fantasytalking weights"


@dataclass(frozen=True)
class WeightFile:
    """One file of weights.

    Attributes:
        key: Name of the weights in this project.
        filename: Name of the file in the cache.
        url: Address of the published file.
        size: Size in bytes, or None where it is not known.
        sha256: SHA-256 of the file: 64 digits, or the first 8 where only they are known, or None (then the first copy is pinned).
        licence: Licence of the weights, as far as their publishers state one.
        source: Address of a page about it.
        needed_by: Metrics that read it.
    """

    key: str
    filename: str
    url: str
    size: int | None
    sha256: str | None
    licence: str
    source: str
    needed_by: str


@dataclass(frozen=True)
class HubRepository:
    """Weights in the form of a repository of the model hub, read by transformers from a folder.

    Attributes:
        key: Name of the weights in this project.
        name: owner/name on the hub.
        revision: A commit; None takes the newest one and pins the content of the first copy.
        patterns: Files that are needed; of ``a|b`` the first that exists.
        licence: Licence of the weights.
        needed_by: Metrics that read them.
    """

    key: str
    name: str
    revision: str | None
    patterns: tuple[str, ...]
    licence: str
    needed_by: str

    @property
    def filename(self) -> str:
        """Name of its folder in the cache."""
        return self.name.split("/")[-1]

    @property
    def source(self) -> str:
        """Address of its page."""
        return f"https://huggingface.co/{self.name}"

    @property
    def repository(self) -> Repository:
        """The repository in the form that `system.hub` takes."""
        return Repository(self.name, self.filename, self.licence, self.patterns, self.revision)


Entry = WeightFile | HubRepository
_MODEL = "model.safetensors|pytorch_model.bin"
_ENTRIES: tuple[Entry, ...] = (
    WeightFile(
        "inception",
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        95_628_359,
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "Apache-2.0",
        "https://github.com/mseitzer/pytorch-fid",
        "FID",
    ),
    WeightFile(
        "i3d",
        "i3d_torchscript.pt",
        "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
        51_235_320,
        "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        "Apache-2.0 for DeepMind's Kinetics-400 network; the conversion names none",
        "https://github.com/universome/stylegan-v",
        "FVD",
    ),
    WeightFile(
        "syncnet",
        "syncnet_v2.model",
        "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
        54_573_114,
        "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
        "MIT for the code; the weights name none",
        "https://github.com/joonson/syncnet_python",
        "Sync-C, Sync-D",
    ),
    WeightFile(
        "raft",
        "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
        "https://download.pytorch.org/models/raft_large_C_T_SKHT_V2-ff5fadd5.pth",
        21_106_607,
        "ff5fadd56d26b40647388883af1547351ea17868b765c05b27231e72dd16a322",
        "BSD-3-Clause; trained on sets for research (Sintel, KITTI, HD1K)",
        "https://docs.pytorch.org/vision/stable/models/raft.html",
        "SD, BD",
    ),
    WeightFile(
        "aesthetic",
        "sa_0_4_vit_l_14_linear.pth",
        "https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
        4_071,
        "2cd4e60f4f24ae3bcd57b847b13c1f3ba27edc28cc1a7f9ce74ee9f421243cba",
        "MIT",
        "https://github.com/LAION-AI/aesthetic-predictor",
        "Aesthetic",
    ),
    WeightFile(
        "aesthetic-improved",
        "sac+logos+ava1-l14-linearMSE.pth",
        "https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/sac%2Blogos%2Bava1-l14-linearMSE.pth",
        3_714_759,
        "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
        "Apache-2.0 by its repository's page",
        "https://github.com/christophschuhmann/improved-aesthetic-predictor",
        "Aesthetic, variant 'improved'",
    ),
    WeightFile(
        "deep3d",
        "epoch_20.pth",
        "https://github.com/OpenTalker/SadTalker/releases/download/v0.0.2/epoch_20.pth",
        288_860_037,
        "6d17a6b23457b521801baae583cb6a58f7238fe6721fc3d65d76407460e9149b",
        "MIT for the code; made with the Basel Face Model, which is for research only",
        "https://github.com/sicxu/Deep3DFaceRecon_pytorch",
        "ES, E-FID",
    ),
    HubRepository(
        "dino",
        "facebook/dino-vitb16",
        "f205d5d8e640a89a2b8ef0369670dfc37cc07fc2",
        ("config.json", _MODEL),
        "Apache-2.0",
        "IDC",
    ),
    HubRepository(
        "sam",
        "facebook/sam-vit-base",
        "70c1a07f894ebb5b307fd9eaaee97b9dfc16068f",
        ("config.json", _MODEL),
        "Apache-2.0",
        "SD, BD",
    ),
    HubRepository(
        "clip",
        "openai/clip-vit-large-patch14",
        "32bd64288804d66eefd0ccbe215aa642df71cc41",
        ("config.json", _MODEL),
        "MIT",
        "Aesthetic",
    ),
    HubRepository(
        "qalign",
        "q-future/one-align",
        None,
        ("*.json", "tokenizer.model", "*.safetensors|pytorch_model*.bin"),
        "MIT by its page; its base is Llama 2 (Llama 2 licence), and the package pyiqa that runs it is PolyForm-Noncommercial",
        "IQA, ASE",
    ),
)
WEIGHTS: dict[str, Entry] = {entry.key: entry for entry in _ENTRIES}


def cache_folder() -> Path:
    """Folder of the weights: FANTASYTALKING_CACHE, or `~/.cache/fantasytalking/metrics`."""
    named = os.environ.get("FANTASYTALKING_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "fantasytalking" / "metrics"


def locate(key: str) -> Path | None:
    """Find the verified file or folder of weights; None where it is not in the cache.

    It is hashed once; a stamp beside it tells from size and time that it has not changed since.

    Raises:
        SettingsError: No weights have that name.
        CheckpointError: The content differs from the listed one, or from the copy first used.
    """
    entry, path = _entry(key), cache_folder() / _entry(key).filename
    if not _is_complete(entry, path):
        return None
    verified_digest(path, entry.sha256 if isinstance(entry, WeightFile) else None)
    return path


def require(key: str) -> Path:
    """Find weights as `locate` does, where missing ones are an error.

    Raises:
        SettingsError: No weights have that name.
        CheckpointError: They are not in the cache, or their content differs from the listed one.
    """
    if (path := locate(key)) is None:
        entry = _entry(key)
        raise CheckpointError(
            f"The weights '{key}' ({entry.needed_by}) are not in {cache_folder()}; fetch them with `{FETCH_COMMAND} {key}` "
            f"(licence: {entry.licence}), or leave those metrics out."
        )
    return path


def digest(key: str) -> str:
    """SHA-256 of weights, for the report; for a folder, that of the list of its files' digests.

    Raises:
        SettingsError: No weights have that name.
        CheckpointError: They are not in the cache, or their content differs from the listed one.
    """
    entry = _entry(key)
    return verified_digest(require(key), entry.sha256 if isinstance(entry, WeightFile) else None)


def fetch(keys: Iterable[str], say: Callable[[str], None] = print) -> dict[str, Path]:
    """Download weights that are not in the cache yet, after announcing them.

    An interrupted download continues where it stopped when this is called again.

    Args:
        keys: Keys of `WEIGHTS`; nothing else is downloaded.
        say: Called with name, size, licence and source of each before the first byte.

    Returns:
        Key -> path.

    Raises:
        SettingsError: No weights have that name.
        CheckpointError: A source cannot be reached, or its content differs from the listed one.
        OutputError: The cache cannot be written or is too small.
    """
    entries = [_entry(key) for key in dict.fromkeys(keys)]
    wanted = [entry for entry in entries if locate(entry.key) is None]
    mirror = os.environ.get(MIRROR)
    hub = Hub(cache_folder(), os.environ.get("HF_ENDPOINT"), "the variable HF_ENDPOINT")
    plans: dict[str, list[RemoteFile]] = {}
    for entry in wanted:
        if isinstance(entry, HubRepository) and not _is_folder(mirror):
            plans[entry.key] = hub.plan(entry.repository)
    for entry in wanted:
        say(_line(entry, plans.get(entry.key)))
    sizes = [sum(f.missing for f in plans[e.key]) if e.key in plans else _size(e) for e in wanted]
    check_space(cache_folder(), sum(sizes), "give a larger disk with FANTASYTALKING_CACHE")
    for entry in wanted:
        if isinstance(entry, WeightFile):
            source = f"{mirror.rstrip('/')}/{entry.filename}" if mirror else entry.url
            transfer(source, cache_folder() / entry.filename, entry.size, entry.sha256)
        elif entry.key in plans:
            for file in plans[entry.key]:
                hub.fetch(file)
        else:
            _copy_folder(Path(str(mirror)) / entry.filename, cache_folder() / entry.filename)
    return {entry.key: require(entry.key) for entry in entries}


def describe(key: str) -> str:
    """Describe weights in a line: name, size where it is known, licence and source.

    Raises:
        SettingsError: No weights have that name.
    """
    return _line(_entry(key), None)


def _entry(key: str) -> Entry:
    if key not in WEIGHTS:
        raise SettingsError(f"There are no weights '{key}'; {nearest_name(key, WEIGHTS, 'weights')}")
    return WEIGHTS[key]


def _is_folder(mirror: str | None) -> bool:
    return mirror is not None and "://" not in mirror


def _is_complete(entry: Entry, path: Path) -> bool:
    if isinstance(entry, WeightFile):
        return path.is_file()
    if not path.is_dir() or any(path.rglob("*.part")):
        return False
    return all(any(any(path.glob(choice)) for choice in pattern.split("|")) for pattern in entry.patterns)


def _copy_folder(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise CheckpointError(f"{MIRROR} has no folder {source.name}; put the repository's files there.")
    with atomic_folder(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)


def _size(entry: Entry) -> int:
    return (entry.size or 0) if isinstance(entry, WeightFile) else 0


def _line(entry: Entry, plan: list[RemoteFile] | None) -> str:
    size = sum(file.size for file in plan) if plan is not None else _size(entry)
    amount = f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,} bytes" if size else "size unknown"
    return (
        f"{entry.key}: {entry.filename}, {amount}, licence: {entry.licence}, from {entry.source}, for {entry.needed_by}"
    )
