-- Sensitive actions that a decision of a policy allowed, of all sensitive actions.
SELECT a.date, a.slot, a.tenant, a.environment, a.source,
       count(*) FILTER (j.allowed) AS numerator,
       count(*) AS denominator,
       count(*) FILTER (j.denied AND NOT coalesce(j.allowed, false)) AS despite_deny
FROM done a LEFT JOIN (SELECT * FROM judged WHERE sensitive) j ON j.source = a.source AND j.event_id = a.event_id
WHERE a.sensitive
GROUP BY a.date, a.slot, a.tenant, a.environment, a.source
-- In all
SELECT slot, tenant, environment, source, numerator, denominator, despite_deny FROM found
