use super::*;
use crate::fixture::{at, cookie, new_session, refresh, ring, start, two_factors};
use crate::id::{KeyId, SessionId};
use crate::session::{NewSession, Session};

fn key(id: u32, secret: u8) -> (KeyId, RingKey) {
    (KeyId(id), RingKey::new(&[secret; 32]))
}

fn refresh_text(ring: &KeyRing, session: &Session) -> String {
    let token = ring.successor(session).unwrap();
    ring.refresh_token_text(session, &token).unwrap().reveal().to_owned()
}

fn cookie_text(ring: &KeyRing, session: &Session) -> String {
    ring.session_cookie_text(session).unwrap().unwrap().reveal().to_owned()
}

fn read_refresh(ring: &KeyRing, text: &str) -> Result<RefreshToken, Option<Unauthentic>> {
    ring.authenticate_refresh_token(UnverifiedRefreshToken::parse(text).map_err(|_| None)?).map_err(Some)
}

fn read_cookie(ring: &KeyRing, text: &str) -> Result<SessionCookie, Option<Unauthentic>> {
    ring.authenticate_session_cookie(UnverifiedSessionCookie::parse(text).map_err(|_| None)?).map_err(Some)
}

fn bytes_of(prefix: &str, text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text.strip_prefix(prefix).unwrap()).unwrap()
}

fn text_of(prefix: &str, bytes: &[u8]) -> String {
    CredentialText::new(prefix, bytes).reveal().to_owned()
}

#[test]
fn a_refresh_token_reads_back_as_it_was_made() {
    let (ring, session) = (ring(), start(&refresh()));
    let token = ring.successor(&session).unwrap();
    let text = refresh_text(&ring, &session);
    assert_eq!(read_refresh(&ring, &text), Ok(token));
    assert!(token.is_of(&session));
    assert!(text.starts_with("rsl_rt_"));
    assert_eq!(text.len(), 7 + 82, "61 bytes in base64url");
    let bytes = bytes_of("rsl_rt_", &text);
    assert_eq!(bytes[..5], [1, 0, 0, 0, 1], "version and key id");
    assert_eq!(bytes[5..21], *session.id.as_bytes());
    assert_eq!(bytes[21..29], 1u64.to_be_bytes());
}

#[test]
fn a_cookie_reads_back_as_it_was_made() {
    let (ring, session) = (ring(), start(&cookie()));
    let text = cookie_text(&ring, &session);
    let read = read_cookie(&ring, &text).unwrap();
    assert_eq!((read.session_id, read.generation, read.is_of(&session)), (session.id, 1, true));
    assert!(text.starts_with("rsl_sc_"));
    let next = session.step_up(two_factors(at(1)), at(1), None).session.unwrap();
    assert_ne!(cookie_text(&ring, &next), text, "every generation has its own value");
    assert!(ring.session_cookie_text(&start(&refresh())).unwrap().is_none());
}

#[test]
fn the_same_row_gives_the_same_text_every_time() {
    let (ring, session) = (ring(), start(&refresh()));
    assert_eq!(refresh_text(&ring, &session), refresh_text(&ring, &session.clone()));
    let session = start(&cookie());
    assert_eq!(cookie_text(&ring, &session), cookie_text(&ring, &session.clone()));
}

#[test]
fn the_text_of_a_token_is_fixed_for_all_time() {
    // Tokens outlive an upgrade: a change of these bytes logs everybody out. Computed with Python's hmac.
    assert_eq!(
        refresh_text(&ring(), &start(&refresh())),
        "rsl_rt_AQAAAAEBAQEBAQEBAQEBAQEBAQEBAAAAAAAAAAFINJuoRx0TWqwlvsmA1fcpNEHZBVhxooFed0Nf0of1Og"
    );
    assert_eq!(
        cookie_text(&ring(), &start(&cookie())),
        "rsl_sc_AQAAAAEBAQEBAQEBAQEBAQEBAQEBAAAAAcw4qeejgkYK_Vxf7N4VEEs"
    );
}

#[test]
fn every_single_bit_counts() {
    let ring = ring();
    let text = refresh_text(&ring, &start(&refresh()));
    let bytes = bytes_of("rsl_rt_", &text);
    for bit in 0..bytes.len() * 8 {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        let read = read_refresh(&ring, &text_of("rsl_rt_", &forged));
        match bit / 8 {
            0 => assert_eq!(read, Err(None), "version"),
            1..=4 => assert!(matches!(read, Err(Some(Unauthentic::UnknownKey(_)))), "key id"),
            _ => assert_eq!(read, Err(Some(Unauthentic::Forged)), "bit {bit}"),
        }
    }
    let bytes = bytes_of("rsl_sc_", &cookie_text(&ring, &start(&cookie())));
    for bit in 0..bytes.len() * 8 {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(read_cookie(&ring, &text_of("rsl_sc_", &forged)).is_err(), "bit {bit}");
    }
}

