-- name: find_position
SELECT position FROM positions WHERE stream = ? AND part = ?

-- name: put_position
INSERT INTO positions (stream, part, position) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET position = excluded.position

-- name: find_positions
SELECT part, position FROM positions WHERE stream = ?

-- name: find_seen
SELECT p.producer_id, s.first, s.last
FROM json_each(?) AS wanted
CROSS JOIN producers AS p ON p.producer_id = from_hex(wanted.value)
CROSS JOIN seen AS s ON s.producer = p.id

-- name: delete_seen
DELETE FROM seen WHERE producer = ? AND first = ?

-- name: put_seen
INSERT INTO seen (producer, first, last) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET last = excluded.last

-- name: insert_experiment
INSERT INTO experiments (id) VALUES (?) ON CONFLICT DO NOTHING

-- name: create_experiment
UPDATE experiments SET created_name = ?2, creation_time = ?3, created_ord = ?4
WHERE id = ?1 AND (created_ord IS NULL OR created_ord > ?4)

-- name: rename_experiment
UPDATE experiments SET renamed = ?2, renamed_ord = ?3
WHERE id = ?1 AND (renamed_ord IS NULL OR renamed_ord < ?3)

-- name: move_experiment
UPDATE experiments SET lifecycle = ?2, lifecycle_ord = ?3
WHERE id = ?1 AND (lifecycle_ord IS NULL OR lifecycle_ord < ?3)

-- name: put_experiment_tag
INSERT INTO experiment_tags (experiment, key, value, ord) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET value = excluded.value, ord = excluded.ord WHERE excluded.ord > ord

-- name: insert_run
INSERT INTO runs (
  id, run_id, experiment_id, start_time, user, start_ord, name, name_ord, status, end_time, status_ord,
  lifecycle, lifecycle_ord
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: start_run
UPDATE runs SET experiment_id = ?2, start_time = ?3, user = ?4, start_ord = ?5
WHERE id = ?1 AND (start_ord IS NULL OR start_ord > ?5)

-- name: name_run
UPDATE runs SET name = ?2, name_ord = ?3 WHERE id = ?1 AND (name_ord IS NULL OR name_ord < ?3)

-- name: set_run_status
UPDATE runs SET status = ?2, end_time = ?3, status_ord = ?4
WHERE id = ?1 AND (status_ord IS NULL OR status_ord < ?4)

-- name: move_run
UPDATE runs SET lifecycle = ?2, lifecycle_ord = ?3
WHERE id = ?1 AND (lifecycle_ord IS NULL OR lifecycle_ord < ?3)

-- name: put_param
INSERT INTO params (run, key, value, ord) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET value = excluded.value, ord = excluded.ord WHERE excluded.ord < ord

-- name: put_tag
INSERT INTO tags (run, key, value, ord) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET value = excluded.value, ord = excluded.ord WHERE excluded.ord > ord

-- name: insert_metric
INSERT OR IGNORE INTO metrics (run, key, step, timestamp, producer, seq, idx, value, bits)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_alike_metrics
-- Points of one metric that have the same producer and idx, and values without bits.
INSERT OR IGNORE INTO metrics (run, key, producer, idx, step, timestamp, seq, value)
VALUES (?1, ?2, ?3, ?4, ?, ?, ?, ?)

-- name: put_latest_metric
-- NaN, which is NULL here unless bits says -0.0, is lower than every number.
INSERT INTO latest_metrics (run, key, step, timestamp, value, bits, identity, points) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
  step = excluded.step, timestamp = excluded.timestamp, value = excluded.value, bits = excluded.bits,
  identity = excluded.identity, points = excluded.points
WHERE (excluded.step, excluded.timestamp, excluded.value IS NOT NULL, coalesce(excluded.value, 0), excluded.identity)
  > (step, timestamp, value IS NOT NULL, coalesce(value, 0), identity)

-- name: put_artifact
INSERT INTO artifacts (run, path, sha256, size, media_type, file, ord) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
  sha256 = excluded.sha256, size = excluded.size, media_type = excluded.media_type, file = excluded.file,
  ord = excluded.ord
WHERE excluded.ord > ord

-- name: find_artifact_orders
SELECT r.run_id, a.path, a.ord
FROM json_each(?) AS wanted
CROSS JOIN runs AS r ON r.run_id = json_extract(wanted.value, '$[0]')
CROSS JOIN artifacts AS a ON a.run = r.id AND a.path = json_extract(wanted.value, '$[1]')

-- name: put_loss
INSERT INTO losses (producer, segment, reason, count) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET count = excluded.count WHERE excluded.count > count

-- name: put_hole
INSERT INTO holes (producer, first, last, reason) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING

-- name: put_dead_letter
INSERT INTO dead_letters (producer, seq, emit_ts, reason, detail, raw, at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
  emit_ts = excluded.emit_ts, reason = excluded.reason, detail = excluded.detail, raw = excluded.raw,
  at = excluded.at, retried = NULL

-- name: resolve_dead_letter
UPDATE dead_letters SET retried = ? WHERE producer = ? AND seq = ? AND reason = 'artifact_pending'

-- name: retry_dead_letter
UPDATE dead_letters SET retried = ? WHERE producer = ? AND seq = ?
