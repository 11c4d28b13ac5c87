//! How each mutation is carried out. Every function runs inside one savepoint of the writer's
//! transaction: it returns what was [`Lost`] before, after or between its statements, and the
//! caller takes back what it had done.

use types::{Digest, FindingId, SecretName, Tenant, ToolName};

use crate::detach;
use crate::error::StoreError;
use crate::keys;
use crate::mutation::{Charge, Lost, Mutation, Use};
use crate::rows::{
    ApprovalRow, ApprovalState, GrantRow, SecretRow, SecretState, SlotRow, TenantKeyRow, ToolRow, ToolState,
};
use crate::session::Session;
use crate::statement::{Statement, sql};

/// The outer error spoils the transaction, the inner one only this change.
pub(crate) type Applied = Result<Result<(), Lost>, StoreError>;

/// Carries out one mutation. `now` is the time of its record, by which expiry is judged.
pub(crate) async fn apply(db: &mut Session<'_>, mutation: &Mutation, now: u64) -> Applied {
    match mutation {
        Mutation::InitVault { slot, tenant_key } => init_vault(db, slot, tenant_key).await,
        Mutation::AddSlot(slot) => add_slot(db, slot).await,
        Mutation::RemoveSlot { id } => remove_slot(db, id).await,
        Mutation::RewrapTenantKey { row, expected } => rewrap(db, row, *expected).await,
        Mutation::BeginRotation(row) => keys::begin_rotation(db, row).await,
        Mutation::PutPendingWraps(rows) => keys::put_pending_wraps(db, rows).await,
        Mutation::SwitchRotation { to } => keys::switch_rotation(db, *to, now).await,
        Mutation::FinishRotation { to } => keys::finish_rotation(db, *to).await,
        Mutation::AbortRotation { to } => keys::abort_rotation(db, *to).await,
        Mutation::SetSecretStates { tenant, name, changes } => {
            keys::set_secret_states(db, tenant, name, changes).await
        }
        Mutation::Detach { first, last } => {
            run(db, detach::strip(*first, *last)).await?;
            Ok(Ok(()))
        }
        Mutation::Claim => Ok(Ok(())),
        Mutation::PutSecret { row, expected } => put_secret(db, row, *expected).await,
        Mutation::DeleteSecret { tenant, name, expected } => delete_secret(db, tenant, name, *expected).await,
        Mutation::InstallTool { row, expected } => install_tool(db, row, *expected).await,
        Mutation::SetToolState { tenant, name, digest, from, to } => {
            set_tool_state(db, tenant, name, *digest, *from, *to).await
        }
        Mutation::RemoveTool { tenant, name } => remove_tool(db, tenant, name).await,
        Mutation::PutGrant(row) => put_grant(db, row).await,
        Mutation::DeleteGrant { tenant, id } => delete_grant(db, tenant, id).await,
        Mutation::Hold(row) => hold(db, row).await,
        Mutation::Answer { tenant, id, from, to } => answer(db, tenant, *id, *from, *to, now).await,
        Mutation::Spend { tenant, day, charges } => spend(db, tenant, *day, charges).await,
        Mutation::Settle { tenant, day, uses } => settle(db, tenant, *day, uses).await,
    }
}

