"""Is a store what it should be?  Every invariant, checked against the database, the files and, if asked, the stream.

What is checked, and the kinds of findings:

===============  =====================================================================================
the database     ``database`` (SQLite's own check), ``reference``, ``table_rows``, ``table_parts``,
                 ``table_column``, ``file_shared``
what was seen    ``seen_gap``, ``seen_overlap``, ``position``, ``hole``, ``unseen``
metric points    ``metric_twice``, ``metric_missing``, ``latest_metric``
artifacts        ``artifact_missing``, ``artifact_size``, ``artifact_hash``
CSV tables       ``part_missing``, ``part_short``, ``part_long``, ``part_unreadable``, ``part_rows``,
                 ``row_twice``, ``row_missing``
the stream       ``event_missing``, ``effect_missing``, ``effect_differs``
===============  =====================================================================================

A sink may write meanwhile: the database is read in one snapshot, and a part may then be longer than it says.  Events
that were dropped, never returned from their calls, or are dead letters, are known losses and no findings.  Memory is
bounded by a bit for each event that has rows, not by the rows.
"""

from runstream_sink.verify.report import Finding, Report
from runstream_sink.verify.run import verify

__all__ = ["Finding", "Report", "verify"]
