"""Download the files of a repository on the model hub: resumable, and verified before they get their names."""

from __future__ import annotations

import fnmatch
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from fantasytalking.errors import CheckpointError, FantasyTalkingError, OutputError
from fantasytalking.system.digests import file_sha256

__all__ = ["Hub", "RemoteFile", "Repository", "check_space"]


@dataclass(frozen=True)
class Repository:
    """A repository on the hub, and the files that are needed from it.

    Attributes:
        name: Name on the hub, as owner/name.
        folder: Name of its folder below the target.
        licence: Licence under which its publisher releases it.
        patterns: Patterns of the files to download, as repositories also hold images and the same weights in other
            formats. Of alternatives, written ``a|b``, the first that exists is taken.
        revision: Commit to download; None takes the newest.
    """

    name: str
    folder: str
    licence: str
    patterns: tuple[str, ...]
    revision: str | None = None


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, and the local path that it is downloaded to.

    Attributes:
        repository: The repository that holds it.
        commit: Commit of the repository, so that all its files belong together.
        name: Path in the repository.
        path: Local path of the complete file.
        size: Size in bytes.
        sha256: SHA-256 of its content, or None where the hub does not list it (small files).
    """

    repository: Repository
    commit: str
    name: str
    path: Path
    size: int
    sha256: str | None

    @property
    def is_complete(self) -> bool:
        """Whether it is already downloaded; a file gets its name only once it is complete."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    @property
    def part(self) -> Path:
        """Path of the partial download."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def missing(self) -> int:
        """Number of bytes still to download."""
        if self.is_complete:
            return 0
        return self.size - (min(self.size, self.part.stat().st_size) if self.part.is_file() else 0)


@dataclass(frozen=True)
class Hub:
    """The model hub, or a mirror of it.

    Attributes:
        target: Local folder; each repository gets a folder of its own in it.
        endpoint: Address of a mirror; None takes the environment variable HF_ENDPOINT, or else the hub itself.
        mirror_setting: Option or variable with which users name a mirror, for messages.
    """

    target: Path
    endpoint: str | None = None
    mirror_setting: str = "--endpoint"

    def plan(self, repository: Repository) -> list[RemoteFile]:
        """List the files that are needed from a repository.

        Raises:
            CheckpointError: The hub cannot be reached, or the repository or a needed file no longer exists.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(endpoint=self.endpoint)
        try:
            commit = api.model_info(repository.name, revision=repository.revision).sha or repository.revision or "main"
            entries = list(api.list_repo_tree(repository.name, recursive=True, revision=commit))
        except Exception as error:
            raise self._explain(error, repository) from error
        listed = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
        names: set[str] = set()
        for pattern in repository.patterns:
            matches = (fnmatch.filter(listed, choice) for choice in pattern.split("|"))
            found = next((match for match in matches if match), [])
            if not found and not pattern.startswith("LICENSE"):
                raise CheckpointError(
                    f"The repository {repository.name} no longer has {pattern}; "
                    "download the weights by hand and give their paths."
                )
            names.update(found)
        folder = self.target / repository.folder
        return [
            RemoteFile(repository, commit, name, folder / name, entry.size, entry.lfs.sha256 if entry.lfs else None)
            for name in sorted(names)
            for entry in (listed[name],)
        ]

    def fetch(self, file: RemoteFile) -> None:
        """Download one file, resuming an earlier attempt; a complete file is left alone.

        `snapshot_download` is not used because, since version 2, the hub's client downloads an unfinished file from
        the beginning, and files here are up to 11 GB.

        Raises:
            CheckpointError: The hub cannot be reached, or sent another file than it lists.
            OutputError: The folder cannot be written.
        """
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        if file.is_complete:
            return
        url = hf_hub_url(file.repository.name, file.name, revision=file.commit, endpoint=self.endpoint)
        try:
            file.part.parent.mkdir(parents=True, exist_ok=True)
            with file.part.open("ab") as stream:
                if stream.tell() > file.size:
                    stream.truncate(0)
                http_get(
                    url,
                    stream,
                    resume_size=stream.tell(),
                    headers=build_hf_headers(),
                    expected_size=file.size,
                    displayed_filename=file.name,
                )
            _verify(file)
            os.replace(file.part, file.path)
        except FantasyTalkingError:
            raise
        except Exception as error:
            raise self._explain(error, file.repository) from error

    def _explain(self, error: Exception, repository: Repository) -> FantasyTalkingError:
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

        what = f"{repository.name} cannot be downloaded"
        again = "then run the same command again to resume"
        if isinstance(error, GatedRepoError):
            return CheckpointError(
                f"{what}: its publisher asks for consent; accept the terms on the hub, log in with 'hf auth login', {again}."
            )
        if isinstance(error, RepositoryNotFoundError):
            return CheckpointError(f"{what}: the hub has no such repository; check {self.mirror_setting}, {again}.")
        if isinstance(error, HfHubHTTPError):
            status = getattr(error.response, "status_code", "unknown")
            return CheckpointError(f"{what}: the hub answered with status {status}; wait a little, {again}.")
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            return OutputError(
                f"{self.target} cannot be written ({error.strerror}); choose a writable folder with enough space."
            )
        hub = self.endpoint or "the hub"
        return CheckpointError(
            f"{what}: {hub} cannot be reached; check the connection (or give a mirror with {self.mirror_setting}), {again}."
        )


def check_space(target: Path, needed: int, otherwise: str) -> None:
    """Check that a disk has room for files that are about to be written.

    Args:
        target: Folder of the files, which need not exist yet.
        needed: Size of the files in bytes.
        otherwise: Advice to the user, the end of the error's sentence.

    Raises:
        OutputError: The disk has too little free space.
    """
    folder = next(folder for folder in (target.absolute(), *target.absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(f"{target} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed; {otherwise}.")


def _verify(file: RemoteFile) -> None:
    size = file.part.stat().st_size
    digest = file.sha256
    if size == file.size and file.sha256 is not None:
        digest = file_sha256(file.part)
    if size != file.size or digest != file.sha256:
        file.part.unlink()
        raise CheckpointError(
            f"{file.name} from {file.repository.name} differs from the hub's listing in size or SHA-256; "
            "run the same command again."
        )
