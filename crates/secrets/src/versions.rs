//! The life of a version: in use, previous, disabled, destroyed. Versions are immutable; what changes is
//! which of them is in use, by one compare-and-swap that the log tells of ([`crate::head`]).

use ::store::{Lost, Mutation, SecretRow, SecretState, StateChange};
use ::types::SecretName;
use audit::Seq;

use crate::error::VaultError;
use crate::store::Vault;

impl Vault {
    /// Keeps the version in use from being injected, until it is enabled again.
    pub async fn disable(&self, name: &SecretName) -> Result<Seq, VaultError> {
        self.toggle(name, SecretState::Current, SecretState::Disabled).await
    }

    /// Lets the version in use be injected again.
    pub async fn enable(&self, name: &SecretName) -> Result<Seq, VaultError> {
        self.toggle(name, SecretState::Disabled, SecretState::Current).await
    }

    /// Puts the previous version in use again; the one in use becomes the previous one. Returns the
    /// version now in use.
    pub async fn rollback(&self, name: &SecretName) -> Result<i64, VaultError> {
        let rows = self.versions(name).await?;
        let head = self.head(name).await?;
        let in_use = in_use(name, &rows)?;
        self.agreed(name, Some((in_use.version, in_use.state)), head)?;
        let previous = rows.iter().find(|row| row.state == SecretState::Previous);
        let previous = previous.ok_or_else(|| VaultError::NoVersion(name.clone()))?;
        // It must open before anything depends on it.
        self.open_row(previous)?;
        let changes = vec![
            StateChange { version: in_use.version, from: in_use.state, to: SecretState::Previous },
            StateChange { version: previous.version, from: SecretState::Previous, to: SecretState::Current },
        ];
        let next = head.next(previous.version, SecretState::Current);
        let what = Some(format!("rolled back from version {}", in_use.version));
        self.change(name, next, what, self.states(name, changes)).await?;
        Ok(previous.version)
    }

    /// Destroys one version that is not in use: its sealed bytes are overwritten. Copies of the database
    /// from before still hold them, sealed.
    pub async fn destroy(&self, name: &SecretName, version: i64) -> Result<Seq, VaultError> {
        let rows = self.versions(name).await?;
        let head = self.head(name).await?;
        let row = rows.iter().find(|row| row.version == version && row.state != SecretState::Destroyed);
        let row = row.ok_or_else(|| VaultError::NoVersion(name.clone()))?;
        if row.state != SecretState::Previous {
            return Err(VaultError::InUse { name: name.clone(), version });
        }
        let changes = vec![StateChange { version, from: row.state, to: SecretState::Destroyed }];
        let next = head.next(head.version, head.state);
        let what = Some(format!("version {version} destroyed"));
        self.change(name, next, what, self.states(name, changes)).await
    }

    /// Destroys every version of a secret and takes every grant of it back. `expected` is the version in
    /// use.
    pub async fn delete(&self, name: &SecretName, expected: i64) -> Result<Seq, VaultError> {
        // On record one by one, so that none of them comes back with a restored row.
        for grant in self.reader.all_grants(&self.tenant).await? {
            if grant.secret == *name {
                match self.revoke(&grant.id).await {
                    Ok(_) | Err(VaultError::NoGrant) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let next = self.head(name).await?.next(expected, SecretState::Destroyed);
        let change = Mutation::DeleteSecret { tenant: self.tenant.clone(), name: name.clone(), expected };
        self.change(name, next, None, change).await.map_err(|error| match error {
            VaultError::Lost { name, lost: Lost::Missing } => VaultError::NoSecret(name),
            other => other,
        })
    }

    async fn toggle(&self, name: &SecretName, from: SecretState, to: SecretState) -> Result<Seq, VaultError> {
        let rows = self.versions(name).await?;
        let version = in_use(name, &rows)?.version;
        let next = self.head(name).await?.next(version, to);
        self.change(name, next, None, self.states(name, vec![StateChange { version, from, to }])).await
    }

    async fn versions(&self, name: &SecretName) -> Result<Vec<SecretRow>, VaultError> {
        Ok(self.reader.secret_versions(&self.tenant, name).await?)
    }

    fn states(&self, name: &SecretName, changes: Vec<StateChange>) -> Mutation {
        Mutation::SetSecretStates { tenant: self.tenant.clone(), name: name.clone(), changes }
    }
}

fn in_use<'a>(name: &SecretName, rows: &'a [SecretRow]) -> Result<&'a SecretRow, VaultError> {
    let used = |row: &&SecretRow| matches!(row.state, SecretState::Current | SecretState::Disabled);
    rows.iter().find(used).ok_or_else(|| VaultError::NoSecret(name.clone()))
}
