//! Each change against what it may find: who comes second is told so, and leaves nothing behind.

use store::{
    ApprovalRow, ApprovalState, Charge, GrantRow, Lost, Meter, Mutation, SecretRow, SecretState, SlotRow,
    TenantKeyRow, ToolRow, ToolState, Use,
};
use types::{Digest, FindingId, SecretName, Tenant, ToolName};

use crate::fixture::Fixture;

/// Bytes that would be noticed in a print-out.
const BYTES: [u8; 4] = [222, 173, 190, 239];

pub(crate) fn slot(id: &str) -> SlotRow {
    SlotRow {
        id: id.to_owned(),
        kind: "passphrase".to_owned(),
        params: BYTES.to_vec(),
        wrapped: BYTES.to_vec(),
        generation: 1,
        created_ms: 5,
        follows: String::new(),
    }
}

pub(crate) fn tenant_key(generation: i64) -> TenantKeyRow {
    TenantKeyRow { tenant: Tenant::local(), generation, wrapped: BYTES.to_vec() }
}

pub(crate) fn secret(name: &str, version: i64) -> SecretRow {
    SecretRow {
        tenant: Tenant::local(),
        name: SecretName::parse(name).unwrap(),
        version,
        state: SecretState::Current,
        sealed: BYTES.to_vec(),
        fingerprints: BYTES.to_vec(),
        created_ms: 5,
    }
}

pub(crate) fn tool(code: &[u8]) -> ToolRow {
    ToolRow {
        tenant: Tenant::local(),
        name: ToolName::parse("weather").unwrap(),
        digest: Digest::of(code),
        manifest: "name = \"weather\"".to_owned(),
        compiled: Some(Digest::of(b"compiled")),
        state: ToolState::Pending,
        installed_ms: 5,
    }
}

pub(crate) fn grant(id: &str) -> GrantRow {
    GrantRow {
        tenant: Tenant::local(),
        id: id.to_owned(),
        tool: ToolName::parse("weather").unwrap(),
        secret: SecretName::parse("API_KEY").unwrap(),
        body: BYTES.to_vec(),
        mac: BYTES.to_vec(),
        created_ms: 5,
    }
}

pub(crate) fn approval() -> ApprovalRow {
    ApprovalRow {
        id: FindingId::new(),
        tenant: Tenant::local(),
        kind: "call".to_owned(),
        digest: Digest::of(b"arguments"),
        card: "send mail?".to_owned(),
        state: ApprovalState::Waiting,
        created_ms: 1_000,
        expires_ms: 2_000,
    }
}

