//! What is kept of a password, in every form that is understood.

use super::memory::Memory;
use crate::random::Random;
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use std::fmt;
use std::num::NonZeroU32;
use std::ops::Deref;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A stored hash that has been read and whose cost is bounded.
///
/// Understood are Argon2id and Argon2i as PHC strings (`$argon2id$v=19$m=19456,t=2,p=1$salt$hash`), bcrypt
/// (`$2a$`, `$2b$`, `$2y$`), and Django's `pbkdf2_sha256$iterations$salt$hash`; also Django's `argon2` and
/// `bcrypt$` in front of the first two.
#[derive(Clone)]
pub struct StoredHash(Scheme);

/// Why a text is no hash that can be stored. It does not quote the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHash {
    /// None of the forms that are understood.
    #[error("not a password hash in a known form: Argon2 (PHC string), bcrypt or Django's pbkdf2_sha256")]
    Unknown,
    /// One of them, but damaged.
    #[error("a damaged {0} hash")]
    Malformed(&'static str),
    /// Every login with it would cost too much.
    #[error("a {0} hash that costs too much to check: at most {1}")]
    TooCostly(&'static str, &'static str),
}

/// The hash of a new password, ready to be stored. It hides from Debug and is wiped when dropped.
#[derive(Clone)]
pub struct PasswordHash(Zeroizing<String>);

#[derive(Clone)]
enum Scheme {
    Argon2 { algorithm: Algorithm, version: Version, params: Params, salt: Vec<u8>, hash: Vec<u8> },
    Bcrypt { cost: u32, salt: [u8; 16], hash: [u8; 23] },
    Pbkdf2 { iterations: NonZeroU32, salt: Vec<u8>, hash: Vec<u8> },
}

/// OWASP's parameters for Argon2id: KiB, passes, lanes.
const CURRENT: (u32, u32, u32) = (19_456, 2, 1);
const HASH_LEN: usize = 32;
const SALT_LEN: usize = 16;

/// Most memory of one hash, KiB.
const MAX_MEMORY: u32 = 256 * 1024;
/// Most memory times passes, KiB: about a second.
const MAX_WORK: u64 = 1024 * 1024;
const MAX_LANES: u32 = 16;
const MAX_BCRYPT_COST: u32 = 15;
const MAX_PBKDF2_ITERATIONS: u32 = 2_000_000;
/// No stored hash is longer.
const MAX_LEN: usize = 512;

/// bcrypt's own base64. Old implementations left rubbish in the unused bits of the last character.
const BCRYPT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::BCRYPT,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

impl StoredHash {
    /// Reads a stored hash.
    pub fn parse(text: &str) -> Result<Self, InvalidHash> {
        if text.len() > MAX_LEN {
            return Err(InvalidHash::Unknown);
        }
        let bare = ["argon2", "bcrypt$"].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
        let scheme = if bare.starts_with("$argon2") {
            parse_argon2(bare)
        } else if ["$2a$", "$2b$", "$2y$"].iter().any(|version| bare.starts_with(version)) {
            parse_bcrypt(&bare[4..])
        } else if let Some(rest) = text.strip_prefix("pbkdf2_sha256$") {
            parse_pbkdf2(rest)
        } else {
            Err(InvalidHash::Unknown)
        };
        scheme.map(Self)
    }

    /// A hash of no password, to be checked where there is no user: the same work as a real one.
    pub fn dummy() -> Self {
        Self(Scheme::Argon2 {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            params: current_params(),
            salt: vec![0; SALT_LEN],
            hash: vec![0; HASH_LEN],
        })
    }

    /// Whether it should be replaced at the next login: it was not made the way new ones are.
    pub fn needs_rehash(&self) -> bool {
        !matches!(
            &self.0,
            Scheme::Argon2 { algorithm: Algorithm::Argon2id, version: Version::V0x13, params, salt, hash }
                if (params.m_cost(), params.t_cost(), params.p_cost()) == CURRENT
                    && salt.len() >= SALT_LEN
                    && hash.len() == HASH_LEN
        )
    }

