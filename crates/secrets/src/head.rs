//! The head of a secret: what the audit log says about which version is in use.
//!
//! Every change of a secret is a record that claims the next number of that secret's history, says which
//! version is in use from then on and in which state, and carries a code over all of it under the tenant's
//! key. Whoever changes the rows alone contradicts the newest head (K02); whoever would write a head needs
//! the key; whoever takes the newest head away breaks the chain of the log.

use ::store::{AuditRow, SecretState};
use ::types::{Field, Kind, Record, SecretName, Tenant, Verdict};

use crate::crypto;
use crate::key::Key;

/// What the newest record of a secret's history says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// Counts the changes of this secret from 1.
    pub(crate) generation: u64,
    /// The version in use; 0 once all are destroyed.
    pub(crate) version: i64,
    /// `Current`, `Disabled`, or `Destroyed` where none is in use.
    pub(crate) state: SecretState,
}

/// The newest record does not say what a head says, or not under this vault's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Forged;

/// The claims of one secret's history: everything from the first text up to, not including, the second.
pub(crate) fn claims(tenant: &Tenant, name: &SecretName) -> (String, String) {
    // '0' is the character after '/', and neither stands in a name.
    (format!("secret/{tenant}/{name}/"), format!("secret/{tenant}/{name}0"))
}

impl Head {
    /// The first head of a secret that never was.
    pub(crate) const NONE: Self = Self { generation: 0, version: 0, state: SecretState::Destroyed };

    /// The head after this one.
    pub(crate) fn next(self, version: i64, state: SecretState) -> Self {
        Self { generation: self.generation + 1, version, state }
    }

    /// What it claims. Digits of one length, so that claims are ordered like numbers.
    pub(crate) fn claim(&self, tenant: &Tenant, name: &SecretName) -> String {
        format!("{}{:020}", claims(tenant, name).0, self.generation)
    }

    /// The record that makes it the newest.
    pub(crate) fn record(&self, key: &Key, tenant: &Tenant, name: &SecretName) -> Record {
        Record::new(Kind::Secret, Verdict::Done)
            .with(Field::Actor, "owner")
            .with(Field::Secret, name)
            .with(Field::Version, self.version)
            .with(Field::State, self.state)
            .with(Field::Generation, self.generation)
            .with(Field::Claim, self.claim(tenant, name))
            .with(Field::Proof, hex(&self.proof(key, tenant, name)))
    }

    /// Reads the newest record of a history.
    pub(crate) fn read(
        row: Option<&AuditRow>,
        key: &Key,
        tenant: &Tenant,
        name: &SecretName,
    ) -> Result<Self, Forged> {
        let Some(row) = row else { return Ok(Self::NONE) };
        let (_, record) = Record::decode(&row.record).map_err(|_| Forged)?;
        let number = |field| record.field(field).and_then(|text| text.parse::<i64>().ok()).ok_or(Forged);
        let state = record.field(Field::State).and_then(SecretState::parse).ok_or(Forged)?;
        let generation = u64::try_from(number(Field::Generation)?).map_err(|_| Forged)?;
        let head = Self { generation, version: number(Field::Version)?, state };
        let claim = head.claim(tenant, name);
        let is_ours = record.kind == Kind::Secret
            && record.field(Field::Claim) == Some(claim.as_str())
            && row.claim.as_deref() == Some(claim.as_bytes())
            && unhex(record.field(Field::Proof).unwrap_or_default())
                .is_some_and(|proof| head.is_proved(key, tenant, name, &proof));
        if is_ours { Ok(head) } else { Err(Forged) }
    }

    fn proof(&self, key: &Key, tenant: &Tenant, name: &SecretName) -> Vec<u8> {
        crypto::authenticate(key, &self.parts(tenant, name, &self.numbers()))
    }

    fn is_proved(&self, key: &Key, tenant: &Tenant, name: &SecretName, proof: &[u8]) -> bool {
        crypto::is_authentic(key, &self.parts(tenant, name, &self.numbers()), proof)
    }

    fn numbers(&self) -> [u8; 16] {
        let mut numbers = [0; 16];
        numbers[..8].copy_from_slice(&self.generation.to_be_bytes());
        numbers[8..].copy_from_slice(&self.version.to_be_bytes());
        numbers
    }

    /// Begins with a word that no grant's parts begin with: both are authenticated under one key.
    fn parts<'a>(&self, tenant: &'a Tenant, name: &'a SecretName, numbers: &'a [u8; 16]) -> [&'a [u8]; 5] {
        let state = self.state.as_str().as_bytes();
        [b"/head", tenant.as_str().as_bytes(), name.as_str().as_bytes(), numbers, state]
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.bytes().map(|byte| (byte as char).to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Key::from_slice(&[byte; 32]).unwrap()
    }

    fn row(record: &Record) -> AuditRow {
        let claim = record.field(Field::Claim).map(|claim| claim.as_bytes().to_vec());
        AuditRow { seq: 1, record: record.encode(0), chain: vec![0; 32], refusal: None, claim }
    }

    #[test]
    fn a_head_reads_itself_back_and_nothing_else_does() {
        let (tenant, name) = (Tenant::local(), SecretName::parse("A_KEY").unwrap());
        let head = Head::NONE.next(3, SecretState::Current);
        let record = head.record(&key(1), &tenant, &name);
        let read = |row: &AuditRow, byte, name: &SecretName| Head::read(Some(row), &key(byte), &tenant, name);
        assert_eq!(read(&row(&record), 1, &name), Ok(head));
        assert_eq!(Head::read(None, &key(1), &tenant, &name), Ok(Head::NONE));
        assert_eq!(read(&row(&record), 2, &name), Err(Forged), "another key");
        assert_eq!(read(&row(&record), 1, &SecretName::parse("B_KEY").unwrap()), Err(Forged));
        let unclaimed = AuditRow { claim: None, ..row(&record) };
        assert_eq!(read(&unclaimed, 1, &name), Err(Forged));
        for (field, value) in [(Field::Version, "2"), (Field::State, "disabled"), (Field::Generation, "2")] {
            let mut changed = Record::new(Kind::Secret, Verdict::Done);
            for (name, old) in record.fields() {
                changed = changed.with(*name, if *name == field { value } else { old });
            }
            assert_eq!(read(&row(&changed), 1, &name), Err(Forged), "{field}");
        }
    }

    #[test]
    fn claims_of_a_secret_are_in_its_range_and_ordered() {
        let (tenant, name) = (Tenant::local(), SecretName::parse("A_KEY").unwrap());
        let (low, high) = claims(&tenant, &name);
        let claim =
            |generation| Head { generation, version: 1, state: SecretState::Current }.claim(&tenant, &name);
        assert!(claim(9) < claim(10) && low < claim(1) && claim(u64::MAX) < high);
        for other in ["A_KEY2", "A_KE", "A_KEY_", "B"] {
            let other =
                Head::NONE.next(1, SecretState::Current).claim(&tenant, &SecretName::parse(other).unwrap());
            assert!(!(low.as_str()..high.as_str()).contains(&other.as_str()), "{other}");
        }
    }
}