#[test]
fn every_change_of_a_character_is_refused() {
    let ring = ring();
    for (text, is_good) in [
        (
            refresh_text(&ring, &start(&refresh())),
            (|r, t| read_refresh(r, t).is_ok()) as fn(&KeyRing, &str) -> bool,
        ),
        (cookie_text(&ring, &start(&cookie())), |r, t| read_cookie(r, t).is_ok()),
    ] {
        assert!(is_good(&ring, &text));
        for i in 0..text.len() {
            for c in ['A', 'b', '9', '-', '_', '+', '/', '=', ' ', 'ü'] {
                let mut other: Vec<char> = text.chars().collect();
                if other[i] == c {
                    continue;
                }
                other[i] = c;
                assert!(!is_good(&ring, &other.iter().collect::<String>()), "{c} at {i}");
            }
        }
    }
}

#[test]
fn only_the_canonical_spelling_is_a_credential() {
    let ring = ring();
    let text = refresh_text(&ring, &start(&refresh()));
    for bad in [
        String::new(),
        "rsl_rt_".to_owned(),
        text[7..].to_owned(),
        format!("{text}="),
        format!("{text} "),
        format!(" {text}"),
        format!("{text}A"),
        text[..text.len() - 1].to_owned(),
        text.replacen("rsl_rt_", "rsl_sc_", 1),
        text.replacen("rsl_rt_", "RSL_RT_", 1),
        "x".repeat(1 << 20),
    ] {
        assert!(UnverifiedRefreshToken::parse(&bad).is_err(), "{}", &bad[..bad.len().min(100)]);
        assert!(UnverifiedSessionCookie::parse(&bad).is_err());
    }
}

#[test]
fn parts_of_two_tokens_do_not_make_a_third() {
    let ring = ring();
    let session = start(&refresh());
    let other = Session::start(
        NewSession { id: SessionId::from_bytes([9; 16]), nonce: [8; 16], ..new_session(at(0)) },
        &refresh(),
        at(0),
    )
    .0;
    let mut later = session.clone();
    later.rotation.used = 7;
    let texts = [&session, &other, &later].map(|s| bytes_of("rsl_rt_", &refresh_text(&ring, s)));
    for a in &texts {
        for b in &texts {
            for cut in [5, 21, 29, 45] {
                let spliced = [&a[..cut], &b[cut..]].concat();
                let read = read_refresh(&ring, &text_of("rsl_rt_", &spliced));
                assert_eq!(read.is_ok(), spliced == *a || spliced == *b, "cut at {cut}");
            }
        }
    }
}

#[test]
fn a_tag_of_one_kind_is_never_good_as_another() {
    let (ring, session) = (ring(), start(&cookie()));
    let cookie = bytes_of("rsl_sc_", &cookie_text(&ring, &session));
    let (signed, _) = cookie.split_at(25);
    let prk =
        aws_lc_rs::hkdf::Salt::new(aws_lc_rs::hkdf::HKDF_SHA256, b"reseal key ring v1").extract(&[7; 32]);
    let sealed_with = |purpose: &str| {
        let info = [purpose.as_bytes()];
        let subkey = aws_lc_rs::hmac::Key::from(prk.expand(&info, aws_lc_rs::hmac::HMAC_SHA256).unwrap());
        let tag = aws_lc_rs::hmac::sign(&subkey, signed);
        read_cookie(&ring, &text_of("rsl_sc_", &[signed, &tag.as_ref()[..16]].concat()))
    };
    assert!(sealed_with("session cookie tag").is_ok());
    for wrong in ["refresh token tag", "refresh token nonce", "one-time code", ""] {
        assert_eq!(sealed_with(wrong), Err(Some(Unauthentic::Forged)), "{wrong}");
    }
}

#[test]
fn a_key_that_is_not_here_is_unknown_and_not_a_forgery() {
    let elsewhere = KeyRing::new([key(2, 7)], KeyId(2)).unwrap();
    let session = start(&refresh());
    let unknown = Unauthentic::UnknownKey(KeyId(1));
    assert_eq!(read_refresh(&elsewhere, &refresh_text(&ring(), &session)), Err(Some(unknown)));
    assert_eq!(elsewhere.successor(&session), Err(unknown));
    let token = ring().successor(&session).unwrap();
    assert_eq!(elsewhere.refresh_token_text(&session, &token).unwrap_err(), unknown);
    assert_eq!(elsewhere.session_cookie_text(&start(&cookie())).unwrap_err(), unknown);
    assert_eq!(elsewhere.code_hash(KeyId(1), &[0; 32], "123456").unwrap_err(), unknown);
}

#[test]
fn only_a_number_below_another_is_of_a_forgotten_key() {
    let ring = KeyRing::new([key(3, 7), key(5, 8)], KeyId(5)).unwrap();
    let forgotten: Vec<u32> = (0..8).filter(|id| ring.has_forgotten(KeyId(*id))).collect();
    assert_eq!(forgotten, [0, 1, 2, 4], "a newer one may be on another node already");
}

