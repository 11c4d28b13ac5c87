-- What a record takes for itself: a lease, a use of a grant, the next head of a secret. No second record
-- can hold the same claim, and the record is in the chain, so no claim can be given back unnoticed.
ALTER TABLE audit_record ADD COLUMN claim BYTEA;
CREATE UNIQUE INDEX audit_record_claim ON audit_record (claim) WHERE claim IS NOT NULL;

-- The slot whose place this one takes while the master key is exchanged; empty where it takes none.
ALTER TABLE key_slot ADD COLUMN follows TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX key_slot_follows ON key_slot (follows) WHERE follows <> '';

-- At most one exchange of the master key is under way. `transfer` is the new key under the old one.
CREATE TABLE rotation (
    id              BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    from_generation BIGINT NOT NULL,
    to_generation   BIGINT NOT NULL,
    transfer        BYTEA  NOT NULL,
    state           TEXT   NOT NULL CHECK (state IN ('pending', 'switched')),
    switched_ms     BIGINT NOT NULL
);

-- The tenants' keys once more, under the new master key.
CREATE TABLE rotation_wrap (
    tenant     TEXT   NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL,
    wrapped    BYTEA  NOT NULL
);
