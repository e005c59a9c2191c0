-- name: find_runs
SELECT r.run_id, r.id FROM json_each(?) AS wanted CROSS JOIN runs AS r ON r.run_id = wanted.value

-- name: find_keys
SELECT k.name, k.id FROM json_each(?) AS wanted CROSS JOIN keys AS k ON k.name = wanted.value

-- name: find_producers
SELECT p.producer_id, p.id FROM json_each(?) AS wanted CROSS JOIN producers AS p ON p.producer_id = from_hex(wanted.value)

-- name: last_run
SELECT coalesce(max(id), 0) FROM runs

-- name: last_key
SELECT coalesce(max(id), 0) FROM keys

-- name: last_producer
SELECT coalesce(max(id), 0) FROM producers

-- name: last_table
SELECT coalesce(max(id), 0) FROM tables

-- name: insert_key
INSERT INTO keys (name, id) VALUES (?, ?)

-- name: insert_producer
INSERT INTO producers (producer_id, id) VALUES (?, ?)
