-- What a line pays for, in the words of FOCUS. A service is called as the provider's invoices call it: what is not here keeps its product's
-- name and is of category Other, so that no name stands in two categories.
create view arcadia.focus_services as
select *
  from (values
    ('droplet', 'Droplets', 'Compute', 'Virtual Machines', 'Droplet', 'droplet'),
    ('droplet_backup', 'Droplet Backups', 'Storage', 'Backup Storage', null, null),
    ('snapshot', 'Snapshots', 'Storage', 'Backup Storage', 'Snapshot', 'snapshot'),
    ('volume', 'Volumes', 'Storage', 'Block Storage', 'Volume', 'volume'),
    ('nfs_share', 'Network File Storage', 'Storage', 'File Storage', 'NFS Share', 'nfs_share'),
    ('spaces', 'Spaces', 'Storage', 'Object Storage', null, null),
    ('registry', 'Container Registry Subscription', 'Compute', 'Containers', null, null),
    ('k8s_cluster', 'Kubernetes Clusters', 'Compute', 'Containers', 'Kubernetes Cluster', 'kubernetes'),
    ('function_namespace', 'Functions', 'Compute', 'Serverless Compute', 'Functions Namespace', 'function_namespace'),
    ('app', 'App Platform', 'Web', 'Application Platforms', 'App', 'app'),
    ('managed_db', 'Database Clusters', 'Databases', 'Other (Databases)', 'Database Cluster', 'dbaas'),
    ('vector_database', 'Vector Databases', 'Databases', 'NoSQL Databases', 'Vector Database', 'vector_database'),
    ('load_balancer', 'Load Balancers', 'Networking', 'Application Networking', 'Load Balancer', 'loadbalancer'),
    ('nat_gateway', 'NAT Gateways', 'Networking', 'Network Connectivity', 'NAT Gateway', 'nat_gateway'),
    ('reserved_ip', 'Reserved IPs', 'Networking', 'Network Infrastructure', 'Reserved IP', 'reservedip'),
    ('reserved_ipv6', 'Reserved IPv6s', 'Networking', 'Network Infrastructure', 'Reserved IPv6', 'reservedipv6'),
    ('bandwidth', 'Bandwidth Overages', 'Networking', 'Other (Networking)', null, null),
    ('dedicated_inference', 'Dedicated Inference', 'AI and Machine Learning', 'Generative AI', 'Dedicated Inference',
     'dedicated_inference'),
    ('genai', 'GenAI Platform', 'AI and Machine Learning', 'Generative AI', null, null),
    ('uptime', 'Uptime', 'Management and Governance', 'Observability', null, null),
    ('support', 'Support', 'Management and Governance', 'Support', null, null),
    ('addon', 'Add-Ons', 'Other', 'Other (Other)', 'Add-On', 'addon'),
    ('account', 'Overages', 'Other', 'Other (Other)', null, null),
    ('tax', 'Taxes', 'Other', 'Other (Other)', null, null),
    ('credit', 'Credits', 'Other', 'Other (Other)', null, null)
  ) as s (service, service_name, service_category, service_subcategory, resource_type, urn_name);

comment on view arcadia.focus_services is
    'What lines pay for, as FOCUS puts it: a row for each kind, and for what is billed to the account';
comment on column arcadia.focus_services.service is
    'The kind of a line; what is billed to the account as a whole is told apart by its product';
comment on column arcadia.focus_services.urn_name is 'NAME in the URN do:NAME:ID of such a resource';
comment on column arcadia.focus_services.service_name is 'FOCUS: ServiceName';
comment on column arcadia.focus_services.service_category is 'FOCUS: ServiceCategory';
comment on column arcadia.focus_services.service_subcategory is 'FOCUS: ServiceSubcategory';
comment on column arcadia.focus_services.resource_type is 'FOCUS: ResourceType';
