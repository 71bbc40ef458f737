//! Certificates, read: whom they are for, how long they last, and what is no certificate.

use super::*;

const GOOD: &[u8] = include_bytes!("fixtures/good.pem");
const EXPIRED: &[u8] = include_bytes!("fixtures/expired.pem");
const KEY: &[u8] = include_bytes!("fixtures/good.key.pem");

fn one(pem: &[u8]) -> Certificate {
    Certificate::all(pem).expect("a certificate").remove(0)
}

#[test]
fn dates_and_names_are_read_without_trust() {
    let good = one(GOOD);
    assert_eq!(
        (good.subject.as_str(), good.issuer.as_str()),
        ("good.test", "Test CA")
    );
    assert_eq!(good.names, ["good.test", "www.good.test", "127.0.0.1"]);
    assert_eq!(
        (date(good.begins), date(good.ends)),
        ("2020-01-01".to_owned(), "2090-01-01".to_owned())
    );
    let expired = one(EXPIRED);
    let later = expired.ends + 3 * DAY + 5;
    let trouble = expired.trouble(later).expect("it is over");
    assert_eq!(
        trouble,
        "the certificate of expired.test expired on 2021-03-01, 3 days ago"
    );
    assert_eq!(expired.trouble(expired.ends - 1), None);
    assert!(
        expired
            .trouble(expired.begins - 1)
            .is_some_and(|why| why.contains("not valid before 2020-01-01"))
    );
    assert_eq!(expired.too_short(expired.ends - 14 * DAY, 14), None);
    assert!(
        expired
            .too_short(expired.ends - 14 * DAY + 1, 14)
            .is_some_and(|why| why.contains("ends in 13 days"))
    );
}

#[test]
fn a_file_may_hold_a_key_and_a_chain_and_must_hold_a_certificate() {
    let both = [KEY, GOOD, EXPIRED].concat();
    assert_eq!(Certificate::all(&both).map(|all| all.len()), Ok(2));
    for (file, why) in [
        (KEY, "no certificate"),
        (b"".as_slice(), "no certificate"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "cannot be read",
        ),
        (&GOOD[..200], "no PEM"),
    ] {
        let error = Certificate::all(file).expect_err(why);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_damaged_certificate_is_read_to_its_end_or_not_at_all() {
    let der = CertificateDer::from_pem_slice(GOOD)
        .expect("a certificate")
        .to_vec();
    let whole = Certificate::read(&der).expect("it is one");
    for at in 0..der.len() {
        assert_ne!(
            Certificate::read(&der[..at]).as_ref(),
            Some(&whole),
            "cut at {at}"
        );
        for byte in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
            let mut bad = der.clone();
            bad[at] = byte;
            // Whatever comes of it, it does not panic, and keeps to its bounds.
            if let Some(read) = Certificate::read(&bad) {
                assert!(read.names.len() <= MOST && read.subject.chars().count() <= 253);
            }
        }
    }
}
