//! The key that seals the audit log, in a slot of its own: sealed under the tenant's key, apart from every secret by
//! its purpose, and kept in a record of the log.
//!
//! So it lies nowhere in clear, every node of an installation has it with the database, and whoever opens the
//! vault can seal. Each key is a record that claims the next number; which one is in force the log says itself, by its
//! handovers. Tenants share a log and so the numbers, and one of them keeps the key: what another tenant's vault sealed
//! is passed over. What comes out of here signs, and shows nothing of itself.

use ::store::{AuditRow, Mutation};
use ::types::{Field, Kind, Record, Verdict};
use audit::Log;
use audit::checkpoint::{Signer, seed};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::crypto::{CryptoError, OpenError, Place, Purpose};
use crate::error::VaultError;
use crate::store::Vault;

/// What keys of the log claim: everything from the first text up to, not including, the second.
const CLAIMS: (&str, &str) = ("log-key/", "log-key0");

impl Vault {
    /// The key that seals the log now: the one that it was handed over to, or the first. `None` where this vault
    /// holds no such key.
    pub async fn log_signer(&self) -> Result<Option<Signer>, VaultError> {
        let in_force = Log::new(self.reader.clone()).handovers().await?.pop().map(|handover| handover.to);
        for row in self.reader.claims(CLAIMS.0, CLAIMS.1).await? {
            match self.open_log_key(&row) {
                Ok(signer) if in_force.as_ref().is_none_or(|key| key == signer.verifier()) => {
                    return Ok(Some(signer));
                }
                Ok(_) | Err(OpenError::Binding) => {}
                Err(error) => return Err(VaultError::LogKey(error)),
            }
        }
        Ok(None)
    }

    /// Makes the first key. Of several processes that do so at once one does, and all get that one.
    pub async fn first_log_key(&self) -> Result<Signer, VaultError> {
        let seed = seed().map_err(|_| CryptoError)?;
        self.keep_log_key(&*seed).await
    }

    /// Keeps a key of 32 bytes that was made elsewhere as the first one; the one that is the first then.
    pub async fn keep_log_key(&self, seed: &[u8]) -> Result<Signer, VaultError> {
        match self.keep(seed, 1).await {
            Err(VaultError::Changed(lost)) => self.log_signer().await?.ok_or(VaultError::Changed(lost)),
            kept => kept,
        }
    }

    /// Makes a key that is to follow the one in force.
    pub async fn next_log_key(&self) -> Result<Signer, VaultError> {
        let last = self.reader.last_claim(CLAIMS.0, CLAIMS.1).await?;
        let last = last.as_ref().and_then(number).ok_or(VaultError::LogKey(OpenError::Format))?;
        let seed = seed().map_err(|_| CryptoError)?;
        self.keep(&*seed, last + 1).await
    }

    async fn keep(&self, seed: &[u8], number: u64) -> Result<Signer, VaultError> {
        let signer = Signer::from_seed(seed).ok_or(VaultError::LogKey(OpenError::Format))?;
        let sealed = self.seal_at(&place(self.tenant.as_str(), number), seed)?;
        let record = Record::new(Kind::Vault, Verdict::Done)
            .with(Field::Actor, "owner")
            .with(Field::State, "key of the log kept")
            .with(Field::Key, signer.verifier())
            .with(Field::Sealed, BASE64.encode(sealed))
            .with(Field::Claim, format!("{}{number:020}", CLAIMS.0));
        self.audit.change(record, Mutation::Claim).await?;
        Ok(signer)
    }

    fn open_log_key(&self, row: &AuditRow) -> Result<Signer, OpenError> {
        let number = number(row).ok_or(OpenError::Format)?;
        let (_, record) = Record::decode(&row.record).map_err(|_| OpenError::Format)?;
        let sealed = record.field(Field::Sealed).and_then(|text| BASE64.decode(text).ok());
        let place = place(self.tenant.as_str(), number);
        let seed = self.unseal_at(&place, &sealed.ok_or(OpenError::Format)?)?;
        Signer::from_seed(&seed).ok_or(OpenError::Format)
    }
}

/// The number that a key of the log claims.
fn number(row: &AuditRow) -> Option<u64> {
    std::str::from_utf8(row.claim.as_ref()?).ok()?.strip_prefix(CLAIMS.0)?.parse().ok()
}

fn place(tenant: &str, number: u64) -> Place<'_> {
    Place { purpose: Purpose::LogKey, tenant, secret: "", name: b"audit-signing", version: number }
}