    /// Whether it is the hash of this password. Compares in constant time.
    pub(super) fn verify(&self, password: &[u8], memory: &mut Memory) -> Result<bool, argon2::Error> {
        match &self.0 {
            Scheme::Argon2 { algorithm, version, params, salt, hash } => {
                let mut computed = Zeroizing::new(vec![0; hash.len()]);
                let argon2 = Argon2::new(*algorithm, *version, params.clone());
                argon2.hash_password_into_with_memory(
                    password,
                    salt,
                    &mut computed,
                    memory.blocks(params.block_count())?,
                )?;
                Ok(computed.ct_eq(hash).into())
            }
            Scheme::Bcrypt { cost, salt, hash } => {
                // A C string, its zero included, cut at 72 bytes: so it was made, and so it must be checked.
                let mut typed = Zeroizing::new([0; 72]);
                let length = password.len().min(72);
                typed[..length].copy_from_slice(&password[..length]);
                let computed = Zeroizing::new(bcrypt::bcrypt(*cost, *salt, &typed[..(length + 1).min(72)]));
                Ok(computed[..hash.len()].ct_eq(hash).into())
            }
            Scheme::Pbkdf2 { iterations, salt, hash } => {
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
                Ok(pbkdf2::verify(algorithm, *iterations, salt, password, hash).is_ok())
            }
        }
    }
}

impl PasswordHash {
    /// Hashes a password the way new ones are.
    pub(super) fn of(password: &[u8], random: &Random, memory: &mut Memory) -> Result<Self, argon2::Error> {
        let (params, salt) = (current_params(), random.bytes::<SALT_LEN>());
        let mut hash = Zeroizing::new([0; HASH_LEN]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        argon2.hash_password_into_with_memory(
            password,
            &salt,
            hash.as_mut_slice(),
            memory.blocks(params.block_count())?,
        )?;
        let (m, t, p) = CURRENT;
        let [salt, hash] = [&salt[..], &hash[..]].map(|bytes| Zeroizing::new(STANDARD_NO_PAD.encode(bytes)));
        Ok(Self(Zeroizing::new(format!("$argon2id$v=19$m={m},t={t},p={p}${}${}", *salt, *hash))))
    }
}

impl Deref for PasswordHash {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

impl fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredHash(…)")
    }
}

/// How much working memory current hashes need.
pub(super) fn current_blocks() -> usize {
    current_params().block_count()
}

fn current_params() -> Params {
    let (m, t, p) = CURRENT;
    Params::new(m, t, p, Some(HASH_LEN)).expect("OWASP's parameters are within Argon2's limits")
}

fn parse_argon2(text: &str) -> Result<Scheme, InvalidHash> {
    let malformed = || InvalidHash::Malformed("Argon2");
    let mut parts = text.split('$').skip(1);
    let algorithm = match parts.next() {
        Some("argon2id") => Algorithm::Argon2id,
        Some("argon2i") => Algorithm::Argon2i,
        _ => return Err(InvalidHash::Unknown),
    };
    let mut part = parts.next().ok_or_else(malformed)?;
    let version = match part.strip_prefix("v=") {
        None => Version::V0x10,
        Some(version) => {
            part = parts.next().ok_or_else(malformed)?;
            match version {
                "19" => Version::V0x13,
                "16" => Version::V0x10,
                _ => return Err(malformed()),
            }
        }
    };
    let [m, t, p] = costs(part).ok_or_else(malformed)?;
    let (Some(salt), Some(hash), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(malformed());
    };
    if m > MAX_MEMORY || u64::from(m) * u64::from(t) > MAX_WORK || p > MAX_LANES {
        return Err(InvalidHash::TooCostly("Argon2", "m=262144, m times t 1048576, p=16"));
    }
    let [salt, hash] = [salt, hash].map(|encoded| STANDARD_NO_PAD.decode(encoded).ok());
    let salt = salt.filter(|s| (8..=64).contains(&s.len())).ok_or_else(malformed)?;
    let hash = hash.filter(|h| (16..=64).contains(&h.len())).ok_or_else(malformed)?;
    let params = Params::new(m, t, p, Some(hash.len())).map_err(|_| malformed())?;
    Ok(Scheme::Argon2 { algorithm, version, params, salt, hash })
}

/// `m=19456,t=2,p=1`, in this order as every implementation writes it.
fn costs(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.split(',');
    let mut cost = |name: &str| number(parts.next()?.strip_prefix(name)?.strip_prefix('=')?);
    let costs = [cost("m")?, cost("t")?, cost("p")?];
    parts.next().is_none().then_some(costs)
}

