-- name: runs_by_prefix
-- Run ids are hexadecimal, so that "g" stands behind all that begin with the prefix.
SELECT run_id FROM runs WHERE run_id >= :prefix AND run_id < :prefix || 'g' ORDER BY run_id LIMIT :limit
