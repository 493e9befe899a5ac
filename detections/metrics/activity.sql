-- How much of what happened in each quarter of an hour, declared drills among it; what we write ourselves is not.
SELECT date, make_timestamptz(epoch_us(time) // 900000000 * 900000000) AS slot,
       tenant, environment, source, kind, decision, count(*) AS n, count(sequence) AS numbered, min(time) AS first, max(time) AS last
FROM events WHERE date >= $low AND date <= $high AND kind NOT IN ('alert', 'case', 'access')
GROUP BY ALL
-- In all
SELECT slot, tenant, environment, source, kind, decision, n, numbered, first, last FROM found
