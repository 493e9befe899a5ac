-- Events that owe full context and give it; beside them the grades of decisions.
SELECT date, slot, tenant, environment, source,
       count(*) FILTER (
           actor IS NOT NULL AND trace_id IS NOT NULL
           AND (delegated_actor IS NOT NULL OR starts_with(actor, 'agent:'))
           AND (kind = 'action' OR policy_version IS NOT NULL)
       ) AS numerator,
       count(*) AS denominator,
       count(*) FILTER (grade = 0) AS grade_0, count(*) FILTER (grade = 1) AS grade_1,
       count(*) FILTER (grade = 2) AS grade_2, count(*) FILTER (grade = 3) AS grade_3,
       count(*) FILTER (grade = 4) AS grade_4
FROM (
    SELECT *, CASE WHEN kind <> 'decision' THEN NULL
                   WHEN action IS NULL OR resource IS NULL OR decision IS NULL THEN 0
                   WHEN policy_version IS NULL THEN 1 WHEN attributes IS NULL THEN 2
                   WHEN policy_digest IS NULL THEN 3 ELSE 4 END AS grade
    FROM seen WHERE own AND kind IN ('decision', 'issuance', 'action') AND (agentic OR principal IS NULL)
)
GROUP BY date, slot, tenant, environment, source
-- In all
SELECT slot, tenant, environment, source, numerator, denominator, grade_0, grade_1, grade_2, grade_3, grade_4 FROM found
