//! Every rule of this layer that can refuse a request.

use ::types::{Layer, Rule};

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $says:literal;)*) => {
        $($(#[$doc])* pub static $name: Rule = Rule { id: $id, layer: Layer::Vault, says: $says };)*
        /// All of them, for `ironclaw policy check` and the documentation.
        pub static ALL: &[&Rule] = &[$(&$name,)*];
    };
}

rules! {
    /// No authentic grant lets this code send this secret to this target in this place.
    NOT_GRANTED = "vault.not-granted", "the owner has not granted this secret to this code for this request";
    /// The grant that would cover the request was not written by this vault.
    GRANT_ALTERED = "vault.grant-altered", "a grant was changed outside of this program";
    /// The grant that covers the request has ended.
    GRANT_EXPIRED = "vault.grant-expired", "the grant of this secret has expired";
    /// Every use that the grant allowed was made.
    GRANT_USED_UP = "vault.grant-used-up", "the grant of this secret has no uses left";
    /// The row of a grant that was taken back is there again.
    GRANT_REVOKED = "vault.grant-revoked", "a grant that was taken back was put back outside of this program";
    /// There is no such secret in use.
    SECRET_MISSING = "vault.secret-missing", "the secret does not exist or is disabled";
    /// The value has come to its end.
    SECRET_EXPIRED = "vault.secret-expired", "the secret has expired";
    /// The place that gives new tokens gave none.
    NOT_RENEWED = "vault.not-renewed", "the token endpoint gave no new token";
    /// An answer with tokens that could not all be taken in.
    NOT_CAPTURED = "vault.not-captured", "the answer of the token endpoint could not be taken into the vault, so it is not passed on";
    /// Another version, or another state of it, is in use than the newest record says.
    ROLLED_BACK = "vault.rolled-back", "the secret in use is not the one that the log tells of";
    /// The sealed value does not open.
    SEAL_BROKEN = "vault.seal-broken", "the stored secret was altered or moved outside of this program";
    /// The lease's time is over.
    LEASE_EXPIRED = "vault.lease-expired", "the lease of the secret was not used in time";
    /// Somebody has used the lease already.
    LEASE_USED = "vault.lease-used", "the lease of the secret was used already";
    /// The leases are not those of this permit.
    LEASE_MISMATCH = "vault.lease-mismatch", "the leased secrets are not those of this request";
    /// The request is not the one that was permitted.
    REQUEST_MISMATCH = "vault.request-mismatch", "the request is not the one that was permitted";
    /// The request already has something where the secret belongs, or two secrets meet there.
    PLACE_TAKEN = "vault.place-taken", "the request already holds something in the place of the secret";
    /// The path does not name the secret exactly once.
    NO_PLACE = "vault.no-place", "the path does not name the place of the secret exactly once";
    /// The value holds what its place cannot.
    VALUE_UNFIT = "vault.value-unfit", "the value of the secret cannot stand in that place";
    /// The value would not be recognised where it leaks, or fits no place of a request.
    VALUE_REFUSED = "vault.value-refused", "this value cannot be kept as a secret";
    /// What was granted or stored could not be read.
    NOT_READ = "vault.not-read", "the vault could not be read, so nothing was sent";
    /// The use could not be recorded.
    NOT_RECORDED = "vault.not-recorded", "the use of the secret could not be recorded, so nothing was sent";
}
