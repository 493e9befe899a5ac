-- Denies outside the tenant, each request once; beside them all decisions, and those without a resource's tenant.
SELECT date, 'deny' AS part,
       coalesce('r ' || request_id, 't ' || concat_ws(' ', trace_id, action, resource), source || '#' || event_id)
           AS request,
       min(slot) AS slot, min(tenant) AS tenant, min(environment) AS environment, min(source) AS source,
       0 AS denominator, 0 AS without_resource_tenant
FROM seen WHERE own AND kind = 'decision' AND decision = 'deny' AND tenant <> resource_tenant
GROUP BY date, request
UNION ALL
SELECT date, 'all', NULL, slot, tenant, environment, source, count(*), count(*) FILTER (resource_tenant IS NULL)
FROM seen WHERE own AND kind = 'decision' GROUP BY date, slot, tenant, environment, source
-- In all
WITH denied AS (
    SELECT min(slot) AS slot, min(tenant) AS tenant, min(environment) AS environment, min(source) AS source
    FROM found WHERE part = 'deny' GROUP BY request
), counted AS (
    SELECT slot, tenant, environment, source, count(*) AS numerator, 0 AS denominator, 0 AS without_resource_tenant
    FROM denied GROUP BY slot, tenant, environment, source
    UNION ALL
    SELECT slot, tenant, environment, source, 0, denominator, without_resource_tenant FROM found WHERE part = 'all'
)
SELECT slot, tenant, environment, source, sum(numerator) AS numerator, sum(denominator) AS denominator,
       sum(without_resource_tenant) AS without_resource_tenant
FROM counted GROUP BY slot, tenant, environment, source
