"""Checks on matching: that every line is explained, that no product is unknown, and that no line was matched by guessing."""

import dagster as dg

from arcadia_dagster.defs.checking import no_rows

every_line_is_explained = no_rows(
    "every_line_is_explained",
    "select to_char(period, 'YYYY-MM') as period, product, description, amount_usd, match_status, reason"
    " from arcadia.matched_cost_lines where match_status in ('unmatched', 'ambiguous')",
    asset="matched_cost_lines",
    description="Every line is matched to a resource, or pays for the account, a tax or a credit. What is unmatched or ambiguous has a"
    " reason and is listed here, dearest first.",
    worst="abs(amount_usd) desc",
    severity=dg.AssetCheckSeverity.WARN,
)

no_unknown_product = no_rows(
    "no_unknown_product",
    "select product, description, to_char(first_period, 'YYYY-MM') as first_month, lines, amount_usd as usd,"
    " month_to_date_usd from arcadia.unknown_products",
    asset="matched_cost_lines",
    description="Every product that was billed is known. Lines of a new one are kept, `unmatched`: add its wording to"
    " `digitalocean/products.py`. Previews count, so that it is noticed the day that it is first billed.",
    worst="abs(amount_usd) + abs(month_to_date_usd) desc",
    severity=dg.AssetCheckSeverity.WARN,
    after_the_rest=True,
)

no_match_contradicts_its_line = no_rows(
    "no_match_contradicts_its_line",
    """
    select l.line_id, l.product, l.description, l.provider_resource_id, l.provider_resource_uuid, r.kind, r.provider_id
      from arcadia.cloud_cost_lines l left join arcadia.resources r using (resource_id)
     where l.resource_id is not null
       and not coalesce(r.kind = 'load_balancer' and 'load balancer ' || r.name = l.component and r.account_id = l.account_id, false)
       and (r.resource_id is null or r.account_id <> l.account_id or r.kind <> l.kind
        or (coalesce(l.provider_resource_id, l.provider_resource_uuid) is not null
            and r.provider_id is distinct from l.provider_resource_id and r.provider_id is distinct from l.provider_resource_uuid))""",
    asset="matched_cost_lines",
    description="No match contradicts its line: the resource is there, kind and account are the line's, and an id on the line is the"
    " resource's own. (The load balancer of a Kubernetes Service is billed to its cluster and named on the line.)",
    worst="line_id",
)
