//! Sealed bytes: AES-256-GCM under a key that HKDF-SHA256 derives for this one use.
//!
//! ```text
//! sealed  = head ciphertext tag[16]
//! head    = format[1] algorithm[1] generation[4] expires_ms[8] salt[32] commitment[32]
//! place   = purpose[1] tenant secret name version[8]            texts behind 4-byte lengths
//! 64 bytes = HKDF-SHA256(key, salt, head up to the salt, place) = encryption key, commitment
//! AES-256-GCM(encryption key, nonce 0, plain, associated data = head place)
//! ```
//!
//! - The salt is random for every seal, so that every encryption key is used once; the nonce can
//!   then be constant (NIST SP 800-38D asks for uniqueness under one key), and no number of seals
//!   comes near a birthday bound.
//! - AES-GCM alone can be opened under two keys. The commitment names the one key and the one place
//!   (HKDF with SHA-256 is collision resistant), and is compared in constant time before anything
//!   is decrypted. So a wrong key or a row that was moved ([`OpenError::Binding`]) and altered data
//!   ([`OpenError::Altered`]) are told apart.
//! - Format and key generation come first, so that a reader knows which key to fetch.
//! - `expires_ms` is when the value ends, 0 for never. It goes into the key and the associated data, so that
//!   whoever moves it changes the key. Opening does not judge it: who opens may only want to look.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{hkdf, hmac, rand};
use zeroize::Zeroizing;

use crate::key::Key;

/// The layout described above.
const FORMAT: u8 = 1;
/// HKDF-SHA256 and AES-256-GCM.
const ALGORITHM: u8 = 1;
/// No expiry.
const NEVER: u64 = 0;

const SALT: usize = 32;
const COMMITMENT: usize = 32;
const TAG: usize = 16;
/// Format, algorithm, generation and expiry.
const PREFIX: usize = 1 + 1 + 4 + 8;
const HEAD: usize = PREFIX + SALT + COMMITMENT;

/// The bytes that sealing adds to a value.
pub(crate) const OVERHEAD: usize = HEAD + TAG;

/// What is sealed. No two purposes share a derived key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// The master key under a slot's key.
    MasterKey = 1,
    /// A tenant's key under the master key.
    TenantKey = 2,
    /// A secret value under the tenant's key.
    Secret = 3,
    /// The fingerprints of a secret value under the tenant's key.
    Fingerprints = 4,
    /// The key that authenticates grants, derived from the tenant's key.
    GrantKey = 5,
    /// The key of all fingerprints, derived from the tenant's key.
    FingerprintKey = 6,
    /// A slot's key, derived from a recovery code.
    RecoveryCode = 7,
    /// A slot's key, derived from a credential of the service manager.
    Credential = 8,
    /// A new master key under the one that it replaces.
    NextMasterKey = 9,
    /// A backup under the key of its passphrase.
    Backup = 10,
    /// The key of the digests of values in the audit log, derived from the tenant's key.
    DigestKey = 11,
    /// The key that seals the audit log, under the tenant's key.
    LogKey = 12,
    /// What every placeholder of the installation has in it, derived from the tenant's key.
    PlaceholderMark = 13,
}

/// Where sealed bytes belong. They open nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// What they are.
    pub(crate) purpose: Purpose,
    /// Whose they are; empty for what belongs to the whole installation.
    pub(crate) tenant: &'a str,
    /// The secret they are part of, or the slot.
    pub(crate) secret: &'a str,
    /// Which part of it.
    pub(crate) name: &'a [u8],
    /// Which version of it.
    pub(crate) version: u64,
}

/// The library or the operating system's generator failed. Nothing was sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the cryptographic library or the system's random generator failed")]
pub struct CryptoError;

/// Why sealed bytes do not open. In every case nothing was decrypted or all of it was discarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// Too short, or of a format or algorithm that this program does not write.
    #[error("the sealed bytes have an unknown format")]
    Format,
    /// Sealed under another generation of the key.
    #[error("sealed under key generation {sealed}, but the key at hand is generation {held}")]
    Generation {
        /// The generation that the head names.
        sealed: u32,
        /// The generation that was offered.
        held: u32,
    },
    /// The commitment does not match: another key, or moved here from another name, tenant or version.
    #[error("the key commitment does not match: sealed under another key or for another place")]
    Binding,
    /// The key and the place are right and the data are not those that were sealed.
    #[error("the sealed data were altered")]
    Altered,
}

