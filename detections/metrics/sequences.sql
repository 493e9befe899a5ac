-- The numbers that sources gave their events, as unbroken stretches of each emitter on a day.
WITH numbered AS (
    SELECT DISTINCT date, source, instance, sequence FROM events
    WHERE date >= $low AND date <= $high AND sequence IS NOT NULL
), stretches AS (
    SELECT *, sequence - row_number() OVER (PARTITION BY date, source, instance ORDER BY sequence) AS stretch
    FROM numbered
)
SELECT date, source, instance, min(sequence) AS low, max(sequence) AS high
FROM stretches GROUP BY date, source, instance, stretch
-- In all
WITH reached AS (
    SELECT *, max(high) OVER (
        PARTITION BY source, instance ORDER BY low, high ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before
    FROM found
)
-- What lies between a stretch and the furthest number before it was not seen.
SELECT source, CAST(sum(greatest(low - before - 1, 0)) AS BIGINT) AS missing
FROM reached GROUP BY source ORDER BY source
