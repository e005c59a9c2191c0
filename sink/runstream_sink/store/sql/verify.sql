-- What `runstream verify` asks.  Most return a row for each thing that is wrong.

-- name: verify_integrity
PRAGMA integrity_check

-- name: verify_sizes
SELECT
  (SELECT coalesce(sum(size), 0) FROM artifacts),
  (SELECT coalesce(sum(length), 0) FROM parts),
  (SELECT count(*) FROM artifacts),
  (SELECT count(*) FROM parts)

-- name: verify_references
-- Rows that name a run, key, producer, experiment or table without a row: by table and column, how many such and one.
SELECT 'params', 'run', count(*), min(x) FROM (SELECT DISTINCT run AS x FROM params) WHERE x NOT IN (SELECT id FROM runs)
UNION ALL
SELECT 'params', 'key', count(*), min(x) FROM (SELECT DISTINCT key AS x FROM params) WHERE x NOT IN (SELECT id FROM keys)
UNION ALL
SELECT 'tags', 'run', count(*), min(x) FROM (SELECT DISTINCT run AS x FROM tags) WHERE x NOT IN (SELECT id FROM runs)
UNION ALL
SELECT 'tags', 'key', count(*), min(x) FROM (SELECT DISTINCT key AS x FROM tags) WHERE x NOT IN (SELECT id FROM keys)
UNION ALL
SELECT 'metrics', 'run', count(*), min(x) FROM (SELECT DISTINCT run AS x FROM metrics)
WHERE x NOT IN (SELECT id FROM runs)
UNION ALL
SELECT 'metrics', 'key', count(*), min(x) FROM (SELECT DISTINCT key AS x FROM metrics)
WHERE x NOT IN (SELECT id FROM keys)
UNION ALL
SELECT 'metrics', 'producer', count(*), min(x) FROM (SELECT DISTINCT producer AS x FROM metrics)
WHERE x NOT IN (SELECT id FROM producers)
UNION ALL
SELECT 'latest_metrics', 'run', count(*), min(x) FROM (SELECT DISTINCT run AS x FROM latest_metrics)
WHERE x NOT IN (SELECT id FROM runs)
UNION ALL
SELECT 'latest_metrics', 'key', count(*), min(x) FROM (SELECT DISTINCT key AS x FROM latest_metrics)
WHERE x NOT IN (SELECT id FROM keys)
UNION ALL
SELECT 'artifacts', 'run', count(*), min(x) FROM (SELECT DISTINCT run AS x FROM artifacts)
WHERE x NOT IN (SELECT id FROM runs)
UNION ALL
SELECT 'tables', 'run', count(*), min(x) FROM (SELECT DISTINCT run AS x FROM tables) WHERE x NOT IN (SELECT id FROM runs)
UNION ALL
SELECT 'table_columns', 'tbl', count(*), min(x) FROM (SELECT DISTINCT tbl AS x FROM table_columns)
WHERE x NOT IN (SELECT id FROM tables)
UNION ALL
SELECT 'parts', 'tbl', count(*), min(x) FROM (SELECT DISTINCT tbl AS x FROM parts) WHERE x NOT IN (SELECT id FROM tables)
UNION ALL
SELECT 'runs', 'experiment_id', count(*), min(x) FROM (SELECT DISTINCT experiment_id AS x FROM runs)
WHERE x IS NOT NULL AND x NOT IN (SELECT id FROM experiments)
UNION ALL
SELECT 'experiment_tags', 'experiment', count(*), min(x) FROM (SELECT DISTINCT experiment AS x FROM experiment_tags)
WHERE x NOT IN (SELECT id FROM experiments)
UNION ALL
SELECT 'experiment_tags', 'key', count(*), min(x) FROM (SELECT DISTINCT key AS x FROM experiment_tags)
WHERE x NOT IN (SELECT id FROM keys)
UNION ALL
SELECT 'seen', 'producer', count(*), min(x) FROM (SELECT DISTINCT producer AS x FROM seen)
WHERE x NOT IN (SELECT id FROM producers)
UNION ALL
SELECT 'losses', 'producer', count(*), min(x) FROM (SELECT DISTINCT producer AS x FROM losses)
WHERE x NOT IN (SELECT id FROM producers)
UNION ALL
SELECT 'holes', 'producer', count(*), min(x) FROM (SELECT DISTINCT producer AS x FROM holes)
WHERE x NOT IN (SELECT id FROM producers)
UNION ALL
SELECT 'dead_letters', 'producer', count(*), min(x) FROM (SELECT DISTINCT producer AS x FROM dead_letters)
WHERE x NOT IN (SELECT id FROM producers)

