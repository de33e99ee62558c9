"""c2pa's library without the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import c2pa

__all__ = ["offline_context"]


def offline_context(anchors: str | None = None) -> c2pa.Context:
    """Settings for c2pa's readers and builders.

    A file can name the address of its manifest. By default c2pa asks there, so that the maker of a file chooses what the machine of its
    reader connects to, such as other services in its network.

    Args:
        anchors: Certificates whose signers are trusted, PEM.

    Raises:
        c2pa.C2paError: These cannot be read.
    """
    import c2pa

    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    if anchors is not None:
        settings["trust"] = {"user_anchors": anchors}
    return c2pa.Context(c2pa.Settings.from_dict(settings))
