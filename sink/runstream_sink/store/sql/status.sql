-- name: all_meta
SELECT name, value FROM meta

-- name: all_positions
SELECT stream, part, position FROM positions ORDER BY stream, part

-- name: counts
-- What the store holds: runs, experiments, producers, events that were applied, dead letters not retried, lost events.
SELECT
  (SELECT count(*) FROM runs),
  (SELECT count(*) FROM experiments),
  (SELECT count(*) FROM producers),
  (SELECT coalesce(sum(last - first + 1), 0) FROM seen),
  (SELECT count(*) FROM dead_letters WHERE retried IS NULL),
  (SELECT coalesce(sum(count), 0) FROM losses)

-- name: all_losses
SELECT p.producer_id, l.segment, l.reason, l.count
FROM losses AS l JOIN producers AS p ON p.id = l.producer
ORDER BY l.producer, l.segment, l.reason

-- name: all_holes
SELECT p.producer_id, h.first, h.last, h.reason
FROM holes AS h JOIN producers AS p ON p.id = h.producer
ORDER BY h.producer, h.first

-- name: all_seen
-- In the order of the producers, each one's intervals ascending.
SELECT p.producer_id, s.first, s.last
FROM seen AS s JOIN producers AS p ON p.id = s.producer
ORDER BY s.producer, s.first

-- name: seen_at
-- The interval that a seq of a producer may lie in.
SELECT s.last FROM producers AS p JOIN seen AS s ON s.producer = p.id
WHERE p.producer_id = :producer_id AND s.first <= :seq ORDER BY s.first DESC LIMIT 1

-- name: dead_letters_page
SELECT d.id, p.producer_id, d.seq, d.emit_ts, d.reason, d.detail, length(d.raw), d.at, d.retried
FROM dead_letters AS d JOIN producers AS p ON p.id = d.producer
WHERE d.id > :after AND (:reason IS NULL OR d.reason = :reason) AND (:retried OR d.retried IS NULL)
ORDER BY d.id
LIMIT :limit

-- name: dead_letter
SELECT d.id, p.producer_id, d.seq, d.emit_ts, d.reason, d.detail, length(d.raw), d.at, d.retried, d.raw
FROM dead_letters AS d JOIN producers AS p ON p.id = d.producer
WHERE d.id = :id

-- name: dead_letter_counts
SELECT reason, count(*) FROM dead_letters WHERE retried IS NULL GROUP BY reason ORDER BY reason