-- name: verify_orders
-- The order (see changes.py) of every fact that events compete for: whose event it was.
SELECT 'run start', start_ord FROM runs WHERE start_ord IS NOT NULL
UNION ALL SELECT 'run name', name_ord FROM runs WHERE name_ord IS NOT NULL
UNION ALL SELECT 'run status', status_ord FROM runs WHERE status_ord IS NOT NULL
UNION ALL SELECT 'run lifecycle', lifecycle_ord FROM runs WHERE lifecycle_ord IS NOT NULL
UNION ALL SELECT 'param', ord FROM params
UNION ALL SELECT 'tag', ord FROM tags
UNION ALL SELECT 'artifact', ord FROM artifacts
UNION ALL SELECT 'experiment', created_ord FROM experiments WHERE created_ord IS NOT NULL
UNION ALL SELECT 'experiment name', renamed_ord FROM experiments WHERE renamed_ord IS NOT NULL
UNION ALL SELECT 'experiment lifecycle', lifecycle_ord FROM experiments WHERE lifecycle_ord IS NOT NULL
UNION ALL SELECT 'experiment tag', ord FROM experiment_tags

-- name: verify_metric_events
-- Events whose points are not numbered 0, 1, 2 ...: their points, and how many their greatest number speaks of.
SELECT lower(hex(p.producer_id)), e.seq, e.points, e.numbered
FROM (
  SELECT producer, seq, count(*) AS points, max(idx) + 1 AS numbered
  FROM metrics
  GROUP BY producer, seq
  HAVING count(*) <> max(idx) + 1 OR min(idx) <> 0 OR sum(idx) * 2 <> count(*) * (count(*) - 1)
) AS e
JOIN producers AS p ON p.id = e.producer

-- name: verify_metrics_seen
-- By producer: points of events that were never seen, and the first of them.
SELECT lower(hex(p.producer_id)), count(*), min(m.seq)
FROM metrics AS m JOIN producers AS p ON p.id = m.producer
WHERE coalesce(
  (SELECT s.last FROM seen AS s WHERE s.producer = m.producer AND s.first <= m.seq ORDER BY s.first DESC LIMIT 1), -1
) < m.seq
GROUP BY m.producer

-- name: verify_latest
-- Each latest metric beside the points that come last by step and timestamp; in the order of the latest metrics.
SELECT
  l.run, l.key, r.run_id, k.name, l.step, l.timestamp, l.value, l.bits, l.identity,
  m.step, m.timestamp, m.value, m.bits, p.producer_id, m.seq, m.idx
FROM latest_metrics AS l
JOIN runs AS r ON r.id = l.run
JOIN keys AS k ON k.id = l.key
LEFT JOIN metrics AS m
  ON m.run = l.run AND m.key = l.key
  AND m.step = (SELECT max(n.step) FROM metrics AS n WHERE n.run = l.run AND n.key = l.key)
  AND m.timestamp = (
    SELECT n.timestamp FROM metrics AS n WHERE n.run = l.run AND n.key = l.key ORDER BY n.step DESC, n.timestamp DESC LIMIT 1
  )
LEFT JOIN producers AS p ON p.id = m.producer
ORDER BY l.run, l.key

-- name: verify_without_latest
SELECT r.run_id, k.name
FROM (SELECT DISTINCT run, key FROM metrics) AS m
JOIN runs AS r ON r.id = m.run
JOIN keys AS k ON k.id = m.key
LEFT JOIN latest_metrics AS l ON l.run = m.run AND l.key = m.key
WHERE l.run IS NULL

-- name: verify_tables
-- Tables whose parts do not add up: rows said and found, the number of parts said, the greatest number, open parts.
SELECT r.run_id, t.name, t.rows, coalesce(sum(p.rows), 0), t.parts, coalesce(max(p.number), 0), coalesce(sum(NOT p.closed), 0)
FROM tables AS t JOIN runs AS r ON r.id = t.run LEFT JOIN parts AS p ON p.tbl = t.id
GROUP BY t.id
HAVING t.rows <> coalesce(sum(p.rows), 0) OR t.parts < coalesce(max(p.number), 0) OR coalesce(sum(NOT p.closed), 0) > 1

-- name: verify_parts
-- Parts with their tables, each table's parts ascending.
SELECT r.run_id, t.name, p.number, p.file, p.columns, p.types, p.length, p.rows, p.closed
FROM parts AS p CROSS JOIN tables AS t ON t.id = p.tbl CROSS JOIN runs AS r ON r.id = t.run
ORDER BY p.tbl, p.number