/// `12$` and 53 characters: salt and hash.
fn parse_bcrypt(text: &str) -> Result<Scheme, InvalidHash> {
    let malformed = || InvalidHash::Malformed("bcrypt");
    let (cost, rest) = text.split_once('$').ok_or_else(malformed)?;
    let cost = number(cost).filter(|c| text.starts_with(&format!("{c:02}$"))).ok_or_else(malformed)?;
    let (salt, hash) = rest.split_at_checked(22).ok_or_else(malformed)?;
    let salt = BCRYPT.decode(salt).ok().and_then(|s| s.try_into().ok()).ok_or_else(malformed)?;
    let hash = BCRYPT.decode(hash).ok().and_then(|h| h.try_into().ok()).ok_or_else(malformed)?;
    match cost {
        4..=MAX_BCRYPT_COST => Ok(Scheme::Bcrypt { cost, salt, hash }),
        0..4 => Err(malformed()),
        _ => Err(InvalidHash::TooCostly("bcrypt", "cost 15")),
    }
}

/// `iterations$salt$hash`; the salt is text.
fn parse_pbkdf2(text: &str) -> Result<Scheme, InvalidHash> {
    let malformed = || InvalidHash::Malformed("pbkdf2_sha256");
    let mut parts = text.split('$');
    let (Some(iterations), Some(salt), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    let iterations = number(iterations).and_then(NonZeroU32::new).ok_or_else(malformed)?;
    if iterations.get() > MAX_PBKDF2_ITERATIONS {
        return Err(InvalidHash::TooCostly("pbkdf2_sha256", "2000000 iterations"));
    }
    let hash = STANDARD.decode(hash).ok().filter(|h| h.len() == HASH_LEN).ok_or_else(malformed)?;
    if salt.is_empty() {
        return Err(malformed());
    }
    Ok(Scheme::Pbkdf2 { iterations, salt: salt.as_bytes().to_vec(), hash })
}

/// A number of digits only: no sign, and few enough to count.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same password for all, as each format's own implementation hashes it.
    const ARGON2ID: &str =
        "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";

    fn verify(hash: &str, password: &str) -> bool {
        StoredHash::parse(hash).unwrap().verify(password.as_bytes(), &mut Memory::new()).unwrap()
    }

    #[test]
    fn hashes_of_other_implementations_are_understood() {
        for (hash, password) in [
            // The tests of Argon2's reference implementation.
            (
                "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
                "password",
            ),
            ("$argon2i$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ", "password"),
            (
                "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "password",
            ),
            // Those of crypt_blowfish.
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
            ("$2b$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", "U*U*"),
            ("$2y$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a", "U*U*U"),
            ("bcrypt$$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
            // hashlib.pbkdf2_hmac.
            ("pbkdf2_sha256$10000$seasalt$CWWFdHOWwPnki7HvkcqN9iA2T3KLW1cf2uZ5kvArtVY=", "lètmein"),
        ] {
            assert!(verify(hash, password), "{hash}");
            assert!(!verify(hash, &format!("{password}.")), "{hash}");
            assert!(!verify(hash, &password.to_uppercase().replacen('U', "u", 1)), "{hash}");
            assert!(!verify(hash, ""), "{hash}");
            assert!(StoredHash::parse(hash).unwrap().needs_rehash(), "{hash}");
        }
    }

    #[test]
    fn bcrypt_cuts_at_72_bytes_as_it_always_did() {
        let hash = "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui";
        let long = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789chars after 72 are ignored";
        assert!(verify(hash, long));
        assert!(verify(hash, &long[..72]));
        assert!(!verify(hash, &long[..71]));
    }

    #[test]
    fn a_new_hash_is_current_and_verifies() {
        let mut memory = Memory::new();
        let random = Random::new();
        let hash = PasswordHash::of("pass word ".as_bytes(), &random, &mut memory).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", &*hash);
        assert!(!StoredHash::parse(&hash).unwrap().needs_rehash());
        assert!(verify(&hash, "pass word "));
        for wrong in ["pass word", "Pass word ", ""] {
            assert!(!verify(&hash, wrong), "{wrong:?}");
        }
        let again = PasswordHash::of("pass word ".as_bytes(), &random, &mut memory).unwrap();
        assert_ne!(*again, *hash, "each has its own salt");
        assert_eq!(
            format!("{hash:?} {:?}", StoredHash::parse(&hash).unwrap()),
            "PasswordHash(…) StoredHash(…)"
        );
    }

    #[test]
    fn memory_that_was_used_before_changes_nothing() {
        let mut memory = Memory::new();
        let stored = StoredHash::parse(ARGON2ID).unwrap();
        for _ in 0..3 {
            assert!(stored.verify(b"password", &mut memory).unwrap());
            assert!(!StoredHash::dummy().verify(b"password", &mut memory).unwrap());
        }
        let costly = "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA";
        assert!(StoredHash::parse(costly).unwrap().verify(b"password", &mut memory).unwrap());
    }

    #[test]
    fn the_dummy_is_as_much_work_as_a_current_hash_and_matches_nothing() {
        let Scheme::Argon2 { algorithm, version, params, .. } = StoredHash::dummy().0 else { panic!() };
        let fresh = PasswordHash::of(b"x", &Random::new(), &mut Memory::new()).unwrap();
        let Scheme::Argon2 { algorithm: a, version: v, params: p, .. } = StoredHash::parse(&fresh).unwrap().0
        else {
            panic!()
        };
        assert_eq!((algorithm, version, params), (a, v, p));
        assert!(!StoredHash::dummy().verify(b"", &mut Memory::new()).unwrap());
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_quoted() {
        use InvalidHash::{Malformed, Unknown};
        let bcrypt = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW";
        StoredHash::parse(bcrypt).unwrap();
        for (text, error) in [
            ("", Unknown),
            ("hunter2", Unknown),
            ("5f4dcc3b5aa765d61d8327deb882cf99", Unknown),
            ("$argon2d$v=19$m=256,t=2,p=2$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", Unknown),
            ("$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", Unknown),
            ("pbkdf2_sha1$1$salt$hash", Unknown),
            ("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ", Malformed("Argon2")),
            ("$argon2id$v=20$m=256,t=2,p=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", Malformed("Argon2")),
            ("$argon2id$v=19$m=+256,t=2,p=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", Malformed("Argon2")),
            ("$argon2id$v=19$t=2,m=256,p=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", Malformed("Argon2")),
            ("$argon2id$v=19$m=256,t=2,p=2,keyid=A$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", Malformed("Argon2")),
            ("$argon2id$v=19$m=256,t=0,p=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", Malformed("Argon2")),
            ("$argon2id$v=19$m=256,t=2,p=2$c2FsdA$AAAAAAAAAAAAAAAAAAAAAA", Malformed("Argon2")),
            ("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$AAAA", Malformed("Argon2")),
            (&bcrypt[..59], Malformed("bcrypt")),
            (&format!("{bcrypt}a"), Malformed("bcrypt")),
            (&bcrypt.replace("$12$", "$3$"), Malformed("bcrypt")),
            (&bcrypt.replace("$12$", "$03$"), Malformed("bcrypt")),
            (&bcrypt.replace("R9h", "ä9"), Malformed("bcrypt")),
            ("pbkdf2_sha256$0$salt$CWWFdHOWwPnki7HvkcqN9iA2T3KLW1cf2uZ5kvArtVY=", Malformed("pbkdf2_sha256")),
            ("pbkdf2_sha256$1$$CWWFdHOWwPnki7HvkcqN9iA2T3KLW1cf2uZ5kvArtVY=", Malformed("pbkdf2_sha256")),
            ("pbkdf2_sha256$1$salt$", Malformed("pbkdf2_sha256")),
            ("pbkdf2_sha256$1$salt$CWWFdHOWwPk=", Malformed("pbkdf2_sha256")),
        ] {
            assert_eq!(StoredHash::parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn an_imported_hash_cannot_make_every_login_costly() {
        for text in [
            "$argon2id$v=19$m=262145,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=65536,t=17,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=1024,t=4294967295,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=65536,t=1,p=17$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "$2b$16$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "$2b$31$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "pbkdf2_sha256$2000001$salt$CWWFdHOWwPnki7HvkcqN9iA2T3KLW1cf2uZ5kvArtVY=",
        ] {
            assert!(matches!(StoredHash::parse(text), Err(InvalidHash::TooCostly(..))), "{text}");
        }
        // What common systems make is within the bounds.
        for text in [
            "argon2$argon2id$v=19$m=102400,t=2,p=8$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=65536,t=4,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "$2y$14$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "pbkdf2_sha256$1200000$salt$CWWFdHOWwPnki7HvkcqN9iA2T3KLW1cf2uZ5kvArtVY=",
        ] {
            StoredHash::parse(text).unwrap();
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(
            text in "(\\$argon2id?\\$(v=19\\$)?m=[0-9]{1,4},t=[0-9],p=[0-9]\\$|\\$2[aby]\\$[0-9]{2}\\$|pbkdf2_sha256\\$1\\$)?.{0,64}",
        ) {
            let _ = StoredHash::parse(&text);
        }
    }
}
