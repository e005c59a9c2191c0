"""Where artifacts are published: the protocol, and the local directory."""

from runstream_sink.artifacts.local import LocalArtifacts
from runstream_sink.artifacts.protocol import ArtifactStore, Publication

__all__ = ["ArtifactStore", "LocalArtifacts", "Publication"]
