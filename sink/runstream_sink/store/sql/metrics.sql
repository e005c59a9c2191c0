-- name: find_metric_states
-- Of wanted [run, key] that have points: how many, and of the rollup, if there is one, scale and outermost buckets.
SELECT
  l.run, l.key, l.points,
  (SELECT u.scale FROM metric_rollups AS u WHERE u.run = l.run AND u.key = l.key LIMIT 1),
  (SELECT min(u.bucket) FROM metric_rollups AS u WHERE u.run = l.run AND u.key = l.key),
  (SELECT max(u.bucket) FROM metric_rollups AS u WHERE u.run = l.run AND u.key = l.key)
FROM json_each(?) AS wanted
CROSS JOIN latest_metrics AS l
  ON l.run = json_extract(wanted.value, '$[0]') AND l.key = json_extract(wanted.value, '$[1]')

-- name: find_point
SELECT 1 FROM metrics
WHERE run = ? AND key = ? AND step = ? AND timestamp = ? AND producer = ? AND seq = ? AND idx = ?

-- name: find_extent
SELECT
  (SELECT min(step) FROM metrics WHERE run = :run AND key = :key),
  (SELECT max(step) FROM metrics WHERE run = :run AND key = :key)

-- name: find_points
SELECT step, timestamp, value, bits FROM metrics WHERE run = ? AND key = ? ORDER BY step, timestamp

-- name: find_rollup
SELECT
  bucket, count, nans, min, max, first_step, first_timestamp, first_value, first_bits,
  last_step, last_timestamp, last_value, last_bits
FROM metric_rollups
WHERE run = ? AND key = ? AND bucket BETWEEN ? AND ?
ORDER BY bucket

-- name: put_rollup
INSERT OR REPLACE INTO metric_rollups (
  run, key, bucket, scale, count, nans, min, max, first_step, first_timestamp, first_value, first_bits,
  last_step, last_timestamp, last_value, last_bits
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: delete_rollup
DELETE FROM metric_rollups WHERE run = ? AND key = ?

-- name: delete_rollups
DELETE FROM metric_rollups

-- name: set_metric_points
UPDATE latest_metrics SET points = ?3 WHERE run = ?1 AND key = ?2 AND points <> ?3

-- name: all_metric_counts
SELECT run, key, points FROM latest_metrics

-- name: metrics_of_run
SELECT k.name, m.points, m.value, m.bits, m.step, m.timestamp
FROM runs AS r CROSS JOIN latest_metrics AS m ON m.run = r.id CROSS JOIN keys AS k ON k.id = m.key
WHERE r.run_id = :run_id
ORDER BY k.name

-- name: metric_page
-- By step, timestamp and identity, from behind the point whose these are; step is NULL for the beginning.
SELECT m.value, m.bits, m.step, m.timestamp, m.producer, m.seq, m.idx
FROM metrics AS m
WHERE m.run = (SELECT id FROM runs WHERE run_id = :run_id)
  AND m.key = (SELECT id FROM keys WHERE name = :key)
  AND (m.step, m.timestamp, m.producer, m.seq, m.idx) > (:step, :timestamp, :producer, :seq, :idx)
ORDER BY m.step, m.timestamp, m.producer, m.seq, m.idx
LIMIT :limit

-- name: metric_extents
-- Of the runs (a JSON array of run ids) that have the metric: points, lowest and highest step, scale of the rollup.
SELECT
  r.run_id, l.points,
  (SELECT min(m.step) FROM metrics AS m WHERE m.run = l.run AND m.key = l.key),
  (SELECT max(m.step) FROM metrics AS m WHERE m.run = l.run AND m.key = l.key),
  (SELECT u.scale FROM metric_rollups AS u WHERE u.run = l.run AND u.key = l.key LIMIT 1)
FROM json_each(:runs) AS wanted
CROSS JOIN runs AS r ON r.run_id = wanted.value
CROSS JOIN keys AS k ON k.name = :key
CROSS JOIN latest_metrics AS l ON l.run = r.id AND l.key = k.id

-- name: metric_points
-- The points of steps :first to :last, ascending.
SELECT m.step, m.timestamp, m.value, m.bits
FROM metrics AS m
WHERE m.run = (SELECT id FROM runs WHERE run_id = :run_id) AND m.key = (SELECT id FROM keys WHERE name = :key)
  AND m.step BETWEEN :first AND :last
ORDER BY m.step, m.timestamp

-- name: metric_rollup
-- The buckets :first to :last, ascending.
SELECT
  u.bucket, u.count, u.nans, u.min, u.max, u.first_step, u.first_timestamp, u.first_value, u.first_bits,
  u.last_step, u.last_timestamp, u.last_value, u.last_bits
FROM metric_rollups AS u
WHERE u.run = (SELECT id FROM runs WHERE run_id = :run_id) AND u.key = (SELECT id FROM keys WHERE name = :key)
  AND u.bucket BETWEEN :first AND :last
ORDER BY u.bucket

-- name: verify_metric_counts
-- Metrics whose latest point says another number of points than there are.
SELECT r.run_id, k.name, l.points, c.points
FROM latest_metrics AS l
JOIN (SELECT run, key, count(*) AS points FROM metrics GROUP BY run, key) AS c ON c.run = l.run AND c.key = l.key
JOIN runs AS r ON r.id = l.run
JOIN keys AS k ON k.id = l.key
WHERE c.points <> l.points

-- name: verify_rollups
-- Metrics that have a rollup or should: by how many points they have.
SELECT r.run_id, k.name, m.points, m.scales
FROM (
  SELECT l.run, l.key, l.points, (
    SELECT count(DISTINCT u.scale) FROM metric_rollups AS u WHERE u.run = l.run AND u.key = l.key
  ) AS scales
  FROM latest_metrics AS l
) AS m
JOIN runs AS r ON r.id = m.run
JOIN keys AS k ON k.id = m.key
WHERE m.points > :above OR m.scales > 0
