-- name: find_tables
SELECT r.run_id, t.name, t.id, t.rows, t.parts
FROM json_each(?) AS wanted
CROSS JOIN runs AS r ON r.run_id = json_extract(wanted.value, '$[0]')
CROSS JOIN tables AS t ON t.run = r.id AND t.name = json_extract(wanted.value, '$[1]')

-- name: find_columns
SELECT c.tbl, c.name, c.type
FROM json_each(?) AS wanted CROSS JOIN table_columns AS c ON c.tbl = wanted.value
ORDER BY c.tbl, c.position

-- name: find_open_parts
SELECT p.tbl, p.number, p.file, p.columns, p.types, p.length, p.rows, p.closed
FROM json_each(?) AS wanted CROSS JOIN parts AS p ON p.tbl = wanted.value
WHERE NOT p.closed

-- name: find_part_length
SELECT length FROM parts WHERE file = ?

-- name: find_part_files
SELECT r.run_id, p.file
FROM json_each(?) AS wanted
CROSS JOIN runs AS r ON r.run_id = wanted.value
CROSS JOIN tables AS t ON t.run = r.id
CROSS JOIN parts AS p ON p.tbl = t.id

-- name: find_artifact_files
SELECT r.run_id, a.path, a.file
FROM json_each(?) AS wanted
CROSS JOIN runs AS r ON r.run_id = wanted.value
CROSS JOIN artifacts AS a ON a.run = r.id

-- name: put_table
INSERT INTO tables (id, run, name, rows, parts) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET rows = excluded.rows, parts = excluded.parts

-- name: put_column
INSERT INTO table_columns (tbl, position, name, type) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET name = excluded.name, type = excluded.type

-- name: put_part
INSERT INTO parts (tbl, number, file, columns, types, length, rows, closed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tbl, number) DO UPDATE SET
  file = excluded.file, columns = excluded.columns, types = excluded.types, length = excluded.length,
  rows = excluded.rows, closed = excluded.closed

-- name: all_parts
-- By ascending number of the table, which stands first; each one's parts ascending.
SELECT p.tbl, r.run_id, t.name, p.number, p.file, p.columns, p.types, p.length, p.rows, p.closed
FROM parts AS p CROSS JOIN tables AS t ON t.id = p.tbl CROSS JOIN runs AS r ON r.id = t.run
ORDER BY p.tbl, p.number

-- name: logical_columns
-- By ascending number of the table, which stands first; within a table, as first seen.
SELECT c.tbl, r.run_id, t.name, c.name, c.type
FROM table_columns AS c CROSS JOIN tables AS t ON t.id = c.tbl CROSS JOIN runs AS r ON r.id = t.run
ORDER BY c.tbl, c.position

-- name: tables_of_run
SELECT t.name, t.rows, t.parts
FROM runs AS r JOIN tables AS t ON t.run = r.id
WHERE r.run_id = :run_id
ORDER BY t.name

-- name: table_names_of_runs
-- runs: a JSON array of run ids.
SELECT r.run_id, t.name
FROM json_each(:runs) AS wanted
CROSS JOIN runs AS r ON r.run_id = wanted.value
CROSS JOIN tables AS t ON t.run = r.id
ORDER BY t.name

-- name: columns_of_table
SELECT c.name, c.type
FROM runs AS r JOIN tables AS t ON t.run = r.id JOIN table_columns AS c ON c.tbl = t.id
WHERE r.run_id = :run_id AND t.name = :name
ORDER BY c.position

-- name: parts_of_table
SELECT p.number, p.file, p.columns, p.types, p.length, p.rows, p.closed
FROM runs AS r JOIN tables AS t ON t.run = r.id JOIN parts AS p ON p.tbl = t.id
WHERE r.run_id = :run_id AND t.name = :name
ORDER BY p.number

-- name: all_tables
SELECT r.run_id, t.name, t.rows, t.parts FROM tables AS t JOIN runs AS r ON r.id = t.run ORDER BY t.id
