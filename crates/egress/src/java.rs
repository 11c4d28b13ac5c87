//! The certificate of an authority as Java takes it: a PKCS #12 file (RFC 7292) with one trusted certificate.
//!
//! It has neither password nor checksum, since there is nothing secret in it and whoever can change it can change the
//! certificate beside it: Java reads such a file where no password is set for its trust store.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag, construct_der};

use crate::ca::AuthorityError;

/// Content that is bytes and nothing else (PKCS #7).
const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
/// A bag that holds a certificate, and the kind of certificate (RFC 7292, 4.2.3).
const CERTIFICATE_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
const X509: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
/// Oracle's attribute of what is trusted, without which Java takes a certificate for a stranger's, and for what: anything.
const TRUSTED_FOR: &[u64] = &[2, 16, 840, 1, 113_894, 746_875, 1, 1];
const ANYTHING: &[u64] = &[2, 5, 29, 37, 0];

/// Makes the trust store of the authority whose certificate this is, as PEM text.
pub fn trust_store(pem: &str) -> Result<Vec<u8>, AuthorityError> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| AuthorityError)?;
    let bags = construct_der(|writer| {
        writer.write_sequence_of(|bags| {
            bags.next().write_sequence(|bag| {
                oid(bag.next(), CERTIFICATE_BAG);
                explicit(bag.next(), |writer| {
                    writer.write_sequence(|bag| {
                        oid(bag.next(), X509);
                        explicit(bag.next(), |writer| writer.write_bytes(&certificate));
                    });
                });
                bag.next().write_set_of(|attributes| {
                    attributes.next().write_sequence(|attribute| {
                        oid(attribute.next(), TRUSTED_FOR);
                        attribute.next().write_set_of(|values| oid(values.next(), ANYTHING));
                    });
                });
            });
        });
    });
    let safe = construct_der(|writer| writer.write_sequence_of(|contents| data(contents.next(), &bags)));
    Ok(construct_der(|writer| {
        writer.write_sequence(|file| {
            file.next().write_u8(3);
            data(file.next(), &safe);
        });
    }))
}

/// Where the trust store stands whose certificate is in the file `ca`.
pub fn beside(ca: &str) -> String {
    format!("{ca}.p12")
}

fn data(writer: DERWriter<'_>, bytes: &[u8]) {
    writer.write_sequence(|content| {
        oid(content.next(), DATA);
        explicit(content.next(), |writer| writer.write_bytes(bytes));
    });
}

fn oid(writer: DERWriter<'_>, numbers: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(numbers));
}

fn explicit(writer: DERWriter<'_>, content: impl FnOnce(DERWriter<'_>)) {
    writer.write_tagged(Tag::context(0), content);
}
