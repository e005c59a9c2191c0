-- Integers stand for run ids, keys, producers and tables in the rows that are many.  Columns named *_ord hold the
-- 32 bytes by which competing events are compared (see changes.py); NULL where no event has come.

PRAGMA application_id = 0x72737472;

CREATE TABLE meta (
  name TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE positions (
  stream TEXT NOT NULL,
  part TEXT NOT NULL,
  position TEXT NOT NULL,
  PRIMARY KEY (stream, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE producers (
  id INTEGER PRIMARY KEY,
  producer_id BLOB NOT NULL UNIQUE
) STRICT;

-- Disjoint, merged intervals, both ends included.
CREATE TABLE seen (
  producer INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  PRIMARY KEY (producer, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- The id is the experiment id itself.  A row without any *_ord is a placeholder for what a run named.
CREATE TABLE experiments (
  id INTEGER PRIMARY KEY,
  created_name TEXT,
  creation_time INTEGER,
  created_ord BLOB,
  renamed TEXT,
  renamed_ord BLOB,
  lifecycle TEXT,
  lifecycle_ord BLOB,
  name TEXT GENERATED ALWAYS AS (coalesce(renamed, created_name)) VIRTUAL
) STRICT;

CREATE INDEX experiments_by_name ON experiments (name);

INSERT INTO experiments (id, created_name) VALUES (0, 'Default');

-- A value of NULL is a tombstone, here and in tags.
CREATE TABLE experiment_tags (
  experiment INTEGER NOT NULL,
  key INTEGER NOT NULL,
  value TEXT,
  ord BLOB NOT NULL,
  PRIMARY KEY (experiment, key)
) STRICT, WITHOUT ROWID;

-- A run without a start_ord is a placeholder: its start has not come yet.
CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL UNIQUE,
  experiment_id INTEGER,
  start_time INTEGER,
  user TEXT,
  start_ord BLOB,
  name TEXT,
  name_ord BLOB,
  status TEXT,
  end_time INTEGER,
  status_ord BLOB,
  lifecycle TEXT,
  lifecycle_ord BLOB,
  sort_time INTEGER GENERATED ALWAYS AS (coalesce(start_time, -9223372036854775808)) VIRTUAL
) STRICT;

CREATE INDEX runs_by_time ON runs (sort_time, id);
CREATE INDEX runs_by_experiment ON runs (experiment_id, sort_time, id);

CREATE TABLE params (
  run INTEGER NOT NULL,
  key INTEGER NOT NULL,
  value TEXT NOT NULL,
  ord BLOB NOT NULL,
  PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE tags (
  run INTEGER NOT NULL,
  key INTEGER NOT NULL,
  value TEXT,
  ord BLOB NOT NULL,
  PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

-- SQLite has no NaN and keeps -0.0 as 0.0: for these, bits holds the double's 64 bits as an integer.
CREATE TABLE metrics (
  run INTEGER NOT NULL,
  key INTEGER NOT NULL,
  step INTEGER NOT NULL,
  timestamp INTEGER NOT NULL,
  value REAL,
  bits INTEGER,
  producer INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  idx INTEGER NOT NULL,
  PRIMARY KEY (run, key, step, timestamp, producer, seq, idx)
) STRICT, WITHOUT ROWID;

-- identity: producer_id, seq (8 bytes) and index (4 bytes), big-endian.
CREATE TABLE latest_metrics (
  run INTEGER NOT NULL,
  key INTEGER NOT NULL,
  step INTEGER NOT NULL,
  timestamp INTEGER NOT NULL,
  value REAL,
  bits INTEGER,
  identity BLOB NOT NULL,
  PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

-- sha256: 32 bytes.  file: where the bytes lie below the artifact directory of the run.
CREATE TABLE artifacts (
  run INTEGER NOT NULL,
  path TEXT NOT NULL,
  sha256 BLOB NOT NULL,
  size INTEGER NOT NULL,
  media_type TEXT,
  file TEXT NOT NULL,
  ord BLOB NOT NULL,
  PRIMARY KEY (run, path)
) STRICT, WITHOUT ROWID;

-- parts: how many parts there are, closed ones included.
CREATE TABLE tables (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  name TEXT NOT NULL,
  rows INTEGER NOT NULL,
  parts INTEGER NOT NULL,
  UNIQUE (run, name)
) STRICT;

-- In the order in which they were first seen.  type: a number of tables/types.py.
CREATE TABLE table_columns (
  tbl INTEGER NOT NULL,
  position INTEGER NOT NULL,
  name TEXT NOT NULL,
  type INTEGER NOT NULL,
  PRIMARY KEY (tbl, position)
) STRICT, WITHOUT ROWID;

-- columns: the names as a JSON array.  types: one byte a column.  length: committed bytes.
CREATE TABLE parts (
  tbl INTEGER NOT NULL,
  number INTEGER NOT NULL,
  file TEXT NOT NULL,
  columns TEXT NOT NULL,
  types BLOB NOT NULL,
  length INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  closed INTEGER NOT NULL,
  PRIMARY KEY (tbl, number)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX parts_by_file ON parts (file);

CREATE TABLE losses (
  producer INTEGER NOT NULL,
  segment INTEGER NOT NULL,
  reason TEXT NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (producer, segment, reason)
) STRICT, WITHOUT ROWID;

CREATE TABLE holes (
  producer INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (producer, first)
) STRICT, WITHOUT ROWID;

-- at, retried: milliseconds since the epoch.
CREATE TABLE dead_letters (
  id INTEGER PRIMARY KEY,
  producer INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  emit_ts INTEGER NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  raw BLOB NOT NULL,
  at INTEGER NOT NULL,
  retried INTEGER,
  UNIQUE (producer, seq)
) STRICT;

-- Runs with the lifecycle that holds now: the later of the run's own last event and of its experiment's.
CREATE VIEW runs_now AS
SELECT
  r.id, r.run_id, r.experiment_id, r.name, r.user, r.status, r.start_time, r.end_time, r.sort_time,
  CASE
    WHEN e.lifecycle_ord IS NOT NULL AND (r.lifecycle_ord IS NULL OR e.lifecycle_ord > r.lifecycle_ord)
      THEN e.lifecycle
    ELSE coalesce(r.lifecycle, 'active')
  END AS lifecycle
FROM runs AS r
LEFT JOIN experiments AS e ON e.id = r.experiment_id;
