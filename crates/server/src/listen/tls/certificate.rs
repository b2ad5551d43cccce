//! What a certificate says of itself (RFC 5280 §4.1): from when to when it holds, and for whom.

use super::Expiry;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

/// From when to when a certificate holds (Unix seconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

/// A certificate is renewed when a third of its life is left (of 90 days, with 30); with less than this part
/// and these seconds left, that has failed.
const SOON_PART: i64 = 6;
const SOON_SECONDS: i64 = 14 * 86_400;

impl Validity {
    /// Of a certificate in DER; `None` if it cannot be read.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let mut outer = certificate;
        let mut fields = element(&mut element(&mut outer, SEQUENCE)?, SEQUENCE)?;
        // The version is left out in certificates of version 1.
        let _ = element(&mut fields, VERSION);
        element(&mut fields, INTEGER)?;
        element(&mut fields, SEQUENCE)?;
        element(&mut fields, SEQUENCE)?;
        let mut validity = element(&mut fields, SEQUENCE)?;
        Some(Self { not_before: time(&mut validity)?, not_after: time(&mut validity)? })
    }

    pub(super) fn at(self, now: i64) -> Expiry {
        let left = self.not_after.saturating_sub(now);
        let life = self.not_after.saturating_sub(self.not_before);
        if left < 0 {
            Expiry::Over
        } else if now < self.not_before {
            Expiry::Early
        } else if left < SOON_SECONDS.min(life / SOON_PART) {
            Expiry::Soon(left)
        } else {
            Expiry::Far
        }
    }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The content of the next element, which must have this tag; nothing is taken if it has another.
fn element<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&first, rest) = input.split_first()?;
    if first != tag {
        return None;
    }
    let (&length, mut rest) = rest.split_first()?;
    let length = if length < 0x80 {
        usize::from(length)
    } else {
        let (bytes, after) =
            rest.split_at_checked(usize::from(length & 0x7f)).filter(|(b, _)| (1..=4).contains(&b.len()))?;
        rest = after;
        bytes.iter().try_fold(0_usize, |n, byte| n.checked_mul(256)?.checked_add(usize::from(*byte)))?
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some(content)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
fn time(input: &mut &[u8]) -> Option<i64> {
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_i16, |n, d| d.is_ascii_digit().then(|| n * 10 + i16::from(d - b'0')))
    };
    let (text, year) = if let Some(text) = element(input, UTC_TIME) {
        let year = number(text.get(..2)?)?;
        (text.get(2..)?, if year < 50 { 2000 + year } else { 1900 + year })
    } else {
        let text = element(input, GENERALIZED_TIME)?;
        (text.get(4..)?, number(text.get(..4)?)?)
    };
    let Some((b"Z", digits)) = text.split_last().map(|(z, digits)| (std::slice::from_ref(z), digits)) else {
        return None;
    };
    if digits.len() != 10 {
        return None;
    }
    let part = |i: usize| number(&digits[2 * i..2 * i + 2]).and_then(|n| i8::try_from(n).ok());
    let date = jiff::civil::DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
    // The end of the year 9999, which says "never" (RFC 5280 §4.1.2.5), lies a day beyond what jiff can tell.
    Some(jiff::tz::Offset::UTC.to_timestamp(date).unwrap_or(jiff::Timestamp::MAX).as_second())
}

/// Whether the certificate is for this host: a name, or an address, in brackets or not.
pub(super) fn is_for(pair: &CertifiedKey, host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let Ok(name) = ServerName::try_from(host) else { return false };
    let Some(leaf) = pair.cert.first() else { return false };
    let parsed = ParsedCertificate::try_from(leaf);
    parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn certificate(from: (i32, u8, u8), to: (i32, u8, u8)) -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec!["auth.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn the_times_are_those_of_the_certificate() {
        for (from, to) in
            [((1970, 1, 1), (2049, 12, 31)), ((2026, 2, 28), (2050, 1, 1)), ((1999, 12, 31), (2999, 3, 1))]
        {
            let made = certificate(from, to);
            let seconds = |(y, m, d): (i32, u8, u8)| date_time_ymd(y, m, d).unix_timestamp();
            let validity = Validity::of(made.der()).unwrap();
            assert_eq!((validity.not_before, validity.not_after), (seconds(from), seconds(to)));
        }
        assert!(
            Validity::of(certificate((2000, 1, 1), (9999, 12, 31)).der()).unwrap().not_after
                > 253_000_000_000
        );
    }

    #[test]
    fn it_is_soon_when_a_renewal_has_failed() {
        let day = 86_400;
        let validity = Validity { not_before: 0, not_after: 90 * day };
        assert_eq!(validity.at(-1), Expiry::Early);
        assert_eq!(validity.at(0), Expiry::Far);
        assert_eq!(validity.at(76 * day), Expiry::Far);
        assert_eq!(validity.at(76 * day + 1), Expiry::Soon(14 * day - 1));
        assert_eq!(validity.at(90 * day), Expiry::Soon(0));
        assert_eq!(validity.at(90 * day + 1), Expiry::Over);
        let short = Validity { not_before: 0, not_after: 6 * day };
        assert_eq!(short.at(5 * day), Expiry::Far, "a certificate of six days is renewed every few days");
        assert_eq!(short.at(5 * day + 1), Expiry::Soon(day - 1));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Validity::of(&bytes);
        }

        #[test]
        fn no_damage_makes_it_panic(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..500) {
            static MADE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let made = MADE.get_or_init(|| certificate((2020, 1, 1), (2030, 1, 1)).der().to_vec());
            let mut bytes = made.clone();
            if let Some(hit) = bytes.get_mut(at) {
                *hit = byte;
            }
            bytes.truncate(cut);
            let _ = Validity::of(&bytes);
        }
    }
}
