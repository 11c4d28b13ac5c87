//! What is read back is parsed again: a row that this program does not write is an error, and an
//! audit record is handed on for verification to name.

use store::{LeaseQuestion, Lost, NewRecord, StoreError};
use types::{Digest, SecretName, Tenant};

use crate::fixture::{Fixture, sql};
use crate::mutations::{approval, grant, secret, slot, tenant_key, tool};
use store::Mutation;

#[tokio::test]
async fn rows_come_back_as_they_were_put() {
    for mut fixture in Fixture::both().await {
        let local = Tenant::local();
        let (slot, key, secret, tool) = (slot("a"), tenant_key(1), secret("API_KEY", 1), tool(b"code"));
        let (grant, approval) = (grant("g1"), approval());
        let approval_id = approval.id;
        for mutation in [
            Mutation::InitVault { slot: slot.clone(), tenant_key: key.clone() },
            Mutation::PutSecret { row: secret.clone(), expected: None },
            Mutation::InstallTool { row: tool.clone(), expected: None },
            Mutation::PutGrant(grant.clone()),
            Mutation::Hold(approval.clone()),
        ] {
            fixture.change(mutation).await.unwrap();
        }
        let reader = &fixture.reader;
        assert_eq!(reader.slots().await.unwrap(), [slot]);
        assert_eq!(reader.tenant_wraps(&local).await.unwrap(), [key]);
        assert_eq!(reader.secrets(&local).await.unwrap(), vec![secret.clone()]);
        assert_eq!(reader.secret(&local, &secret.name).await.unwrap(), Some(secret));
        assert_eq!(reader.tools(&local).await.unwrap(), vec![tool.clone()]);
        assert_eq!(reader.tool(&local, &tool.name).await.unwrap(), Some(tool.clone()));
        assert_eq!(reader.grants(&local, &tool.name).await.unwrap(), vec![grant.clone()]);
        assert_eq!(reader.all_grants(&local).await.unwrap(), [grant]);
        assert_eq!(reader.approvals(&local).await.unwrap(), vec![approval.clone()]);
        assert_eq!(reader.approval(&local, approval_id).await.unwrap(), Some(approval));

        // Nobody else's.
        let other = Tenant::parse("other").unwrap();
        assert_eq!(reader.tenant_wraps(&other).await.unwrap(), []);
        assert!(reader.secrets(&other).await.unwrap().is_empty());
        assert!(reader.tools(&other).await.unwrap().is_empty());
        assert!(reader.all_grants(&other).await.unwrap().is_empty());
        assert!(reader.approvals(&other).await.unwrap().is_empty());
        assert_eq!(reader.approval(&other, approval_id).await.unwrap(), None);
    }
}

/// Rows that both databases take, and that this program does not write.
const DAMAGE: &[(&str, &str)] = &[
    ("UPDATE tool SET name = '../etc'", "tool"),
    ("UPDATE tool SET installed_ms = -1", "tool"),
    ("UPDATE secret SET name = 'A B'", "secret"),
    ("UPDATE tool_grant SET secret = ''", "tool_grant"),
    ("UPDATE approval SET expires_ms = -5", "approval"),
    ("UPDATE key_slot SET created_ms = -5", "key_slot"),
];

/// Values of a type that only SQLite keeps in the column.
const CONFUSION: &[(&str, &str)] = &[
    ("UPDATE tool SET manifest = x'ff'", "tool"),
    ("UPDATE secret SET sealed = 7", "secret"),
    ("UPDATE secret SET version = 'seven'", "secret"),
    ("UPDATE tool_grant SET mac = 7", "tool_grant"),
    ("UPDATE key_slot SET generation = 1.5", "key_slot"),
    ("UPDATE tenant_key SET wrapped = 1.5", "tenant_key"),
];

#[tokio::test]
async fn k03_a_row_of_another_shape_is_damage_not_data() {
    for (change, table) in DAMAGE {
        for fixture in Fixture::both().await {
            damage(fixture, change, table).await;
        }
    }
    for (change, table) in CONFUSION {
        damage(Fixture::new().await, change, table).await;
    }
}

async fn damage(mut fixture: Fixture, change: &str, table: &'static str) {
    let local = Tenant::local();
    for mutation in [
        Mutation::InitVault { slot: slot("a"), tenant_key: tenant_key(1) },
        Mutation::PutSecret { row: secret("API_KEY", 1), expected: None },
        Mutation::InstallTool { row: tool(b"code"), expected: None },
        Mutation::PutGrant(grant("g1")),
        Mutation::Hold(approval()),
    ] {
        fixture.change(mutation).await.unwrap();
    }
    fixture.place.sql(change).await;
    let reader = &fixture.reader;
    let error = match table {
        "tool" => reader.tools(&local).await.map(drop),
        "secret" => reader.secrets(&local).await.map(drop),
        "tool_grant" => reader.all_grants(&local).await.map(drop),
        "approval" => reader.approvals(&local).await.map(drop),
        "key_slot" => reader.slots().await.map(drop),
        _ => reader.tenant_wraps(&local).await.map(drop),
    };
    assert_eq!(error, Err(StoreError::Damaged(table)), "{change}");
}