-- name: verify_part_columns
SELECT p.file, c.value
FROM parts AS p CROSS JOIN json_each(p.columns) AS c
WHERE (p.tbl, c.value) NOT IN (SELECT tbl, name FROM table_columns)

-- name: verify_shared_files
SELECT r.run_id || '/' || a.file
FROM artifacts AS a JOIN runs AS r ON r.id = a.run
GROUP BY a.run, a.file HAVING count(*) > 1
UNION ALL
SELECT p.file FROM artifacts AS a JOIN runs AS r ON r.id = a.run JOIN parts AS p ON p.file = r.run_id || '/' || a.file

-- name: verify_incidents
-- Holes and dead letters, by the events whose place they take.
SELECT 'hole', p.producer_id, h.first, h.last, h.reason, NULL
FROM holes AS h JOIN producers AS p ON p.id = h.producer
UNION ALL
SELECT 'dead letter', p.producer_id, d.seq, d.seq, d.reason, d.retried
FROM dead_letters AS d JOIN producers AS p ON p.id = d.producer

-- name: verify_dead_letters_of
-- Of the wanted [producer_id, seq], those that are dead letters.
SELECT p.producer_id, d.seq
FROM json_each(:wanted) AS wanted
CROSS JOIN producers AS p ON p.producer_id = from_hex(json_extract(wanted.value, '$[0]'))
CROSS JOIN dead_letters AS d ON d.producer = p.id AND d.seq = json_extract(wanted.value, '$[1]')

-- name: verify_runs_of
SELECT
  r.run_id, r.start_ord, CAST(r.experiment_id AS TEXT), r.name_ord, r.name, r.status_ord, r.status,
  r.lifecycle_ord, r.lifecycle
FROM json_each(:wanted) AS wanted CROSS JOIN runs AS r ON r.run_id = wanted.value

-- name: verify_params_of
SELECT r.run_id, k.name, p.ord, p.value
FROM json_each(:wanted) AS wanted
CROSS JOIN runs AS r ON r.run_id = json_extract(wanted.value, '$[0]')
CROSS JOIN keys AS k ON k.name = json_extract(wanted.value, '$[1]')
CROSS JOIN params AS p ON p.run = r.id AND p.key = k.id

-- name: verify_tags_of
SELECT r.run_id, k.name, t.ord, t.value
FROM json_each(:wanted) AS wanted
CROSS JOIN runs AS r ON r.run_id = json_extract(wanted.value, '$[0]')
CROSS JOIN keys AS k ON k.name = json_extract(wanted.value, '$[1]')
CROSS JOIN tags AS t ON t.run = r.id AND t.key = k.id

-- name: verify_artifacts_of
SELECT r.run_id, a.path, a.ord, lower(hex(a.sha256))
FROM json_each(:wanted) AS wanted
CROSS JOIN runs AS r ON r.run_id = json_extract(wanted.value, '$[0]')
CROSS JOIN artifacts AS a ON a.run = r.id AND a.path = json_extract(wanted.value, '$[1]')

-- name: verify_experiments_of
SELECT
  CAST(e.id AS TEXT), e.created_ord, e.created_name, e.renamed_ord, e.renamed, e.lifecycle_ord, e.lifecycle
FROM json_each(:wanted) AS wanted CROSS JOIN experiments AS e ON e.id = CAST(wanted.value AS INTEGER)

-- name: verify_experiment_tags_of
SELECT CAST(t.experiment AS TEXT), k.name, t.ord, t.value
FROM json_each(:wanted) AS wanted
CROSS JOIN keys AS k ON k.name = json_extract(wanted.value, '$[1]')
CROSS JOIN experiment_tags AS t
  ON t.experiment = CAST(json_extract(wanted.value, '$[0]') AS INTEGER) AND t.key = k.id

-- name: verify_points_of
-- Points by [run_id, key, step, timestamp, producer_id, seq, index]: the place of each one that is there, and its value.
SELECT wanted.key, m.value, m.bits
FROM json_each(:wanted) AS wanted
CROSS JOIN runs AS r ON r.run_id = json_extract(wanted.value, '$[0]')
CROSS JOIN keys AS k ON k.name = json_extract(wanted.value, '$[1]')
CROSS JOIN producers AS p ON p.producer_id = from_hex(json_extract(wanted.value, '$[4]'))
CROSS JOIN metrics AS m
  ON m.run = r.id AND m.key = k.id
  AND m.step = json_extract(wanted.value, '$[2]') AND m.timestamp = json_extract(wanted.value, '$[3]')
  AND m.producer = p.id AND m.seq = json_extract(wanted.value, '$[5]') AND m.idx = json_extract(wanted.value, '$[6]')