/// Seals `plain` under `key`, which is `generation`, for one place.
pub(crate) fn seal(
    key: &Key,
    generation: u32,
    place: &Place<'_>,
    plain: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    seal_until(None, key, generation, place, plain)
}

/// The same, for a value that ends at that moment, in milliseconds since 1970.
pub(crate) fn seal_until(
    expires_ms: Option<u64>,
    key: &Key,
    generation: u32,
    place: &Place<'_>,
    plain: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let mut sealed = Vec::with_capacity(OVERHEAD + plain.len());
    sealed.extend_from_slice(&prefix(generation, expires_ms.unwrap_or(NEVER)));
    let mut salt = [0; SALT];
    rand::fill(&mut salt).map_err(|_| CryptoError)?;
    sealed.extend_from_slice(&salt);
    let place = place.encode();
    let derived = Derived::new(key, &salt, &sealed[..PREFIX], &place)?;
    sealed.extend_from_slice(derived.commitment());
    let associated = Aad::from([sealed.as_slice(), &place].concat());
    let mut data = Zeroizing::new(plain.to_vec());
    let tag = derived
        .cipher()?
        .seal_in_place_separate_tag(nonce(), associated, &mut data)
        .map_err(|_| CryptoError)?;
    sealed.extend_from_slice(&data);
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Opens what [`seal`] sealed under the same key, of the same generation, for the same place.
pub(crate) fn open(
    key: &Key,
    generation: u32,
    place: &Place<'_>,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if sealed.len() < OVERHEAD {
        return Err(OpenError::Format);
    }
    let (head, data) = sealed.split_at(HEAD);
    let (head_prefix, rest) = head.split_at(PREFIX);
    let (salt, commitment) = rest.split_at(SALT);
    check_prefix(head_prefix, generation)?;
    let place = place.encode();
    let derived = Derived::new(key, salt, head_prefix, &place).map_err(|_| OpenError::Binding)?;
    verify_slices_are_equal(derived.commitment(), commitment).map_err(|_| OpenError::Binding)?;
    let mut plain = Zeroizing::new(data.to_vec());
    let associated = Aad::from([head, &place].concat());
    let cipher = derived.cipher().map_err(|_| OpenError::Altered)?;
    let length = cipher.open_in_place(nonce(), associated, &mut plain).map_err(|_| OpenError::Altered)?.len();
    plain.truncate(length);
    Ok(plain)
}

/// When what is sealed ends. True only once the bytes were opened.
pub(crate) fn expiry(sealed: &[u8]) -> Option<u64> {
    let bytes = sealed.get(6..PREFIX)?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes)).filter(|at| *at != NEVER)
}

/// Derives a key of its own from another for a purpose that seals nothing.
pub(crate) fn derive(key: &Key, tenant: &str, purpose: Purpose) -> Result<Key, CryptoError> {
    expand(key.as_bytes(), &Place { purpose, tenant, secret: "", name: b"", version: 0 })
}

/// A key from bytes that cannot be guessed, of any length.
pub(crate) fn stretch(bytes: &[u8], purpose: Purpose) -> Result<Key, CryptoError> {
    expand(bytes, &Place { purpose, tenant: "", secret: "", name: b"", version: 0 })
}

fn expand(from: &[u8], place: &Place<'_>) -> Result<Key, CryptoError> {
    let place = place.encode();
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(from);
    Key::filled_by(|bytes| {
        let info = [place.as_slice()];
        prk.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(bytes)).map_err(|_| CryptoError)
    })
}

/// 128 random bits as hexadecimal digits: an id that no other process chooses, and a safe file name.
pub(crate) fn random_id() -> Result<String, CryptoError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| CryptoError)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// HMAC-SHA256 over parts, each behind its length.
pub(crate) fn authenticate(key: &Key, parts: &[&[u8]]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), &lengths_and(parts)).as_ref().to_vec()
}

