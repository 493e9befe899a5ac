-- The life of each exception; which are active or overdue at the end of a period is worked out from it.
SELECT date, exception_id, tenant, environment, source, time, event_id, outcome, expires_at, review_due_at
FROM seen WHERE own AND kind = 'exception' AND exception_id IS NOT NULL
-- In all
SELECT exception_id, min(tenant) AS tenant, min(environment) AS environment, min(source) AS source,
       min(time) FILTER (outcome = 'opened') AS opened_at,
       min(time) FILTER (outcome = 'closed') AS closed_at,
       list(struct_pack(since := time, expires_at := expires_at, review_due_at := review_due_at)
            ORDER BY time, event_id) FILTER (outcome IN ('opened', 'extended')) AS terms,
       list(time ORDER BY time) FILTER (outcome = 'reviewed') AS reviewed_at
FROM found
GROUP BY exception_id HAVING min(time) FILTER (outcome = 'opened') IS NOT NULL
ORDER BY exception_id
