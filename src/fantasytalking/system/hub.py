"""Downloads from the model hub: listed, resumed where an earlier attempt stopped, verified, given their names once complete."""

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
    """Files to fetch from one repository.

    Attributes:
        name: Name on the hub, owner/name.
        folder: Folder below the target that it is stored in.
        licence: Licence under which its publisher releases it.
        patterns: Glob patterns of the files that are needed; repositories also hold pictures and the same weights in other formats.
            Of ``a|b`` the first that matches a file is taken.
        revision: Commit or branch; None takes the newest commit.
    """

    name: str
    folder: str
    licence: str
    patterns: tuple[str, ...]
    revision: str | None = None


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, and its place on this machine.

    Attributes:
        repository: Repository that it comes from.
        commit: Commit of the repository, the same for all files, so that they belong together.
        name: Path in the repository.
        path: Path on this machine.
        size: Size in bytes.
        sha256: SHA-256 of its content; None for small files, of which the hub lists none.
    """

    repository: Repository
    commit: str
    name: str
    path: Path
    size: int
    sha256: str | None

    @property
    def is_there(self) -> bool:
        """Whether it was fetched before; a file gets its name only once it is complete."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    @property
    def part(self) -> Path:
        """Path of the unfinished download."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def missing(self) -> int:
        """Number of bytes still to fetch."""
        if self.is_there:
            return 0
        return self.size - (min(self.size, self.part.stat().st_size) if self.part.is_file() else 0)


@dataclass(frozen=True)
class Hub:
    """The hub or a mirror of it.

    Attributes:
        target: Folder in which each repository has a folder of its own.
        endpoint: URL of a mirror; None uses the hub, or the URL in the variable HF_ENDPOINT.
        mirror_by: How the user names a mirror, for messages.
    """

    target: Path
    endpoint: str | None = None
    mirror_by: str = "--endpoint"

    def plan(self, repository: Repository) -> list[RemoteFile]:
        """List the needed files of a repository, as the hub has them now.

        Raises:
            CheckpointError: The hub cannot be reached, or the repository or a needed file is gone.
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
                    "fetch the weights by hand and give their paths."
                )
            names.update(found)
        folder = self.target / repository.folder
        return [
            RemoteFile(repository, commit, name, folder / name, entry.size, entry.lfs.sha256 if entry.lfs else None)
            for name in sorted(names)
            for entry in (listed[name],)
        ]

    def fetch(self, file: RemoteFile) -> None:
        """Fetch one file, continuing where an earlier attempt stopped.

        Not by `snapshot_download`: since its version 2 the hub's client starts every unfinished file from its first
        byte, and the files here have up to 11 GB.

        Raises:
            CheckpointError: The hub cannot be reached, or gave another file than it lists.
            OutputError: The folder cannot be written.
        """
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        if file.is_there:
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

        what = f"{repository.name} cannot be fetched"
        again = "then give the same command again, what has arrived is kept"
        if isinstance(error, GatedRepoError):
            return CheckpointError(
                f"{what}: its publisher asks for consent; give it on the hub and log in with 'hf auth login', {again}."
            )
        if isinstance(error, RepositoryNotFoundError):
            return CheckpointError(f"{what}: the hub knows no such repository; check {self.mirror_by}, {again}.")
        if isinstance(error, HfHubHTTPError):
            status = getattr(error.response, "status_code", "unknown")
            return CheckpointError(f"{what}: the hub answered with status {status}; wait a little, {again}.")
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            return OutputError(
                f"{self.target} cannot be written ({error.strerror}); choose a writable folder with enough space."
            )
        hub = self.endpoint or "the hub"
        return CheckpointError(
            f"{what}: {hub} cannot be reached; check the connection (or give a mirror with {self.mirror_by}), {again}."
        )


def check_space(target: Path, needed: int, otherwise: str) -> None:
    """Check that a disk has room for a download.

    Args:
        target: Folder, which need not exist yet.
        needed: Size of the download in bytes.
        otherwise: What the user can do instead, for the message.

    Raises:
        OutputError: There is too little space.
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
            f"{file.name} did not arrive from {file.repository.name} as the hub lists it; give the same command again."
        )
