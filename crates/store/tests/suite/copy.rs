//! An installation that moves from a file to a server: all of it, once, or not at all.

use store::{CopyError, Mutation};
use types::Tenant;

use crate::fixture::{Fixture, open};
use crate::mutations::{approval, grant, secret, slot, tenant_key, tool};

/// A file with a row of every kind and more records than travel together.
async fn full() -> Fixture {
    let mut fixture = Fixture::new().await;
    for mutation in [
        Mutation::InitVault { slot: slot("a"), tenant_key: tenant_key(1) },
        Mutation::PutSecret { row: secret("API_KEY", 1), expected: None },
        Mutation::PutSecret { row: secret("API_KEY", 2), expected: Some(1) },
        Mutation::InstallTool { row: tool(b"code"), expected: None },
        Mutation::Hold(approval()),
    ] {
        fixture.change(mutation).await.unwrap();
    }
    for number in 0..200 {
        fixture.change(Mutation::PutGrant(grant(&number.to_string()))).await.unwrap();
    }
    fixture
}

#[tokio::test]
async fn every_row_arrives_as_it_was_and_a_second_copy_writes_nothing() {
    let (source, target) = (full().await, Fixture::on_server().await);
    let mut seen = 0;
    let copied = store::copy(source.writer, target.writer, |rows| seen += rows).await.unwrap();
    assert!(copied.written);
    assert_eq!(copied.tables.iter().map(|(_, rows)| rows).sum::<u64>(), seen);
    let local = Tenant::local();
    let (old, new) = (&source.reader, &target.reader);
    assert_eq!(new.audit_after(0, 1000).await.unwrap(), old.audit_after(0, 1000).await.unwrap());
    assert_eq!(new.slots().await.unwrap(), old.slots().await.unwrap());
    assert_eq!(new.tenant_wraps(&local).await.unwrap(), old.tenant_wraps(&local).await.unwrap());
    let name = secret("API_KEY", 1).name;
    assert_eq!(
        new.secret_versions(&local, &name).await.unwrap(),
        old.secret_versions(&local, &name).await.unwrap()
    );
    assert_eq!(new.tools(&local).await.unwrap(), old.tools(&local).await.unwrap());
    assert_eq!(new.all_grants(&local).await.unwrap(), old.all_grants(&local).await.unwrap());
    assert_eq!(new.approvals(&local).await.unwrap(), old.approvals(&local).await.unwrap());
    assert_eq!(new.tables().await.unwrap(), old.tables().await.unwrap());

    let again = |address: String| async move { open(&address).await.unwrap().1 };
    let (from, to) = (again(source.place.address()).await, again(target.place.address()).await);
    let repeated = store::copy(from, to, |_| panic!("a row was copied twice")).await.unwrap();
    assert_eq!((repeated.written, repeated.tables), (false, copied.tables));
}

#[tokio::test]
async fn a_server_that_holds_something_else_is_left_alone() {
    let (source, mut target) = (full().await, Fixture::on_server().await);
    target.change(Mutation::AddSlot(slot("other"))).await.unwrap();
    let refused = store::copy(source.writer, target.writer, |_| {}).await;
    assert!(matches!(refused, Err(CopyError::Occupied(_))), "{refused:?}");
    assert_eq!(target.reader.audit_after(0, 10).await.unwrap().len(), 1);
    let refused = store::copy(Fixture::on_server().await.writer, Fixture::new().await.writer, |_| {}).await;
    assert_eq!(refused, Err(CopyError::Direction));
}

#[tokio::test]
async fn k15_a_copy_that_is_interrupted_leaves_nothing_and_can_be_repeated() {
    let (source, target) = (full().await, Fixture::on_server().await);
    let database = target.database().clone();
    let address = target.place.address();
    let mut cut = Some(move || {
        database.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
        )
    });
    let interrupted = store::copy(source.writer, target.writer, |_| drop(cut.take().map(|cut| cut()))).await;
    assert!(matches!(interrupted, Err(CopyError::Store(_))), "{interrupted:?}");
    assert!(target.reader.audit_after(0, 10).await.unwrap().is_empty());
    let (_, from) = open(&source.place.address()).await.unwrap();
    let (_, to) = open(&address).await.unwrap();
    assert!(store::copy(from, to, |_| {}).await.unwrap().written);
    assert_eq!(target.reader.tables().await.unwrap(), source.reader.tables().await.unwrap());
}