#[tokio::test]
async fn a_lost_change_leaves_no_record_and_the_rest_of_the_batch_stands() {
    for mut fixture in Fixture::both().await {
        let mut batch = fixture.writer.begin().await.unwrap();
        let mut seq = 0;
        for (id, won) in [("a", true), ("a", false), ("b", true)] {
            let record = store::NewRecord {
                seq: seq + 1,
                record: b"r",
                chain: &[0; 32],
                refusal: None,
                claim: None,
                at_ms: 0,
            };
            let outcome = batch.append(record, Some(&Mutation::AddSlot(slot(id)))).await.unwrap();
            assert_eq!(outcome.is_ok(), won);
            seq += i64::from(won);
        }
        batch.commit().await.unwrap();
        assert_eq!(fixture.records().await, 2);
        assert_eq!(fixture.reader.slots().await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_dropped_batch_leaves_no_trace() {
    for mut fixture in Fixture::both().await {
        let mut batch = fixture.writer.begin().await.unwrap();
        let record =
            store::NewRecord { seq: 1, record: b"r", chain: &[0; 32], refusal: None, claim: None, at_ms: 0 };
        batch.append(record, Some(&Mutation::AddSlot(slot("a")))).await.unwrap().unwrap();
        drop(batch);
        assert_eq!(fixture.records().await, 0);
        fixture.change(Mutation::AddSlot(slot("a"))).await.unwrap();
        assert_eq!(fixture.records().await, 1);
    }
}

#[tokio::test]
async fn k06_k07_a_vault_is_made_once() {
    for mut fixture in Fixture::both().await {
        let init = |id| Mutation::InitVault { slot: slot(id), tenant_key: tenant_key(1) };
        fixture.change(init("a")).await.unwrap();
        assert_eq!(fixture.change(init("b")).await, Err(Lost::Exists));
        assert_eq!(fixture.reader.slots().await.unwrap().len(), 1);

        // Not even when the slots are gone and a sealed secret is left.
        let mut fixture = Fixture::new().await;
        fixture.change(Mutation::PutSecret { row: secret("A", 1), expected: None }).await.unwrap();
        assert_eq!(fixture.change(init("a")).await, Err(Lost::Exists));
    }
}

#[tokio::test]
async fn slots_come_and_go_but_the_last_stays() {
    for mut fixture in Fixture::both().await {
        let remove = |id: &str| Mutation::RemoveSlot { id: id.to_owned() };
        fixture.change(Mutation::AddSlot(slot("a"))).await.unwrap();
        assert_eq!(fixture.change(Mutation::AddSlot(slot("a"))).await, Err(Lost::Exists));
        assert_eq!(fixture.change(remove("a")).await, Err(Lost::LastSlot));
        assert_eq!(fixture.reader.slots().await.unwrap().len(), 1);
        fixture.change(Mutation::AddSlot(slot("b"))).await.unwrap();
        assert_eq!(fixture.change(remove("c")).await, Err(Lost::Missing));
        fixture.change(remove("a")).await.unwrap();
        assert_eq!(fixture.reader.slots().await.unwrap(), [slot("b")]);
    }
}

#[tokio::test]
async fn a_wrap_is_replaced_only_by_who_saw_it() {
    for mut fixture in Fixture::both().await {
        let rewrap = |to, expected| Mutation::RewrapTenantKey { row: tenant_key(to), expected };
        assert_eq!(fixture.change(rewrap(2, 1)).await, Err(Lost::Changed));
        fixture.change(Mutation::InitVault { slot: slot("a"), tenant_key: tenant_key(1) }).await.unwrap();
        fixture.change(rewrap(2, 1)).await.unwrap();
        assert_eq!(fixture.change(rewrap(2, 1)).await, Err(Lost::Changed));
        let found = fixture.reader.tenant_wraps(&Tenant::local()).await.unwrap().remove(0);
        assert_eq!(found.generation, 2);
    }
}

#[tokio::test]
async fn a_secret_moves_through_its_versions_and_no_number_comes_back() {
    for mut fixture in Fixture::both().await {
        let (local, name) = (Tenant::local(), SecretName::parse("A").unwrap());
        let put = |version, expected| Mutation::PutSecret { row: secret("A", version), expected };
        assert_eq!(fixture.change(put(2, None)).await, Err(Lost::Changed));
        assert_eq!(fixture.change(put(1, Some(1))).await, Err(Lost::Changed));
        fixture.change(put(1, None)).await.unwrap();
        assert_eq!(fixture.change(put(2, None)).await, Err(Lost::Exists));
        fixture.change(put(2, Some(1))).await.unwrap();
        assert_eq!(fixture.change(put(3, Some(1))).await, Err(Lost::Changed));
        fixture.change(put(3, Some(2))).await.unwrap();

        let states = |rows: &[SecretRow]| rows.iter().map(|row| row.state).collect::<Vec<_>>();
        let rows = fixture.reader.secret_versions(&local, &name).await.unwrap();
        assert_eq!(states(&rows), [SecretState::Destroyed, SecretState::Previous, SecretState::Current]);
        assert!(rows[0].sealed.is_empty() && !rows[1].sealed.is_empty());
        assert_eq!(fixture.reader.fingerprints(&local).await.unwrap().len(), 3);

        fixture.change(Mutation::PutGrant(GrantRow { secret: name.clone(), ..grant("g") })).await.unwrap();
        let delete =
            |expected| Mutation::DeleteSecret { tenant: local.clone(), name: name.clone(), expected };
        assert_eq!(fixture.change(delete(2)).await, Err(Lost::Changed));
        fixture.change(delete(3)).await.unwrap();
        assert_eq!(fixture.change(delete(3)).await, Err(Lost::Missing));
        let rows = fixture.reader.secret_versions(&local, &name).await.unwrap();
        assert!(rows.iter().all(|row| row.state == SecretState::Destroyed && row.sealed.is_empty()));
        assert_eq!(fixture.reader.secret(&local, &name).await.unwrap(), None);
        assert!(fixture.reader.all_grants(&local).await.unwrap().is_empty());

        // K02: the old row cannot become current again, for its number is never the next one.
        assert_eq!(fixture.change(put(1, None)).await, Err(Lost::Changed));
        assert_eq!(fixture.reader.last_secret_version(&local, &name).await.unwrap(), 3);
        fixture.change(put(4, None)).await.unwrap();
    }
}

#[tokio::test]
async fn k12_a_destroyed_secret_is_overwritten_in_the_file() {
    let mut fixture = Fixture::new().await;
    let sealed: Vec<u8> = b"only-this-row-holds-these-sealed-bytes".to_vec();
    let row = SecretRow { sealed: sealed.clone(), ..secret("A", 1) };
    let name = row.name.clone();
    fixture.change(Mutation::PutSecret { row, expected: None }).await.unwrap();
    let path = fixture.path();
    let found = |path: &std::path::Path| {
        std::fs::read(path).unwrap().windows(sealed.len()).any(|window| window == sealed)
    };
    assert!(found(&path.with_extension("db-wal")), "the search must find what is there");
    let delete = Mutation::DeleteSecret { tenant: Tenant::local(), name, expected: 1 };
    fixture.change(delete).await.unwrap();
    crate::fixture::sql(&path, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    assert!(!found(&path) && !found(&path.with_extension("db-wal")));
}

#[tokio::test]
async fn a_tool_is_replaced_approved_and_removed_by_who_saw_it() {
    for mut fixture in Fixture::both().await {
        let local = Tenant::local();
        let (old, new) = (tool(b"old"), tool(b"new"));
        let install = |row: &ToolRow, expected| Mutation::InstallTool { row: row.clone(), expected };
        let state = |digest, from, to| Mutation::SetToolState {
            tenant: Tenant::local(),
            name: ToolName::parse("weather").unwrap(),
            digest,
            from,
            to,
        };
        assert_eq!(fixture.change(install(&new, Some(old.digest))).await, Err(Lost::Changed));
        fixture.change(install(&old, None)).await.unwrap();
        assert_eq!(fixture.change(install(&new, None)).await, Err(Lost::Exists));
        fixture.change(state(old.digest, ToolState::Pending, ToolState::Approved)).await.unwrap();
        fixture.change(install(&new, Some(old.digest))).await.unwrap();

        // Whoever approves what was replaced meanwhile approves nothing.
        let late = state(old.digest, ToolState::Pending, ToolState::Approved);
        assert_eq!(fixture.change(late).await, Err(Lost::Changed));
        let twice = state(new.digest, ToolState::Approved, ToolState::Suspended);
        assert_eq!(fixture.change(twice).await, Err(Lost::Changed));
        assert_eq!(fixture.reader.tool(&local, &new.name).await.unwrap(), Some(new.clone()));

        fixture.change(Mutation::PutGrant(grant("g"))).await.unwrap();
        let remove = Mutation::RemoveTool { tenant: local.clone(), name: new.name.clone() };
        fixture.change(remove.clone()).await.unwrap();
        assert_eq!(fixture.change(remove).await, Err(Lost::Missing));
        assert!(fixture.reader.all_grants(&local).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_approval_is_answered_once_used_once_and_in_time() {
    for mut fixture in Fixture::both().await {
        let row = approval();
        let answer = |from, to| Mutation::Answer { tenant: Tenant::local(), id: row.id, from, to };
        use ApprovalState::{Approved, Denied, Expired, Used, Waiting};
        assert_eq!(fixture.change(answer(Waiting, Approved)).await, Err(Lost::Missing));
        fixture.change(Mutation::Hold(row.clone())).await.unwrap();
        assert_eq!(fixture.change(Mutation::Hold(row.clone())).await, Err(Lost::Exists));
        fixture.change_at(answer(Waiting, Approved), 1_999).await.unwrap();
        assert_eq!(fixture.change_at(answer(Waiting, Denied), 1_999).await, Err(Lost::Changed));
        assert_eq!(fixture.change_at(answer(Approved, Used), 2_000).await, Err(Lost::Expired));
        fixture.change_at(answer(Approved, Used), 1_999).await.unwrap();
        assert_eq!(fixture.change_at(answer(Approved, Used), 1_999).await, Err(Lost::Changed));

        let late = ApprovalRow { id: FindingId::new(), ..row };
        fixture.change(Mutation::Hold(late.clone())).await.unwrap();
        let expire = Mutation::Answer { tenant: Tenant::local(), id: late.id, from: Waiting, to: Expired };
        fixture.change_at(expire, 9_999).await.unwrap();
        assert_eq!(fixture.reader.approval(&Tenant::local(), late.id).await.unwrap().unwrap().state, Expired);
    }
}

#[tokio::test]
async fn a08_what_is_over_is_neither_listed_nor_kept() {
    for mut fixture in Fixture::both().await {
        let local = Tenant::local();
        use ApprovalState::{Denied, Expired, Waiting};
        let [asked, denied, found, left] = ["request", "call", "finding", "request"]
            .map(|kind| ApprovalRow { id: FindingId::new(), kind: kind.to_owned(), ..approval() });
        for row in [&asked, &denied, &found, &left] {
            fixture.change(Mutation::Hold(row.clone())).await.unwrap();
        }
        for (row, to) in [(&denied, Denied), (&left, Expired)] {
            let end = Mutation::Answer { tenant: local.clone(), id: row.id, from: Waiting, to };
            fixture.change_at(end, 1_500).await.unwrap();
            let ended = fixture.reader.approval(&local, row.id).await.unwrap().unwrap();
            assert_eq!((ended.state, ended.card.as_str()), (to, ""));
        }
        let ids = |rows: Vec<ApprovalRow>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
        let waiting = |now, limit| fixture.reader.approvals_waiting(&local, now, limit);
        let mut both = vec![asked.id, found.id];
        both.sort();
        assert_eq!(ids(waiting(1_999, 10).await.unwrap()), both);
        assert_eq!(ids(waiting(1_999, 1).await.unwrap()), both[..1]);
        assert!(waiting(2_000, 10).await.unwrap().is_empty());
        assert_eq!(fixture.reader.approvals_of(&local, asked.digest).await.unwrap().len(), 4);
        assert!(fixture.reader.approvals_of(&local, Digest::of(b"other")).await.unwrap().is_empty());
        // Within a day of its end it can still be asked for; after that only what nobody has seen is left.
        let late = |created_ms| ApprovalRow {
            id: FindingId::new(),
            created_ms,
            expires_ms: created_ms + 1_000,
            ..approval()
        };
        let day = 24 * 3600 * 1000;
        fixture.change(Mutation::Hold(late(day + 2_000))).await.unwrap();
        assert_eq!(fixture.reader.approvals(&local).await.unwrap().len(), 5);
        let last = late(day + 2_001);
        fixture.change(Mutation::Hold(last.clone())).await.unwrap();
        let kept = fixture.reader.approvals(&local).await.unwrap();
        assert_eq!(kept.len(), 3, "{kept:?}");
        assert!(kept.iter().any(|row| row.id == found.id) && kept.iter().any(|row| row.id == last.id));
    }
}

#[tokio::test]
async fn a_budget_is_charged_whole_or_not_at_all() {
    for mut fixture in Fixture::both().await {
        let spend = |calls, cost| Mutation::Spend {
            tenant: Tenant::local(),
            day: 20_000,
            charges: vec![
                Charge { meter: Meter::Calls, amount: calls, limit: 10 },
                Charge { meter: Meter::Cost, amount: cost, limit: u64::MAX },
            ],
        };
        fixture.change(spend(9, 5)).await.unwrap();
        let lost = Lost::Budget { meter: Meter::Calls, spent: 9, limit: 10 };
        assert_eq!(fixture.change(spend(2, 5)).await, Err(lost));
        assert_eq!(fixture.change(spend(11, 0)).await, Err(lost));
        let lost = Lost::Budget { meter: Meter::Cost, spent: 5, limit: u64::MAX };
        assert_eq!(fixture.change(spend(1, u64::MAX)).await, Err(lost));
        assert_eq!(fixture.change(spend(1, i64::MAX as u64)).await, Err(lost));
        fixture.change(spend(1, 0)).await.unwrap();
        let spent = fixture.reader.spending(&Tenant::local(), 20_000).await.unwrap();
        assert_eq!(spent, [(Meter::Calls, 10), (Meter::Cost, 5)]);
        assert!(fixture.reader.spending(&Tenant::local(), 20_001).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_was_used_takes_the_place_of_what_was_charged() {
    let mut fixture = Fixture::new().await;
    let charges = vec![Charge { meter: Meter::Tokens, amount: 100, limit: 250 }];
    let spend = Mutation::Spend { tenant: Tenant::local(), day: 20_000, charges };
    let settle = |day, charged, used| Mutation::Settle {
        tenant: Tenant::local(),
        day,
        uses: vec![Use { meter: Meter::Tokens, charged, used }],
    };
    let spent =
        async |fixture: &Fixture| fixture.reader.spending(&Tenant::local(), 20_000).await.unwrap()[0].1;
    fixture.change(spend.clone()).await.unwrap();
    fixture.change(spend.clone()).await.unwrap();
    for (charged, used, left) in [(100, 40, 140), (100, 160, 200), (0, u64::MAX, i64::MAX as u64)] {
        fixture.change(settle(20_000, charged, used)).await.unwrap();
        assert_eq!(spent(&fixture).await, left);
    }
    assert!(matches!(fixture.change(spend).await, Err(Lost::Budget { .. })));
    fixture.change(settle(20_000, u64::MAX, 7)).await.unwrap();
    assert_eq!(spent(&fixture).await, 7);
    assert_eq!(fixture.change(settle(20_001, 1, 1)).await, Err(Lost::Missing));
}

#[tokio::test]
async fn a_change_that_the_schema_refuses_is_lost_alone() {
    for mut fixture in Fixture::both().await {
        let huge = SlotRow { params: vec![0; 64 * 1024 * 1024 + 1], ..slot("huge") };
        let mut batch = fixture.writer.begin().await.unwrap();
        let record = |seq| store::NewRecord {
            seq,
            record: b"r",
            chain: &[0; 32],
            refusal: None,
            claim: None,
            at_ms: 0,
        };
        let outcome = batch.append(record(1), Some(&Mutation::AddSlot(huge))).await.unwrap();
        assert_eq!(outcome, Err(Lost::Invalid));
        batch.append(record(1), Some(&Mutation::AddSlot(slot("a")))).await.unwrap().unwrap();
        batch.commit().await.unwrap();
        assert_eq!(fixture.records().await, 1);
    }
}
