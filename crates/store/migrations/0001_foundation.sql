-- One text for SQLite and PostgreSQL: BIGINT, TEXT and BYTEA mean the same to both, and nothing here
-- has a trigger, a sequence or a default. Names are at most what `types` parses; every number and
-- every state is checked once more by the code that reads it back.

-- The chain: numbers without gaps, the canonical bytes of each record, the hash that ties it to the
-- one before, and the id under which a refusal is looked up.
CREATE TABLE audit_record (
    seq     BIGINT NOT NULL PRIMARY KEY CHECK (seq > 0),
    record  BYTEA  NOT NULL,
    chain   BYTEA  NOT NULL CHECK (length(chain) = 32),
    refusal BYTEA  CHECK (length(refusal) = 16)
);
CREATE INDEX audit_record_refusal ON audit_record (refusal) WHERE refusal IS NOT NULL;

CREATE TABLE key_slot (
    id         TEXT   NOT NULL PRIMARY KEY,
    kind       TEXT   NOT NULL,
    params     BYTEA  NOT NULL,
    wrapped    BYTEA  NOT NULL,
    generation BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE tenant_key (
    tenant     TEXT   NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL,
    wrapped    BYTEA  NOT NULL
);

-- A destroyed version stays as a tombstone, so that its number is never used again.
CREATE TABLE secret (
    tenant       TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    version      BIGINT NOT NULL CHECK (version > 0),
    state        TEXT   NOT NULL CHECK (state IN ('current', 'previous', 'disabled', 'destroyed')),
    sealed       BYTEA  NOT NULL,
    fingerprints BYTEA  NOT NULL,
    created_ms   BIGINT NOT NULL,
    PRIMARY KEY (tenant, name, version)
);
-- At most one version of a name is the one in use.
CREATE UNIQUE INDEX secret_in_use ON secret (tenant, name) WHERE state IN ('current', 'disabled');

CREATE TABLE tool (
    tenant       TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    digest       BYTEA  NOT NULL CHECK (length(digest) = 32),
    manifest     TEXT   NOT NULL,
    compiled     BYTEA  CHECK (length(compiled) = 32),
    state        TEXT   NOT NULL CHECK (state IN ('pending', 'approved', 'suspended')),
    installed_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE tool_grant (
    tenant     TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    tool       TEXT   NOT NULL,
    secret     TEXT   NOT NULL,
    body       BYTEA  NOT NULL,
    mac        BYTEA  NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX tool_grant_tool ON tool_grant (tenant, tool);

CREATE TABLE approval (
    id         BYTEA  NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    tenant     TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    digest     BYTEA  NOT NULL CHECK (length(digest) = 32),
    card       TEXT   NOT NULL,
    state      TEXT   NOT NULL CHECK (state IN ('waiting', 'approved', 'denied', 'used', 'expired')),
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX approval_tenant ON approval (tenant, created_ms);

CREATE TABLE spending (
    tenant TEXT   NOT NULL,
    day    BIGINT NOT NULL,
    meter  TEXT   NOT NULL CHECK (meter IN ('calls', 'tokens', 'cost')),
    spent  BIGINT NOT NULL CHECK (spent >= 0),
    PRIMARY KEY (tenant, day, meter)
);
