-- The peers' table, as a team would usually make it: the columns, constraints and unique indexes of the service's own,
-- an index for each column that is filtered or sorted by, and no counting trigger.
CREATE TABLE candidates (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    status varchar(20) NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected')),
    company_name varchar(255) NOT NULL CHECK (company_name <> ''),
    contact_email varchar(255) NOT NULL,
    phone varchar(50),
    products text[] NOT NULL
        CHECK (cardinality(products) > 0)
        CHECK (products <@ ARRAY['apples', 'oranges', 'grapes', 'bananas', 'mangoes']),
    truck_count integer NOT NULL CHECK (truck_count > 0),
    capacity_tons_per_day integer NOT NULL CHECK (capacity_tons_per_day > 0),
    location varchar(255),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    provider_id integer UNIQUE CHECK (provider_id >= 1),
    version integer NOT NULL DEFAULT 1 CHECK (version >= 1),
    rejection_reason varchar(1000),
    CHECK ((status = 'approved') = (provider_id IS NOT NULL)),
    CHECK (rejection_reason IS NULL OR status = 'rejected')
);

CREATE UNIQUE INDEX uq_candidates_contact_email_lower ON candidates (lower(contact_email));
CREATE INDEX ix_candidates_created_at ON candidates (created_at);
CREATE INDEX ix_candidates_status ON candidates (status);
CREATE INDEX ix_candidates_products ON candidates USING gin (products);
