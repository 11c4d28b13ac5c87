//! Signed checkpoints: a statement that the log had so many records with this root, in the format of C2SP
//! tlog-checkpoint, signed as C2SP signed-note with Ed25519. Kept elsewhere, one shows whether the
//! log is still the one that it was.
//!
//! ```text
//! ironclaw/5f2c1b0a9e8d7c6b
//! 1234
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — ironclaw/5f2c1b0a9e8d7c6b Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
//! ```

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use types::Digest;
use zeroize::Zeroizing;

/// The type of an Ed25519 key in a signed note.
const ED25519_KEY: u8 = 1;

/// The longest checkpoint that is read; ours take about 250 bytes.
const LONGEST: usize = 4096;

/// What a signature covers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The name of the log, which is the name of its key.
    pub origin: String,
    /// How many records it had.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Digest,
}

/// A checkpoint with its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// What is signed.
    pub checkpoint: Checkpoint,
    signature: Signature,
}

/// The first four bytes of the hash of the key, and the signature itself.
type Signature = [u8; 68];

/// The private key that signs checkpoints of one log. It shows nothing of itself.
pub struct Signer {
    pair: Ed25519KeyPair,
    verifier: Verifier,
}

/// The public key of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verifier {
    name: String,
    key: [u8; 32],
}

/// Random bytes for a new key.
pub fn seed() -> Result<Zeroizing<[u8; 32]>, CheckpointError> {
    let mut seed = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *seed).map_err(|_| CheckpointError::Format)?;
    Ok(seed)
}

/// Why a text is no checkpoint of this log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not the format of a checkpoint, or of a key.
    #[error("it is not a signed checkpoint in the C2SP format, or not a key of one")]
    Format,
    /// Signed by a key of another name or another value.
    #[error("it is signed by another key")]
    Key,
    /// The signature is not over these lines.
    #[error("its signature does not fit")]
    Signature,
}

impl Signer {
    /// The key that a seed of 32 random bytes makes; `None` for any other length.
    pub fn from_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let key: [u8; 32] = pair.public_key().as_ref().try_into().ok()?;
        let name = format!("ironclaw/{}", &Digest::of(&key).to_string()[..16]);
        Some(Self { pair, verifier: Verifier { name, key } })
    }

    /// The key that its signatures are checked with.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Signs any text, in base64.
    pub(crate) fn sign_text(&self, text: &str) -> String {
        BASE64.encode(self.pair.sign(text.as_bytes()).as_ref())
    }

    /// Signs what a log is now.
    pub fn sign(&self, size: u64, root: Digest) -> Signed {
        let checkpoint = Checkpoint { origin: self.verifier.name.clone(), size, root };
        let mut signature = [0; 68];
        signature[..4].copy_from_slice(&self.verifier.id());
        signature[4..].copy_from_slice(self.pair.sign(checkpoint.to_string().as_bytes()).as_ref());
        Signed { checkpoint, signature }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.verifier.name).finish()
    }
}

impl Verifier {
    /// Reads a key in the form that [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(CheckpointError::Format);
        };
        let bytes = BASE64.decode(key).map_err(|_| CheckpointError::Format)?;
        let [ED25519_KEY, key @ ..] = bytes.as_slice() else { return Err(CheckpointError::Format) };
        let key = key.try_into().map_err(|_| CheckpointError::Format)?;
        let verifier = Self { name: name.to_owned(), key };
        if hex(&verifier.id()) == id { Ok(verifier) } else { Err(CheckpointError::Format) }
    }

    /// The key's short hash (C2SP signed-note): over its name, its type and itself.
    fn id(&self) -> [u8; 4] {
        let bytes = [self.name.as_bytes(), b"\n", &[ED25519_KEY], &self.key].concat();
        let [a, b, c, d, ..] = *Digest::of(&bytes).as_bytes();
        [a, b, c, d]
    }

    /// Whether it signed this text.
    pub(crate) fn has_signed(&self, text: &str, signature: &str) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        BASE64.decode(signature).is_ok_and(|signature| key.verify(text.as_bytes(), &signature).is_ok())
    }

    /// The name of the log, and of its key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks who signed a checkpoint, and that it was this one.
    pub fn check(&self, signed: &Signed) -> Result<(), CheckpointError> {
        if signed.checkpoint.origin != self.name || signed.signature[..4] != self.id() {
            return Err(CheckpointError::Key);
        }
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        key.verify(signed.checkpoint.to_string().as_bytes(), &signed.signature[4..])
            .map_err(|_| CheckpointError::Signature)
    }
}

