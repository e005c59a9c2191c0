-- name: logical_experiments
-- Placeholders for what runs name are left out: whether one stands there depends on the order of the commits.
SELECT CAST(id AS TEXT), name, creation_time, coalesce(lifecycle, 'active')
FROM experiments
WHERE id = 0 OR created_ord IS NOT NULL OR renamed_ord IS NOT NULL OR lifecycle_ord IS NOT NULL

-- name: logical_experiment_tags
SELECT CAST(t.experiment AS TEXT), k.name, t.value
FROM experiment_tags AS t CROSS JOIN keys AS k ON k.id = t.key
WHERE t.value IS NOT NULL

-- name: logical_runs
SELECT run_id, CAST(experiment_id AS TEXT), start_time, name, user, status, end_time, lifecycle FROM runs_now

-- name: logical_params
SELECT r.run_id, k.name, p.value
FROM params AS p CROSS JOIN runs AS r ON r.id = p.run CROSS JOIN keys AS k ON k.id = p.key

-- name: logical_tags
SELECT r.run_id, k.name, t.value
FROM tags AS t CROSS JOIN runs AS r ON r.id = t.run CROSS JOIN keys AS k ON k.id = t.key
WHERE t.value IS NOT NULL

-- name: logical_metrics
SELECT r.run_id, k.name, m.step, m.timestamp, m.value, m.bits, p.producer_id, m.seq, m.idx
FROM metrics AS m
CROSS JOIN runs AS r ON r.id = m.run CROSS JOIN keys AS k ON k.id = m.key CROSS JOIN producers AS p ON p.id = m.producer

-- name: logical_latest_metrics
SELECT r.run_id, k.name, m.step, m.timestamp, m.value, m.bits, m.identity
FROM latest_metrics AS m CROSS JOIN runs AS r ON r.id = m.run CROSS JOIN keys AS k ON k.id = m.key

-- name: logical_artifacts
SELECT r.run_id, a.path, lower(hex(a.sha256)), a.size, a.media_type, a.file
FROM artifacts AS a CROSS JOIN runs AS r ON r.id = a.run