#[tokio::test]
async fn l01_a_record_of_another_shape_is_handed_on_as_one_that_cannot_be_good() {
    for (change, seq, record, chain, refusal) in [
        ("UPDATE audit_record SET record = 'text'", 1, 4, 32, None),
        ("UPDATE audit_record SET record = 7", 1, 1, 32, None),
        ("UPDATE audit_record SET record = zeroblob(1000000)", 1, 65_536, 32, None),
        ("UPDATE audit_record SET chain = '12345678901234567890123456789012'", 1, 8, 0, None),
        ("UPDATE audit_record SET refusal = '1234567890123456'", 1, 8, 32, Some(0)),
        ("UPDATE audit_record SET seq = 'nine'", -1, 8, 32, None),
    ] {
        let mut fixture = Fixture::new().await;
        fixture.change(Mutation::AddSlot(slot("a"))).await.unwrap();
        sql(&fixture.path(), &format!("PRAGMA ignore_check_constraints = on; {change}")).await;
        let rows = fixture.reader.audit_after(i64::MIN, 10).await.unwrap();
        let found = (rows[0].seq, rows[0].record.len(), rows[0].chain.len());
        assert_eq!(found, (seq, record, chain), "{change}");
        assert_eq!(rows[0].refusal.as_ref().map(Vec::len), refusal, "{change}");
        assert_eq!(fixture.reader.audit_last(1).await.unwrap(), rows);
    }
}

#[tokio::test]
async fn rows_with_sealed_bytes_do_not_print_them() {
    let shown = format!("{:?} {:?} {:?} {:?}", slot("a"), tenant_key(1), secret("API_KEY", 1), grant("g"));
    assert!(shown.contains("API_KEY"));
    assert!(!shown.contains("222, 173"), "{shown}");
    let name = SecretName::parse("API_KEY").unwrap();
    assert!(format!("{:?}", tool(b"x")).contains(&Digest::of(b"x").to_string()));
    assert_eq!(name.as_str(), "API_KEY");
}

/// A record of its own, as a batch takes it.
fn record(seq: i64) -> NewRecord<'static> {
    NewRecord { seq, record: b"a record", chain: &[7; 32], refusal: None, claim: None, at_ms: 0 }
}

/// What a lease of the secret asks, which is granted to the tool.
fn question(name: &str, claim: &str) -> LeaseQuestion {
    LeaseQuestion {
        tenant: Tenant::local(),
        secret: SecretName::parse(name).unwrap(),
        tool: grant("g1").tool,
        history: ("secret/".into(), "secret0".into()),
        revoked: "revoked/local/".into(),
        uses: "use/local/".into(),
        claim: claim.into(),
        permit: 1,
        known: 0,
    }
}

/// Whatever else is written in the same breath has nothing to do with it.
#[tokio::test]
async fn k03_a_damaged_row_refuses_the_lease_that_needs_it_and_nothing_else() {
    for change in
        ["UPDATE secret SET created_ms = -1 WHERE name = 'API_KEY'", "UPDATE tool_grant SET created_ms = -1"]
    {
        for mut fixture in Fixture::both().await {
            for mutation in [
                Mutation::PutSecret { row: secret("API_KEY", 1), expected: None },
                Mutation::PutSecret { row: secret("OTHER_KEY", 1), expected: None },
                Mutation::PutGrant(grant("g1")),
            ] {
                fixture.change(mutation).await.unwrap();
            }
            fixture.place.sql(change).await;
            let before = fixture.records().await as i64;
            let (damaged, whole) = (question("API_KEY", "lease/1"), question("OTHER_KEY", "lease/2"));
            let mut batch = fixture.writer.begin_with(&[&damaged, &whole]).await.unwrap();
            assert_eq!(batch.lease_view(&damaged).await.unwrap(), Err(Lost::Unjudged), "{change}");
            assert!(batch.lease_view(&whole).await.unwrap().unwrap().secret.is_some());
            batch.append(record(before + 1), None).await.unwrap().unwrap();
            // Asked once more, when what was told at the beginning is no longer good.
            assert_eq!(batch.lease_view(&damaged).await.unwrap(), Err(Lost::Unjudged), "{change}");
            batch.commit().await.unwrap();
            assert_eq!(fixture.records().await as i64, before + 1);
        }
    }
}