#[test]
fn the_right_number_with_another_secret_is_a_forgery() {
    let other = KeyRing::new([key(1, 8)], KeyId(1)).unwrap();
    let text = refresh_text(&ring(), &start(&refresh()));
    assert_eq!(read_refresh(&other, &text), Err(Some(Unauthentic::Forged)));
}

#[test]
fn a_rotated_ring_repeats_old_sessions_byte_for_byte() {
    let session = start(&refresh());
    let browser = start(&cookie());
    let before = (refresh_text(&ring(), &session), cookie_text(&ring(), &browser));
    let rotated = KeyRing::new([key(1, 7), key(2, 9)], KeyId(2)).unwrap();
    assert_eq!(rotated.current(), KeyId(2));
    assert_eq!((refresh_text(&rotated, &session), cookie_text(&rotated, &browser)), before);
    assert!(read_refresh(&rotated, &before.0).is_ok());
    let new =
        Session::start(NewSession { key_id: rotated.current(), ..new_session(at(0)) }, &refresh(), at(0)).0;
    assert_ne!(refresh_text(&rotated, &new), before.0);
}

#[test]
fn an_old_key_does_not_open_the_sessions_of_a_newer_one() {
    // Key 1 leaked and was replaced by key 2, but still verifies what it made.
    let rotated = KeyRing::new([key(1, 7), key(2, 9)], KeyId(2)).unwrap();
    let victim = Session::start(NewSession { key_id: KeyId(2), ..new_session(at(0)) }, &refresh(), at(0)).0;
    let as_if = Session { key_id: KeyId(1), ..victim.clone() };
    let forged = read_refresh(&ring(), &refresh_text(&ring(), &as_if)).unwrap();
    assert_eq!(read_refresh(&rotated, &refresh_text(&ring(), &as_if)), Ok(forged), "it is authentic");
    assert!(!forged.is_of(&victim), "but not this session's");
    let as_if = Session { cookie: start(&cookie()).cookie, ..as_if };
    let forged = read_cookie(&rotated, &cookie_text(&ring(), &as_if)).unwrap();
    assert!(!forged.is_of(&victim));
}

#[test]
fn a_ring_needs_its_current_key() {
    assert!(KeyRing::new([key(1, 7)], KeyId(2)).is_none());
    assert!(ring().contains(KeyId(1)) && !ring().contains(KeyId(2)));
}

#[test]
fn a_number_that_was_never_issued_is_a_forgery_even_with_a_good_tag() {
    let (ring, session) = (ring(), start(&refresh()));
    let good = ring.successor(&session).unwrap();
    for number in [0, i64::MAX.unsigned_abs(), u64::MAX] {
        let text = ring.refresh_token_text(&session, &RefreshToken { number, ..good }).unwrap();
        assert_eq!(read_refresh(&ring, text.reveal()), Err(Some(Unauthentic::Forged)), "{number}");
    }
}

#[test]
fn successors_differ_by_session_number_nonce_and_branch() {
    let ring = ring();
    let base = start(&refresh());
    let mut nonces = std::collections::BTreeSet::new();
    for (id, used, nonce, branch) in
        [(1, 0, 2, 0), (9, 0, 2, 0), (1, 1, 2, 0), (1, 0, 3, 0), (1, 0, 2, 1), (1, 0, 2, 1 << 31)]
    {
        let mut session = Session { id: SessionId::from_bytes([id; 16]), ..base.clone() };
        session.rotation.used = used;
        session.rotation.used_nonce = [nonce; 16];
        session.rotation.branch = branch;
        nonces.insert(ring.successor(&session).unwrap().nonce);
    }
    assert_eq!(nonces.len(), 6);
}

#[test]
fn a_code_is_hashed_with_its_challenge_and_its_key() {
    let ring = KeyRing::new([key(1, 7), key(2, 9)], KeyId(1)).unwrap();
    let hash = |id, challenge: u8, code: &str| ring.code_hash(KeyId(id), &[challenge; 32], code).unwrap();
    assert_eq!(hash(1, 0, "123456"), hash(1, 0, "123456"));
    assert_ne!(hash(1, 0, "123456"), hash(1, 1, "123456"));
    assert_ne!(hash(1, 0, "123456"), hash(2, 0, "123456"));
    assert_ne!(hash(1, 0, "123456"), hash(1, 0, "123457"));
}

#[test]
fn debug_output_shows_no_credential() {
    let (ring, session) = (ring(), start(&refresh()));
    let token = ring.successor(&session).unwrap();
    let text = ring.refresh_token_text(&session, &token).unwrap();
    let debug = format!("{text:?} {token:?} {ring:?} {:?}", RingKey::new(&[7; 32]));
    assert_eq!(
        debug,
        format!(
            "CredentialText(…) RefreshToken(1 of {}) KeyRing {{ keys: [KeyId(1)], current: KeyId(1) }} RingKey(…)",
            session.id
        )
    );
}
