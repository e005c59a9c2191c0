"""The sink's store: where the state that follows from the events is kept, in transactions."""

from runstream_sink.store.protocol import Commit, FencedError, Store, StoreReader
from runstream_sink.store.sqlite import SqliteReader, SqliteStore, open_reader

__all__ = ["Commit", "FencedError", "SqliteReader", "SqliteStore", "Store", "StoreReader", "open_reader"]
