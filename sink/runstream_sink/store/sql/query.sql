-- Times are milliseconds since the epoch.  A parameter of NULL filters nothing.

-- name: experiments_page
-- With those that nobody created and a run names; their name is NULL.
SELECT CAST(e.id AS TEXT), e.name, e.creation_time, coalesce(e.lifecycle, 'active'),
  last_update(e.creation_time, e.renamed_ord, e.lifecycle_ord)
FROM experiments AS e
WHERE e.id > :after
  AND (:lifecycle IS NULL OR coalesce(e.lifecycle, 'active') = :lifecycle)
  AND (
    e.id = 0 OR e.created_ord IS NOT NULL OR e.renamed_ord IS NOT NULL OR e.lifecycle_ord IS NOT NULL
    OR EXISTS (SELECT 1 FROM runs AS r WHERE r.experiment_id = e.id)
    OR EXISTS (SELECT 1 FROM experiment_tags AS t WHERE t.experiment = e.id AND t.value IS NOT NULL)
  )
ORDER BY e.id
LIMIT :limit

-- name: experiment_by_id
SELECT CAST(id AS TEXT), name, creation_time, coalesce(lifecycle, 'active'),
  last_update(creation_time, renamed_ord, lifecycle_ord)
FROM experiments WHERE id = CAST(:experiment_id AS INTEGER)

-- name: experiments_by_name
SELECT CAST(id AS TEXT), name, creation_time, coalesce(lifecycle, 'active'),
  last_update(creation_time, renamed_ord, lifecycle_ord)
FROM experiments WHERE name = :name ORDER BY id

-- name: tags_of_experiments
-- experiments: a JSON array of ids as text.
SELECT CAST(t.experiment AS TEXT), k.name, t.value
FROM json_each(:experiments) AS wanted
CROSS JOIN experiment_tags AS t ON t.experiment = CAST(wanted.value AS INTEGER)
CROSS JOIN keys AS k ON k.id = t.key
WHERE t.value IS NOT NULL

-- name: runs_page
-- Newest start first; runs whose start has not come stand last.  The first two columns are the cursor.
SELECT sort_time, id, run_id, CAST(experiment_id AS TEXT), name, user, status, start_time, end_time, lifecycle
FROM runs_now
WHERE sort_time <= :time AND (sort_time < :time OR id < :id)
  AND (:status IS NULL OR status = :status) AND (:lifecycle IS NULL OR lifecycle = :lifecycle)
ORDER BY sort_time DESC, id DESC
LIMIT :limit

-- name: runs_page_of_experiment
SELECT sort_time, id, run_id, CAST(experiment_id AS TEXT), name, user, status, start_time, end_time, lifecycle
FROM runs_now
WHERE experiment_id = CAST(:experiment_id AS INTEGER) AND sort_time <= :time AND (sort_time < :time OR id < :id)
  AND (:status IS NULL OR status = :status) AND (:lifecycle IS NULL OR lifecycle = :lifecycle)
ORDER BY sort_time DESC, id DESC
LIMIT :limit

-- name: runs_by_id
-- runs: a JSON array of run ids.
SELECT sort_time, runs_now.id, run_id, CAST(experiment_id AS TEXT), name, user, status, start_time, end_time, lifecycle
FROM json_each(:runs) AS wanted CROSS JOIN runs_now ON run_id = wanted.value

-- name: params_of_runs
SELECT r.run_id, k.name, p.value
FROM json_each(:runs) AS wanted
CROSS JOIN runs AS r ON r.run_id = wanted.value
CROSS JOIN params AS p ON p.run = r.id
CROSS JOIN keys AS k ON k.id = p.key
ORDER BY k.name

-- name: tags_of_runs
SELECT r.run_id, k.name, t.value
FROM json_each(:runs) AS wanted
CROSS JOIN runs AS r ON r.run_id = wanted.value
CROSS JOIN tags AS t ON t.run = r.id
CROSS JOIN keys AS k ON k.id = t.key
WHERE t.value IS NOT NULL
ORDER BY k.name

-- name: latest_metrics_of_runs
SELECT r.run_id, k.name, m.value, m.bits, m.step, m.timestamp
FROM json_each(:runs) AS wanted
CROSS JOIN runs AS r ON r.run_id = wanted.value
CROSS JOIN latest_metrics AS m ON m.run = r.id
CROSS JOIN keys AS k ON k.id = m.key
ORDER BY k.name

-- name: metric_history
SELECT m.value, m.bits, m.step, m.timestamp
FROM runs AS r
CROSS JOIN keys AS k ON k.name = :key
CROSS JOIN metrics AS m ON m.run = r.id AND m.key = k.id
WHERE r.run_id = :run_id
ORDER BY m.step, m.timestamp, m.producer, m.seq, m.idx

-- name: artifacts_of_run
SELECT a.path, lower(hex(a.sha256)), a.size, a.media_type, a.file
FROM runs AS r JOIN artifacts AS a ON a.run = r.id
WHERE r.run_id = :run_id
ORDER BY a.path