async fn init_vault(db: &mut Session<'_>, slot: &SlotRow, key: &TenantKeyRow) -> Applied {
    let held = sql("SELECT 1 FROM key_slot UNION ALL SELECT 1 FROM tenant_key
         UNION ALL SELECT 1 FROM secret WHERE state <> 'destroyed'");
    if exists(db, held).await? {
        return Ok(Err(Lost::Exists));
    }
    if let Err(lost) = add_slot(db, slot).await? {
        return Ok(Err(lost));
    }
    let insert = sql("INSERT INTO tenant_key (tenant, generation, wrapped) VALUES ($1, $2, $3)")
        .bind(key.tenant.as_str())
        .bind(key.generation)
        .bind(key.wrapped.as_slice());
    run(db, insert).await?;
    Ok(Ok(()))
}

async fn add_slot(db: &mut Session<'_>, slot: &SlotRow) -> Applied {
    let insert = sql("INSERT INTO key_slot (id, kind, params, wrapped, generation, created_ms, follows)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING")
    .bind(slot.id.as_str())
    .bind(slot.kind.as_str())
    .bind(slot.params.as_slice())
    .bind(slot.wrapped.as_slice())
    .bind(slot.generation)
    .bind(stored(slot.created_ms))
    .bind(slot.follows.as_str());
    Ok(one(run(db, insert).await?, Lost::Exists))
}

async fn remove_slot(db: &mut Session<'_>, id: &str) -> Applied {
    let delete = sql("DELETE FROM key_slot WHERE id = $1").bind(id);
    if run(db, delete).await? == 0 {
        return Ok(Err(Lost::Missing));
    }
    let left = exists(db, sql("SELECT 1 FROM key_slot")).await?;
    Ok(if left { Ok(()) } else { Err(Lost::LastSlot) })
}

async fn rewrap(db: &mut Session<'_>, row: &TenantKeyRow, expected: i64) -> Applied {
    let update =
        sql("UPDATE tenant_key SET generation = $1, wrapped = $2 WHERE tenant = $3 AND generation = $4")
            .bind(row.generation)
            .bind(row.wrapped.as_slice())
            .bind(row.tenant.as_str())
            .bind(expected);
    Ok(one(run(db, update).await?, Lost::Changed))
}

async fn put_secret(db: &mut Session<'_>, row: &SecretRow, expected: Option<i64>) -> Applied {
    let (tenant, name) = (row.tenant.as_str(), row.name.as_str());
    let in_use = version_in_use(db, &row.tenant, &row.name).await?;
    if in_use != expected {
        return Ok(Err(if expected.is_none() { Lost::Exists } else { Lost::Changed }));
    }
    let last = sql("SELECT max(version) FROM secret WHERE tenant = $1 AND name = $2").bind(tenant).bind(name);
    let last: Option<i64> = db.scalar(last, "secret").await?.flatten();
    let fresh = matches!(row.state, SecretState::Current | SecretState::Disabled);
    if !fresh || row.version != last.unwrap_or(0).saturating_add(1) {
        return Ok(Err(Lost::Changed));
    }
    retire(db, &row.tenant, &row.name, SecretState::Previous).await?;
    let insert = sql("INSERT INTO secret (tenant, name, version, state, sealed, fingerprints, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)")
    .bind(tenant)
    .bind(name)
    .bind(row.version)
    .bind(row.state.as_str())
    .bind(row.sealed.as_slice())
    .bind(row.fingerprints.as_slice())
    .bind(stored(row.created_ms));
    run(db, insert).await?;
    Ok(Ok(()))
}

async fn delete_secret(db: &mut Session<'_>, tenant: &Tenant, name: &SecretName, expected: i64) -> Applied {
    match version_in_use(db, tenant, name).await? {
        None => return Ok(Err(Lost::Missing)),
        Some(version) if version != expected => return Ok(Err(Lost::Changed)),
        Some(_) => {}
    }
    retire(db, tenant, name, SecretState::Destroyed).await?;
    let grants = sql("DELETE FROM tool_grant WHERE tenant = $1 AND secret = $2")
        .bind(tenant.as_str())
        .bind(name.as_str());
    run(db, grants).await?;
    Ok(Ok(()))
}

/// Destroys the previous version, and makes the one in use previous or destroys it too.
async fn retire(
    db: &mut Session<'_>,
    tenant: &Tenant,
    name: &SecretName,
    to: SecretState,
) -> Result<(), StoreError> {
    let destroy = "UPDATE secret SET state = 'destroyed', sealed = $1
         WHERE tenant = $2 AND name = $3 AND state <> 'destroyed' AND (state = 'previous' OR $4 = 'destroyed')";
    let destroy =
        sql(destroy).bind(b"".as_slice()).bind(tenant.as_str()).bind(name.as_str()).bind(to.as_str());
    run(db, destroy).await?;
    let step_back = sql("UPDATE secret SET state = 'previous'
         WHERE tenant = $1 AND name = $2 AND state IN ('current', 'disabled')")
    .bind(tenant.as_str())
    .bind(name.as_str());
    run(db, step_back).await?;
    Ok(())
}

async fn version_in_use(
    db: &mut Session<'_>,
    tenant: &Tenant,
    name: &SecretName,
) -> Result<Option<i64>, StoreError> {
    let query =
        "SELECT version FROM secret WHERE tenant = $1 AND name = $2 AND state IN ('current', 'disabled')";
    db.scalar(sql(query).bind(tenant.as_str()).bind(name.as_str()), "secret").await
}

async fn install_tool(db: &mut Session<'_>, row: &ToolRow, expected: Option<Digest>) -> Applied {
    let (text, lost) = match expected {
        None => (
            "INSERT INTO tool (tenant, name, digest, manifest, compiled, state, installed_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            Lost::Exists,
        ),
        Some(_) => (
            "UPDATE tool SET digest = $3, manifest = $4, compiled = $5, state = $6, installed_ms = $7
             WHERE tenant = $1 AND name = $2 AND digest = $8",
            Lost::Changed,
        ),
    };
    let mut query = sql(text)
        .bind(row.tenant.as_str())
        .bind(row.name.as_str())
        .bind(row.digest.as_bytes().as_slice())
        .bind(row.manifest.as_str())
        .bind(row.compiled.as_ref().map(|digest| digest.as_bytes().as_slice()))
        .bind(row.state.as_str())
        .bind(stored(row.installed_ms));
    if let Some(expected) = &expected {
        query = query.bind(expected.as_bytes().as_slice());
    }
    Ok(one(run(db, query).await?, lost))
}

async fn set_tool_state(
    db: &mut Session<'_>,
    tenant: &Tenant,
    name: &ToolName,
    digest: Digest,
    from: ToolState,
    to: ToolState,
) -> Applied {
    let update =
        sql("UPDATE tool SET state = $1 WHERE tenant = $2 AND name = $3 AND digest = $4 AND state = $5")
            .bind(to.as_str())
            .bind(tenant.as_str())
            .bind(name.as_str())
            .bind(digest.as_bytes())
            .bind(from.as_str());
    Ok(one(run(db, update).await?, Lost::Changed))
}

async fn remove_tool(db: &mut Session<'_>, tenant: &Tenant, name: &ToolName) -> Applied {
    let grants = sql("DELETE FROM tool_grant WHERE tenant = $1 AND tool = $2")
        .bind(tenant.as_str())
        .bind(name.as_str());
    run(db, grants).await?;
    let tool =
        sql("DELETE FROM tool WHERE tenant = $1 AND name = $2").bind(tenant.as_str()).bind(name.as_str());
    Ok(one(run(db, tool).await?, Lost::Missing))
}

async fn put_grant(db: &mut Session<'_>, row: &GrantRow) -> Applied {
    let insert = sql("INSERT INTO tool_grant (tenant, id, tool, secret, body, mac, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING")
    .bind(row.tenant.as_str())
    .bind(row.id.as_str())
    .bind(row.tool.as_str())
    .bind(row.secret.as_str())
    .bind(row.body.as_slice())
    .bind(row.mac.as_slice())
    .bind(stored(row.created_ms));
    Ok(one(run(db, insert).await?, Lost::Exists))
}

async fn delete_grant(db: &mut Session<'_>, tenant: &Tenant, id: &str) -> Applied {
    let delete = sql("DELETE FROM tool_grant WHERE tenant = $1 AND id = $2").bind(tenant.as_str()).bind(id);
    Ok(one(run(db, delete).await?, Lost::Missing))
}

/// How long what waited for a person is kept after its time, in milliseconds: for whoever answers too late.
const KEPT: u64 = 24 * 3600 * 1000;

/// Holds one more, and drops those whose time is long over. What was found stays until a person has seen it.
async fn hold(db: &mut Session<'_>, row: &ApprovalRow) -> Applied {
    let prune = sql("DELETE FROM approval WHERE tenant = $1 AND expires_ms < $2
         AND (kind <> 'finding' OR state <> 'waiting')")
    .bind(row.tenant.as_str())
    .bind(stored(row.created_ms.saturating_sub(KEPT)));
    run(db, prune).await?;
    let insert = sql("INSERT INTO approval (id, tenant, kind, digest, card, state, created_ms, expires_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING")
    .bind(row.id.as_bytes().as_slice())
    .bind(row.tenant.as_str())
    .bind(row.kind.as_str())
    .bind(row.digest.as_bytes().as_slice())
    // What a person is shown: a NUL in it is shown as one.
    .bind(row.card.replace('\0', "\u{2400}").as_str())
    .bind(row.state.as_str())
    .bind(stored(row.created_ms))
    .bind(stored(row.expires_ms));
    Ok(one(run(db, insert).await?, Lost::Exists))
}

async fn answer(
    db: &mut Session<'_>,
    tenant: &Tenant,
    id: FindingId,
    from: ApprovalState,
    to: ApprovalState,
    now: u64,
) -> Applied {
    let found = sql("SELECT state, expires_ms FROM approval WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_str())
        .bind(id.as_bytes());
    let found = db.rows(found, "approval").await?;
    let Some(row) = found.first() else {
        return Ok(Err(Lost::Missing));
    };
    let state: String = row.get(0).map_err(StoreError::at("approval"))?;
    let expires_ms: i64 = row.get(1).map_err(StoreError::at("approval"))?;
    if state != from.as_str() {
        return Ok(Err(Lost::Changed));
    }
    let ends = matches!(to, ApprovalState::Denied | ApprovalState::Expired);
    if !ends && stored(now) >= expires_ms {
        return Ok(Err(Lost::Expired));
    }
    // What was asked is in the log by its digest; nobody reads the card of what is over.
    let is_over = ends || to == ApprovalState::Used;
    let update = if is_over {
        sql("UPDATE approval SET state = $1, card = '' WHERE tenant = $2 AND id = $3 AND state = $4")
    } else {
        sql("UPDATE approval SET state = $1 WHERE tenant = $2 AND id = $3 AND state = $4")
    };
    let update = update.bind(to.as_str()).bind(tenant.as_str()).bind(id.as_bytes()).bind(from.as_str());
    Ok(one(run(db, update).await?, Lost::Changed))
}

async fn spend(db: &mut Session<'_>, tenant: &Tenant, day: u32, charges: &[Charge]) -> Applied {
    for charge in charges {
        let room = charge.limit.min(i64::MAX as u64).checked_sub(charge.amount);
        let fits = match room {
            Some(room) => add_to(db, tenant, day, charge, room).await?,
            None => false,
        };
        if !fits {
            let spent = spent(db, tenant, day, charge).await?;
            return Ok(Err(Lost::Budget { meter: charge.meter, spent, limit: charge.limit }));
        }
    }
    Ok(Ok(()))
}

/// One statement a meter, so that two clients cannot lose each other's amounts; saturates at both ends.
async fn settle(db: &mut Session<'_>, tenant: &Tenant, day: u32, uses: &[Use]) -> Applied {
    for change in uses {
        let update = sql("UPDATE spending SET spent = CASE WHEN spent < $1 THEN $2
                 WHEN spent - $1 > $3 THEN 9223372036854775807 ELSE spent - $1 + $2 END
             WHERE tenant = $4 AND day = $5 AND meter = $6")
        .bind(stored(change.charged))
        .bind(stored(change.used))
        .bind(i64::MAX - stored(change.used))
        .bind(tenant.as_str())
        .bind(i64::from(day))
        .bind(change.meter.as_str());
        if run(db, update).await? == 0 {
            return Ok(Err(Lost::Missing));
        }
    }
    Ok(Ok(()))
}

/// Adds the amount where no more than `room` has been spent; says whether it did.
async fn add_to(
    db: &mut Session<'_>,
    tenant: &Tenant,
    day: u32,
    charge: &Charge,
    room: u64,
) -> Result<bool, StoreError> {
    let upsert = sql("INSERT INTO spending (tenant, day, meter, spent) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant, day, meter) DO UPDATE SET spent = spending.spent + excluded.spent
         WHERE spending.spent <= $5")
    .bind(tenant.as_str())
    .bind(i64::from(day))
    .bind(charge.meter.as_str())
    .bind(stored(charge.amount))
    .bind(stored(room));
    Ok(run(db, upsert).await? == 1)
}

async fn spent(db: &mut Session<'_>, tenant: &Tenant, day: u32, charge: &Charge) -> Result<u64, StoreError> {
    let query = sql("SELECT spent FROM spending WHERE tenant = $1 AND day = $2 AND meter = $3")
        .bind(tenant.as_str())
        .bind(i64::from(day))
        .bind(charge.meter.as_str());
    let spent: Option<i64> = db.scalar(query, "spending").await?;
    u64::try_from(spent.unwrap_or(0)).map_err(|_| StoreError::Damaged("spending"))
}

pub(crate) async fn run(db: &mut Session<'_>, statement: Statement) -> Result<u64, StoreError> {
    db.run(statement, "carry out a change").await
}

pub(crate) async fn exists(db: &mut Session<'_>, statement: Statement) -> Result<bool, StoreError> {
    Ok(!db.rows(statement, "carry out a change").await?.is_empty())
}

/// Exactly one row, or lost for this reason.
pub(crate) fn one(changed: u64, lost: Lost) -> Result<(), Lost> {
    if changed == 1 { Ok(()) } else { Err(lost) }
}

/// A time or an amount as the database keeps it; what is beyond it is as good as the greatest.
pub(crate) fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