/// Checks what [`authenticate`] made, in constant time.
pub(crate) fn is_authentic(key: &Key, parts: &[&[u8]], mac: &[u8]) -> bool {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), &lengths_and(parts), mac).is_ok()
}

impl Place<'_> {
    /// The canonical bytes: no two places share them (K05).
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.purpose as u8];
        out.extend_from_slice(&lengths_and(&[self.tenant.as_bytes(), self.secret.as_bytes(), self.name]));
        out.extend_from_slice(&self.version.to_be_bytes());
        out
    }
}

/// The two halves of what HKDF derives for one seal.
struct Derived(Zeroizing<[u8; Key::LEN + COMMITMENT]>);

impl Derived {
    fn new(key: &Key, salt: &[u8], prefix: &[u8], place: &[u8]) -> Result<Self, CryptoError> {
        let mut derived = Self(Zeroizing::new([0; Key::LEN + COMMITMENT]));
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key.as_bytes());
        let info = [prefix, place];
        let okm = prk.expand(&info, BothHalves).map_err(|_| CryptoError)?;
        okm.fill(derived.0.as_mut_slice()).map_err(|_| CryptoError)?;
        Ok(derived)
    }

    fn cipher(&self) -> Result<LessSafeKey, CryptoError> {
        let key = UnboundKey::new(&AES_256_GCM, &self.0[..Key::LEN]).map_err(|_| CryptoError)?;
        Ok(LessSafeKey::new(key))
    }

    fn commitment(&self) -> &[u8] {
        &self.0[Key::LEN..]
    }
}

/// The length that HKDF is asked for.
struct BothHalves;

impl hkdf::KeyType for BothHalves {
    fn len(&self) -> usize {
        Key::LEN + COMMITMENT
    }
}

fn prefix(generation: u32, expires_ms: u64) -> [u8; PREFIX] {
    let mut prefix = [0; PREFIX];
    prefix[0] = FORMAT;
    prefix[1] = ALGORITHM;
    prefix[2..6].copy_from_slice(&generation.to_be_bytes());
    prefix[6..].copy_from_slice(&expires_ms.to_be_bytes());
    prefix
}

fn check_prefix(found: &[u8], held: u32) -> Result<(), OpenError> {
    let sealed = found[2..6].try_into().map(u32::from_be_bytes).map_err(|_| OpenError::Format)?;
    if found[..2] != [FORMAT, ALGORITHM] {
        return Err(OpenError::Format);
    }
    if sealed != held {
        return Err(OpenError::Generation { sealed, held });
    }
    Ok(())
}

