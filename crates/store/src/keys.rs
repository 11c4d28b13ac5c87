//! How changes of the vault's keys, of the states of its secrets and of its leases are carried out.

use types::{SecretName, Tenant};

use crate::apply::{Applied, exists, one, run, stored};
use crate::mutation::{Lost, StateChange};
use crate::rows::{RotationRow, SecretState, TenantKeyRow};
use crate::session::Session;
use crate::statement::sql;

/// Begins a rotation where none is under way and the key in force is the one that was seen.
pub(crate) async fn begin_rotation(db: &mut Session<'_>, row: &RotationRow) -> Applied {
    let other = sql("SELECT 1 FROM key_slot WHERE generation <> $1").bind(row.from);
    if exists(db, other).await? {
        return Ok(Err(Lost::Changed));
    }
    let insert =
        sql("INSERT INTO rotation (id, from_generation, to_generation, transfer, state, switched_ms)
         VALUES (1, $1, $2, $3, 'pending', 0) ON CONFLICT DO NOTHING")
        .bind(row.from)
        .bind(row.to)
        .bind(row.transfer.as_slice());
    Ok(one(run(db, insert).await?, Lost::Exists))
}

/// Keeps tenants' keys under the new master key, in place of what was kept there before.
pub(crate) async fn put_pending_wraps(db: &mut Session<'_>, rows: &[TenantKeyRow]) -> Applied {
    for row in rows {
        let pending = sql("SELECT 1 FROM rotation WHERE state = 'pending' AND to_generation = $1");
        if !exists(db, pending.bind(row.generation)).await? {
            return Ok(Err(Lost::Changed));
        }
        let put = sql(
            "INSERT INTO rotation_wrap (tenant, generation, wrapped) VALUES ($1, $2, $3)
             ON CONFLICT (tenant) DO UPDATE SET generation = excluded.generation, wrapped = excluded.wrapped",
        )
        .bind(row.tenant.as_str())
        .bind(row.generation)
        .bind(row.wrapped.as_slice());
        run(db, put).await?;
    }
    Ok(Ok(()))
}

/// Puts the new key in force: one row. Refused while a tenant or a slot has nothing under it.
pub(crate) async fn switch_rotation(db: &mut Session<'_>, to: i64, now: u64) -> Applied {
    let left = sql("SELECT 1 FROM tenant_key WHERE NOT EXISTS
             (SELECT 1 FROM rotation_wrap
              WHERE rotation_wrap.tenant = tenant_key.tenant AND rotation_wrap.generation = $1)
         UNION ALL SELECT 1 FROM key_slot AS old WHERE old.generation <> $1 AND NOT EXISTS
             (SELECT 1 FROM key_slot AS new WHERE new.generation = $1 AND new.follows = old.id)")
    .bind(to);
    if exists(db, left).await? {
        return Ok(Err(Lost::Changed));
    }
    let switch = sql("UPDATE rotation SET state = 'switched', switched_ms = $1
         WHERE state = 'pending' AND to_generation = $2")
    .bind(stored(now))
    .bind(to);
    Ok(one(run(db, switch).await?, Lost::Changed))
}

/// Removes the old key's slots and wraps.
pub(crate) async fn finish_rotation(db: &mut Session<'_>, to: i64) -> Applied {
    let done = sql("DELETE FROM rotation WHERE state = 'switched' AND to_generation = $1").bind(to);
    if run(db, done).await? != 1 {
        return Ok(Err(Lost::Missing));
    }
    for statement in [
        sql("DELETE FROM key_slot WHERE generation <> $1").bind(to),
        sql("UPDATE key_slot SET follows = ''"),
        sql("DELETE FROM tenant_key"),
        sql("INSERT INTO tenant_key (tenant, generation, wrapped)
             SELECT tenant, generation, wrapped FROM rotation_wrap"),
        sql("DELETE FROM rotation_wrap"),
    ] {
        run(db, statement).await?;
    }
    Ok(Ok(()))
}

/// Removes everything of a new key that is not in force.
pub(crate) async fn abort_rotation(db: &mut Session<'_>, to: i64) -> Applied {
    let gone = sql("DELETE FROM rotation WHERE state = 'pending' AND to_generation = $1").bind(to);
    if run(db, gone).await? != 1 {
        return Ok(Err(Lost::Missing));
    }
    run(db, sql("DELETE FROM key_slot WHERE generation = $1").bind(to)).await?;
    run(db, sql("DELETE FROM rotation_wrap")).await?;
    Ok(Ok(()))
}

/// Moves versions of a secret from state to state, all or none.
pub(crate) async fn set_secret_states(
    db: &mut Session<'_>,
    tenant: &Tenant,
    name: &SecretName,
    changes: &[StateChange],
) -> Applied {
    for change in changes {
        let text = match change.to {
            SecretState::Destroyed => {
                "UPDATE secret SET state = $1, sealed = $6
                 WHERE tenant = $2 AND name = $3 AND version = $4 AND state = $5"
            }
            _ => {
                "UPDATE secret SET state = $1
                 WHERE tenant = $2 AND name = $3 AND version = $4 AND state = $5"
            }
        };
        let mut update = sql(text)
            .bind(change.to.as_str())
            .bind(tenant.as_str())
            .bind(name.as_str())
            .bind(change.version)
            .bind(change.from.as_str());
        if change.to == SecretState::Destroyed {
            update = update.bind(b"".as_slice());
        }
        if run(db, update).await? != 1 {
            return Ok(Err(Lost::Changed));
        }
    }
    Ok(Ok(()))
}
