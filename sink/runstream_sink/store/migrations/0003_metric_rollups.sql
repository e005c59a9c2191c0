-- Rollups of metrics with many points (see rollup.py), one row a bucket of 1 << scale steps; all rows of a metric have
-- the same scale.  min, max: over the values that are no NaN.  Rollups of points that are there already are made by
-- migrate.py.

ALTER TABLE latest_metrics ADD COLUMN points INTEGER NOT NULL DEFAULT 0;

UPDATE latest_metrics
SET points = (SELECT count(*) FROM metrics AS m WHERE m.run = latest_metrics.run AND m.key = latest_metrics.key);

CREATE TABLE metric_rollups (
  run INTEGER NOT NULL,
  key INTEGER NOT NULL,
  bucket INTEGER NOT NULL,
  scale INTEGER NOT NULL,
  count INTEGER NOT NULL,
  nans INTEGER NOT NULL,
  min REAL,
  max REAL,
  first_step INTEGER NOT NULL,
  first_timestamp INTEGER NOT NULL,
  first_value REAL,
  first_bits INTEGER,
  last_step INTEGER NOT NULL,
  last_timestamp INTEGER NOT NULL,
  last_value REAL,
  last_bits INTEGER,
  PRIMARY KEY (run, key, bucket)
) STRICT, WITHOUT ROWID;