/// Constant, because every key encrypts once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn lengths_and(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(&(part.len() as u32).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> Key {
        Key::from_slice(&[byte; 32]).unwrap()
    }

    fn place<'a>(tenant: &'a str, secret: &'a str, version: u64) -> Place<'a> {
        Place { purpose: Purpose::Secret, tenant, secret, name: b"value", version }
    }

    #[test]
    fn opens_what_it_sealed_and_never_seals_alike() {
        let here = place("local", "A_KEY", 1);
        let one = seal(&key(1), 7, &here, b"value").unwrap();
        let two = seal(&key(1), 7, &here, b"value").unwrap();
        assert_ne!(one, two);
        assert_eq!(one.len(), OVERHEAD + 5);
        assert_eq!(&one[..6], [FORMAT, ALGORITHM, 0, 0, 0, 7]);
        assert_eq!(*open(&key(1), 7, &here, &one).unwrap(), b"value");
        assert!(open(&key(1), 7, &here, &seal(&key(1), 7, &here, b"").unwrap()).unwrap().is_empty());
    }

    #[test]
    fn k01_moved_to_another_name_tenant_version_or_purpose_is_a_binding_error() {
        let home = place("local", "A_KEY", 1);
        let sealed = seal(&key(1), 0, &home, b"value").unwrap();
        let elsewhere = [
            place("other", "A_KEY", 1),
            place("local", "B_KEY", 1),
            place("local", "A_KEY", 2),
            Place { name: b"other", ..home },
            Place { purpose: Purpose::Fingerprints, ..home },
        ];
        for place in elsewhere {
            assert_eq!(open(&key(1), 0, &place, &sealed).err(), Some(OpenError::Binding));
        }
    }

    #[test]
    fn k03_wrong_key_and_altered_data_are_told_apart() {
        let here = place("local", "A_KEY", 1);
        let mut sealed = seal(&key(1), 3, &here, b"value").unwrap();
        assert_eq!(open(&key(2), 3, &here, &sealed).err(), Some(OpenError::Binding));
        assert_eq!(
            open(&key(1), 4, &here, &sealed).err(),
            Some(OpenError::Generation { sealed: 3, held: 4 })
        );
        *sealed.last_mut().unwrap() ^= 1;
        assert_eq!(open(&key(1), 3, &here, &sealed).err(), Some(OpenError::Altered));
    }

    #[test]
    fn k04_the_end_of_a_value_cannot_be_moved() {
        let here = place("local", "A_KEY", 1);
        let sealed = seal_until(Some(1_000), &key(1), 3, &here, b"value").unwrap();
        assert_eq!(expiry(&sealed), Some(1_000));
        assert_eq!(*open(&key(1), 3, &here, &sealed).unwrap(), b"value");
        for end in [0, 999, 1_001, u64::MAX] {
            let mut moved = sealed.clone();
            moved[6..PREFIX].copy_from_slice(&u64::to_be_bytes(end));
            assert_eq!(open(&key(1), 3, &here, &moved).err(), Some(OpenError::Binding));
        }
        assert_eq!(expiry(&seal(&key(1), 3, &here, b"value").unwrap()), None);
        assert_eq!(expiry(b"short"), None);
    }

    #[test]
    fn k05_delimiters_do_not_move() {
        let sealed = seal(&key(1), 0, &place("a", "b:c", 1), b"value").unwrap();
        assert_eq!(open(&key(1), 0, &place("a:b", "c", 1), &sealed).err(), Some(OpenError::Binding));
        let mac = authenticate(&key(1), &[b"a", b"b:c"]);
        assert!(is_authentic(&key(1), &[b"a", b"b:c"], &mac));
        assert!(!is_authentic(&key(1), &[b"a:b", b"c"], &mac));
        assert!(!is_authentic(&key(2), &[b"a", b"b:c"], &mac));
    }

    #[test]
    fn derived_keys_differ_by_purpose_tenant_and_parent() {
        let derived = |byte, tenant, purpose| *derive(&key(byte), tenant, purpose).unwrap().as_bytes();
        let grants = derived(1, "local", Purpose::GrantKey);
        assert_eq!(grants, derived(1, "local", Purpose::GrantKey));
        assert_ne!(grants, derived(1, "local", Purpose::FingerprintKey));
        assert_ne!(grants, derived(1, "other", Purpose::GrantKey));
        assert_ne!(grants, derived(2, "local", Purpose::GrantKey));
    }

    /// The construction once more, from the library's parts alone: the format is what the head of this
    /// file says, and stays so.
    #[test]
    fn the_format_is_the_documented_one() {
        let sealed = seal(&key(9), 5, &place("t", "s", 2), b"value").unwrap();
        let (head, data) = sealed.split_at(78);
        let place = b"\x03\0\0\0\x01t\0\0\0\x01s\0\0\0\x05value\0\0\0\0\0\0\0\x02";
        assert_eq!(&head[..14], b"\x01\x01\0\0\0\x05\0\0\0\0\0\0\0\0");
        let prk = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &head[14..46]), &[9; 32]);
        let prk = hmac::Key::new(hmac::HMAC_SHA256, prk.as_ref());
        let info = [&head[..14], place].concat();
        let first = hmac::sign(&prk, &[info.as_slice(), &[1]].concat());
        let second = hmac::sign(&prk, &[first.as_ref(), &info, &[2]].concat());
        assert_eq!(second.as_ref(), &head[46..]);
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, first.as_ref()).unwrap());
        let mut data = data.to_vec();
        let associated = Aad::from([head, place].concat());
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        assert_eq!(cipher.open_in_place(nonce, associated, &mut data).unwrap(), b"value");
    }

    #[test]
    fn k03_no_bit_of_a_sealed_row_can_be_flipped_and_no_length_changed() {
        let here = place("local", "A_KEY", 1);
        let sealed = seal(&key(1), 0, &here, b"value").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut mutated = sealed.clone();
            mutated[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key(1), 0, &here, &mutated).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(open(&key(1), 0, &here, &sealed[..length]).is_err(), "cut to {length}");
        }
        assert!(open(&key(1), 0, &here, &[sealed.as_slice(), b"\0"].concat()).is_err());
    }

    /// Prints what sealing and opening 64 bytes cost beside one HKDF and one AES-256-GCM operation of the
    /// same library, key setup included.
    #[test]
    #[ignore = "a measurement: cargo test --release -p secrets --lib cost -- --ignored --nocapture"]
    #[allow(clippy::disallowed_macros, reason = "a measurement is printed")]
    fn cost_of_a_seal_beside_its_bare_operations() {
        let (key, here, plain) = (key(1), place("local", "A_KEY", 1), [7u8; 64]);
        let sealed = seal(&key, 1, &here, &plain).unwrap();
        let bare = || {
            let mut okm = [0u8; 64];
            let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[3; 32]).extract(key.as_bytes());
            prk.expand(&[b"info"], BothHalves).unwrap().fill(&mut okm).unwrap();
            let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &okm[..32]).unwrap());
            let mut data = plain.to_vec();
            cipher.seal_in_place_append_tag(nonce(), Aad::empty(), &mut data).unwrap();
            data
        };
        let floor = median_nanos(|| drop(std::hint::black_box(bare())));
        let sealing = median_nanos(|| drop(std::hint::black_box(seal(&key, 1, &here, &plain))));
        let opening = median_nanos(|| drop(std::hint::black_box(open(&key, 1, &here, &sealed))));
        let ratio = |ours: u128| ours as f64 / floor as f64;
        println!(
            "bare {floor} ns; seal {sealing} ns ({:.2}x); open {opening} ns ({:.2}x); {SAMPLES} samples of 20",
            ratio(sealing),
            ratio(opening)
        );
    }

    const SAMPLES: usize = 2_000;

    fn median_nanos(operation: impl Fn()) -> u128 {
        let sample = || {
            let since = std::time::Instant::now();
            (0..20).for_each(|_| operation());
            since.elapsed().as_nanos() / 20
        };
        let mut samples: Vec<u128> = (0..SAMPLES).map(|_| sample()).collect();
        samples.sort_unstable();
        samples[SAMPLES / 2]
    }

    proptest! {
        #[test]
        fn values_round_trip_exactly(
            value in prop::collection::vec(any::<u8>(), 0..300),
            tenant in ".{0,20}", secret in ".{0,20}", version: u64, generation: u32,
        ) {
            let here = place(&tenant, &secret, version);
            let sealed = seal(&key(1), generation, &here, &value).unwrap();
            prop_assert_eq!(open(&key(1), generation, &here, &sealed).unwrap().to_vec(), value);
        }

        #[test]
        fn no_bytes_open_or_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open(&key(1), 0, &place("local", "A", 1), &bytes).is_err());
        }

        #[test]
        fn mutated_bytes_never_open(
            at in any::<prop::sample::Index>(), replaced in prop::collection::vec(any::<u8>(), 1..20),
        ) {
            let here = place("local", "A", 1);
            let sealed = seal(&key(1), 0, &here, b"some value of a secret").unwrap();
            let at = at.index(sealed.len());
            let mut mutated = sealed.clone();
            let end = (at + replaced.len()).min(mutated.len());
            mutated.splice(at..end, replaced);
            prop_assume!(mutated != sealed);
            prop_assert!(open(&key(1), 0, &here, &mutated).is_err());
        }

        #[test]
        fn k05_different_places_have_different_bytes(a in "[a:]{0,4}", b in "[a:]{0,4}", c in "[a:]{0,4}", d in "[a:]{0,4}") {
            prop_assume!((&a, &b) != (&c, &d));
            prop_assert_ne!(place(&a, &b, 1).encode(), place(&c, &d, 1).encode());
        }
    }
}
