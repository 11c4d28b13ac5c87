//! Rows that come back from a copy of the database, and the life of versions: what the log tells of
//! decides, not what the rows say (K02, K18, K19).

use secrets::{Leases, VaultError};
use store::{Mutation, SecretState, StateChange};
use types::{Field, Grant, Kind, Record, Refusal, Tenant, Verdict};

use crate::fixture::{SECRET, World, name, plain, random_value};

const URL: &str = "https://api.weather.example/v1/now";

async fn lease(world: &World) -> Result<Leases, Refusal> {
    world.vault.lease(&world.permit("GET", URL).await, &world.safety).await
}

fn rule<T>(outcome: Result<T, Refusal>) -> &'static str {
    outcome.err().map(|refusal| refusal.rule.id).unwrap_or("not refused")
}

/// A change behind the vault's back: recorded, since nothing else reaches the database, but not as the
/// vault records it.
async fn behind(world: &World, mutation: Mutation) {
    world.audit.change(Record::new(Kind::Secret, Verdict::Done), mutation).await.unwrap();
}

async fn states(world: &World, changes: &[(i64, SecretState, SecretState)]) {
    let changes =
        changes.iter().map(|(version, from, to)| StateChange { version: *version, from: *from, to: *to });
    let (tenant, name) = (Tenant::local(), name(SECRET));
    behind(world, Mutation::SetSecretStates { tenant, name, changes: changes.collect() }).await;
}

#[tokio::test]
async fn k02_an_old_version_that_is_put_back_is_found_also_by_a_new_process() {
    use SecretState::{Current, Previous};
    for world in World::both().await {
        world.vault.put(&name(SECRET), plain(&random_value()), Some(1)).await.unwrap();
        assert!(lease(&world).await.is_ok());
        states(&world, &[(2, Current, Previous), (1, Previous, Current)]).await;
        assert_eq!(rule(lease(&world).await), "vault.rolled-back");
        let fresh = world.home.vault().await;
        let permit = world.permit("GET", URL).await;
        assert_eq!(rule(fresh.lease(&permit, &world.safety).await), "vault.rolled-back");
        assert!(matches!(fresh.check().await, Err(VaultError::RolledBack { found: 1, .. })));
        assert!(world.is_recorded(Kind::Unseal, Verdict::Block, "vault.rolled-back").await);
    }
}

#[tokio::test]
async fn k18_a_disabled_or_destroyed_secret_that_is_put_back_is_found() {
    use SecretState::{Current, Disabled};
    for world in World::both().await {
        world.vault.disable(&name(SECRET)).await.unwrap();
        assert_eq!(rule(lease(&world).await), "vault.secret-missing");
        states(&world, &[(1, Disabled, Current)]).await;
        assert_eq!(
            rule(world.home.vault().await.lease(&world.permit("GET", URL).await, &world.safety).await),
            "vault.rolled-back"
        );
        states(&world, &[(1, Current, Disabled)]).await;
        world.vault.enable(&name(SECRET)).await.unwrap();
        assert!(lease(&world).await.is_ok());

        let old = world.reader.secret(&Tenant::local(), &name(SECRET)).await.unwrap().unwrap();
        let grant = world.reader.all_grants(&Tenant::local()).await.unwrap().remove(0);
        world.vault.delete(&name(SECRET), 1).await.unwrap();
        let row = &world.reader.secret_versions(&Tenant::local(), &name(SECRET)).await.unwrap()[0];
        assert!(row.state == SecretState::Destroyed && row.sealed.is_empty());
        // Both rows again, as in last night's copy.
        let back = store::SecretRow { version: 2, ..old };
        behind(&world, Mutation::PutSecret { row: back, expected: None }).await;
        behind(&world, Mutation::PutGrant(grant)).await;
        assert_eq!(rule(lease(&world).await), "vault.grant-revoked");
        // Nor with a grant that is good.
        world.vault.grant(&world.grant).await.unwrap();
        assert_eq!(
            rule(world.home.vault().await.lease(&world.permit("GET", URL).await, &world.safety).await),
            "vault.rolled-back"
        );
    }
}

#[tokio::test]
async fn k19_a_grant_that_was_taken_back_stays_so_whatever_the_rows_say() {
    for world in World::both().await {
        let grant = world.reader.all_grants(&Tenant::local()).await.unwrap().remove(0);
        world.vault.revoke(&world.grant_id).await.unwrap();
        behind(&world, Mutation::PutGrant(grant.clone())).await;
        assert!(world.vault.grants().await.unwrap()[0].authentic);
        assert_eq!(rule(lease(&world).await), "vault.grant-revoked");
        assert_eq!(
            rule(world.home.vault().await.lease(&world.permit("GET", URL).await, &world.safety).await),
            "vault.grant-revoked"
        );
        // Taken back again, and with its secret.
        world.vault.revoke(&grant.id).await.unwrap();
        assert!(world.reader.all_grants(&Tenant::local()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn k19_uses_are_counted_by_the_log_and_a_bounded_grant_ends() {
    for world in World::both().await {
        let row = world.reader.all_grants(&Tenant::local()).await.unwrap().remove(0);
        world.vault.revoke(&world.grant_id).await.unwrap();
        let bounded = Grant { max_uses: Some(3), ..world.grant.clone() };
        let id = world.vault.grant(&bounded).await.unwrap();
        assert_ne!(id, row.id);
        for _ in 0..3 {
            assert!(lease(&world).await.is_ok());
        }
        assert_eq!(rule(lease(&world).await), "vault.grant-used-up");
        // The row as it was before its first use is the row as it is now.
        world.tamper(|_| {}).await;
        assert_eq!(
            rule(world.home.vault().await.lease(&world.permit("GET", URL).await, &world.safety).await),
            "vault.grant-used-up"
        );
        let of = |entry: &audit::Entry| entry.record.field(Field::State) == Some("used");
        let log = audit::Log::new(world.reader.clone()).tail(100).await.unwrap();
        assert_eq!(log.iter().filter(|entry| of(entry)).count(), 3);
    }
}

#[tokio::test]
async fn versions_are_rolled_back_disabled_and_destroyed_each_on_record() {
    for world in World::both().await {
        let key = name(SECRET);
        world.vault.put(&key, plain(&random_value()), Some(1)).await.unwrap();
        assert_eq!(world.vault.rollback(&key).await.unwrap(), 1);
        assert!(lease(&world).await.is_ok());
        assert_eq!(world.vault.rollback(&key).await.unwrap(), 2);
        assert!(matches!(world.vault.destroy(&key, 2).await, Err(VaultError::InUse { version: 2, .. })));
        world.vault.destroy(&key, 1).await.unwrap();
        assert!(matches!(world.vault.destroy(&key, 1).await, Err(VaultError::NoVersion(_))));
        assert!(matches!(world.vault.rollback(&key).await, Err(VaultError::NoVersion(_))));
        assert!(lease(&world).await.is_ok());
        world.vault.put(&key, plain(&random_value()), Some(2)).await.unwrap();
        let rows = world.reader.secret_versions(&Tenant::local(), &key).await.unwrap();
        let states: Vec<SecretState> = rows.iter().map(|row| row.state).collect();
        assert_eq!(states, [SecretState::Destroyed, SecretState::Previous, SecretState::Current]);
        assert!(rows[0].sealed.is_empty());
        assert_eq!(world.home.vault().await.check().await.unwrap(), 2);
        audit::Log::new(world.reader.clone()).verify().await.unwrap();
    }
}
