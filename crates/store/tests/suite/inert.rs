//! K17: SQL in every string that a user can choose.

use store::{Lost, Mutation, SlotRow};
use types::Tenant;

use crate::fixture::Fixture;
use crate::mutations::{approval, grant, slot, tenant_key, tool};

const HOSTILE: &[&str] = &[
    "'; DROP TABLE audit_record; --",
    "' OR '1'='1",
    "\"; DELETE FROM tool; --",
    "$1",
    "?1",
    "x'); ATTACH DATABASE '/tmp/x' AS x; --",
    "%",
    "_",
    "\u{202e}",
    "",
];

#[tokio::test]
async fn k17_sql_in_every_string_is_stored_as_it_is() {
    for hostile in HOSTILE {
        for mut fixture in Fixture::both().await {
            let slot = SlotRow { id: (*hostile).to_owned(), kind: (*hostile).to_owned(), ..slot("a") };
            let mut tool = tool(b"code");
            tool.manifest = (*hostile).to_owned();
            let mut grant = grant(hostile);
            grant.body = hostile.as_bytes().to_vec();
            let mut approval = approval();
            approval.card = (*hostile).to_owned();
            approval.kind = (*hostile).to_owned();
            for mutation in [
                Mutation::InitVault { slot: slot.clone(), tenant_key: tenant_key(1) },
                Mutation::InstallTool { row: tool.clone(), expected: None },
                Mutation::PutGrant(grant.clone()),
                Mutation::Hold(approval.clone()),
            ] {
                fixture.change(mutation).await.unwrap();
            }
            let local = Tenant::local();
            assert_eq!(fixture.reader.slots().await.unwrap(), [slot], "{hostile:?}");
            assert_eq!(fixture.reader.tools(&local).await.unwrap(), [tool], "{hostile:?}");
            assert_eq!(fixture.reader.all_grants(&local).await.unwrap(), [grant.clone()], "{hostile:?}");
            assert_eq!(fixture.reader.approvals(&local).await.unwrap(), [approval], "{hostile:?}");
            assert_eq!(fixture.records().await, 4);

            // As a key to look up with, it finds its own row and no other.
            let other = Mutation::DeleteGrant { tenant: local.clone(), id: format!("{hostile}x") };
            assert!(fixture.change(other).await.is_err());
            fixture.change(Mutation::DeleteGrant { tenant: local.clone(), id: grant.id }).await.unwrap();
            assert!(fixture.reader.all_grants(&local).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn k17_a_nul_is_shown_to_people_and_taken_nowhere_else() {
    for mut fixture in Fixture::both().await {
        let row = SlotRow { id: "nul\0after".to_owned(), ..slot("a") };
        assert_eq!(fixture.change(Mutation::AddSlot(row)).await, Err(Lost::Invalid));
        assert_eq!(fixture.records().await, 0);
        let mut held = approval();
        held.card = "nul\0after".to_owned();
        fixture.change(Mutation::Hold(held.clone())).await.unwrap();
        held.card = "nul\u{2400}after".to_owned();
        assert_eq!(fixture.reader.approvals(&Tenant::local()).await.unwrap(), [held]);
    }
}