/// The verifier key of C2SP signed-note: name, short hash, type and key.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode([&[ED25519_KEY], self.key.as_slice()].concat());
        write!(f, "{}+{}+{key}", self.name, hex(&self.id()))
    }
}

/// The lines that are signed.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, BASE64.encode(self.root.as_bytes()))
    }
}

/// The whole note.
impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n\u{2014} {} {}", self.checkpoint, self.checkpoint.origin, self.signature())
    }
}

impl Signed {
    /// Puts a checkpoint together from its parts, unchecked.
    pub(crate) fn from_parts(origin: &str, size: u64, root: Digest, signature: &str) -> Option<Self> {
        let signature = BASE64.decode(signature).ok()?.try_into().ok()?;
        Some(Self { checkpoint: Checkpoint { origin: origin.to_owned(), size, root }, signature })
    }

    /// The signature as it stands in the note.
    pub(crate) fn signature(&self) -> String {
        BASE64.encode(self.signature)
    }

    /// Reads a note with one signature, as this program writes it. Nothing is checked yet.
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        let read = |note: &str| -> Option<Self> {
            let (text, signature) = note.trim_end().split_once("\n\n\u{2014} ")?;
            let mut lines = text.lines();
            let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
            let (name, signature) = signature.split_once(' ')?;
            let root = Digest::from_bytes(BASE64.decode(root).ok()?.try_into().ok()?);
            let signed = Self::from_parts(origin, size.parse().ok()?, root, signature)?;
            // One spelling: what is read is what would be written.
            (lines.next().is_none() && name == origin && signed.to_string().trim_end() == note.trim_end())
                .then_some(signed)
        };
        Some(note).filter(|note| note.len() <= LONGEST).and_then(read).ok_or(CheckpointError::Format)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(seed: u8) -> Signer {
        Signer::from_seed(&[seed; 32]).unwrap()
    }

    #[test]
    fn a_note_and_a_key_read_back_and_check() {
        let signer = signer(1);
        let signed = signer.sign(1234, Digest::of(b"root"));
        let note = signed.to_string();
        assert_eq!(note.lines().count(), 5, "{note}");
        assert_eq!(Signed::parse(&note), Ok(signed.clone()));
        assert_eq!(signer.verifier().check(&signed), Ok(()));
        let key = Verifier::parse(&signer.verifier().to_string()).unwrap();
        assert_eq!(&key, signer.verifier());
        assert!(!format!("{signer:?}").contains(", 1, 1"));
        assert!(Signer::from_seed(&[1; 31]).is_none());
    }

    #[test]
    fn the_public_key_is_that_of_the_standard() {
        // RFC 8032, section 7.1, test 1.
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let bytes: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&seed[at * 2..at * 2 + 2], 16).unwrap()).collect();
        assert_eq!(hex(&Signer::from_seed(&bytes).unwrap().verifier().key), key);
    }

    #[test]
    fn l04_another_key_another_size_and_another_root_do_not_check() {
        let (ours, theirs) = (signer(1), signer(2));
        let signed = ours.sign(5, Digest::of(b"root"));
        assert_eq!(theirs.verifier().check(&signed), Err(CheckpointError::Key));
        let mut changed = signed.clone();
        changed.checkpoint.size = 6;
        assert_eq!(ours.verifier().check(&changed), Err(CheckpointError::Signature));
        let mut changed = signed.clone();
        changed.checkpoint.root = Digest::of(b"other");
        assert_eq!(ours.verifier().check(&changed), Err(CheckpointError::Signature));
        // Another key under our name and our short hash.
        let mut forged = theirs.sign(5, Digest::of(b"root"));
        forged.checkpoint.origin = signed.checkpoint.origin.clone();
        forged.signature[..4].copy_from_slice(&signed.signature[..4]);
        assert_eq!(ours.verifier().check(&forged), Err(CheckpointError::Signature));
    }

    #[test]
    fn what_is_no_checkpoint_is_said_to_be_none() {
        let note = signer(1).sign(5, Digest::of(b"root")).to_string();
        for bad in [
            "".to_owned(),
            note.replace("\n5\n", "\n05\n"),
            note.replace("\n5\n", "\n-5\n"),
            note.replacen('\n', "\nmore\n", 1),
            note.replace('\u{2014}', "-"),
            note.trim_end().to_owned() + "=",
            note.lines().take(3).collect::<Vec<_>>().join("\n"),
            "x".repeat(10_000),
        ] {
            assert_eq!(Signed::parse(&bad), Err(CheckpointError::Format), "{bad:?}");
        }
        for bad in ["", "a+b+c", "name+00000000+AA==", "name"] {
            assert_eq!(Verifier::parse(bad), Err(CheckpointError::Format));
        }
    }
}
