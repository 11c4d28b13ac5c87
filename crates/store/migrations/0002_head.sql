-- The head of the chain as a row that can be locked: on a server every writer locks it before it reads
-- anything, so that of many processes one appends at a time. A file has a lock of its own.
CREATE TABLE chain_head (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1)
);
INSERT INTO chain_head (id) VALUES (1);
