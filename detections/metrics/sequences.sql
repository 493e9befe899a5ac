-- The numbers that sources gave their events, as unbroken stretches of each emitter on a day. A heartbeat that
-- counts itself among what was sent only names the last number: it is an empty stretch behind that one.
WITH numbered AS (
    SELECT date, source, instance, sequence, min(time) AS first_at FROM events
    WHERE date >= $low AND date <= $high AND sequence IS NOT NULL
      AND (kind <> 'heartbeat' OR sent IS NULL OR sent < sequence)
    GROUP BY date, source, instance, sequence
), stretches AS (
    SELECT *, sequence - row_number() OVER (PARTITION BY date, source, instance ORDER BY sequence) AS stretch
    FROM numbered
)
SELECT date, source, instance, min(sequence) AS low, max(sequence) AS high, min(first_at) AS first_at
FROM stretches GROUP BY date, source, instance, stretch
UNION ALL
SELECT date, source, instance, max(sequence) + 1, max(sequence), min(time) FROM events
WHERE date >= $low AND date <= $high AND kind = 'heartbeat' AND sent >= sequence
GROUP BY date, source, instance
-- In all
SELECT date, source, instance, low, high, first_at FROM found
