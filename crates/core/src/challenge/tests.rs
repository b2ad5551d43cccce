use super::*;
use crate::fixture::{at, at_millis};

fn hash(n: u8) -> SecretHash {
    SecretHash([n; 32])
}

/// A challenge whose first code has the hash 1, sent at zero.
fn challenge() -> Challenge {
    Challenge {
        id: hash(9),
        purpose: Purpose::Phone { session_id: SessionId::from_bytes([1; 16]) },
        user_id: UserId::from_bytes([3; 16]),
        phone_number: "+4915112345678".to_owned(),
        auth_epoch: 0,
        key_id: KeyId(1),
        code_hash: hash(1),
        tries_left: CODE_TRIES,
        sends: 1,
        sent_at: at(0),
        expires_at: at(0) + CODE_TTL,
        version: 1,
    }
}

fn wrong(verdict: Verdict) -> Challenge {
    match verdict {
        Verdict::Wrong(next) => next,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_right_code_is_accepted_until_it_expires() {
    assert_eq!(challenge().judge(Some(hash(1)), at(0)), Verdict::Accepted);
    assert_eq!(challenge().judge(Some(hash(1)), at_millis(299_999)), Verdict::Accepted);
    assert_eq!(challenge().judge(Some(hash(1)), at(300)), Verdict::Void);
}

#[test]
fn five_wrong_codes_void_the_challenge_even_for_the_right_one() {
    let mut challenge = challenge();
    for left in (0..CODE_TRIES).rev() {
        let next = wrong(challenge.judge(Some(hash(2)), at(1)));
        assert_eq!((next.tries_left, next.version), (left, challenge.version + 1));
        assert_eq!(next.expires_at, challenge.expires_at);
        challenge = next;
    }
    assert_eq!(challenge.judge(Some(hash(1)), at(1)), Verdict::Void);
    assert_eq!(challenge.resend(hash(3), at(60)), Err(Resend::Void), "a new code does not help");
}

#[test]
fn the_fifth_try_may_be_the_right_one() {
    let mut challenge = challenge();
    for _ in 1..CODE_TRIES {
        challenge = wrong(challenge.judge(Some(hash(2)), at(1)));
    }
    assert_eq!(challenge.judge(Some(hash(1)), at(1)), Verdict::Accepted);
}

#[test]
fn what_cannot_be_a_code_costs_a_try_too() {
    assert_eq!(wrong(challenge().judge(None, at(1))).tries_left, CODE_TRIES - 1);
}

#[test]
fn a_resend_replaces_the_code_and_gives_back_neither_tries_nor_time() {
    let tried = wrong(challenge().judge(Some(hash(2)), at(1)));
    let next = tried.resend(hash(5), at(30)).unwrap();
    assert_eq!((next.tries_left, next.sends, next.sent_at), (CODE_TRIES - 1, 2, at(30)));
    assert_eq!((next.expires_at, next.version), (challenge().expires_at, tried.version + 1));
    wrong(next.judge(Some(hash(1)), at(31)));
    assert_eq!(next.judge(Some(hash(5)), at(31)), Verdict::Accepted);
}

#[test]
fn messages_keep_their_distance_and_are_few() {
    let early = challenge().resend(hash(2), at_millis(29_999));
    assert_eq!(early, Err(Resend::Wait(Duration::from_millis(1))));
    let third = challenge().resend(hash(2), at(30)).unwrap().resend(hash(3), at(60)).unwrap();
    assert_eq!(third.sends, CODE_SENDS);
    assert_eq!(third.resend(hash(4), at(90)), Err(Resend::TooMany));
    assert_eq!(challenge().resend(hash(2), at(300)), Err(Resend::Void));
}

#[test]
fn codes_are_six_digits_and_each_as_likely() {
    assert_eq!(code_from_random([0; 4]).unwrap(), "000000");
    assert_eq!(code_from_random(1_000_042_u32.to_be_bytes()).unwrap(), "000042");
    // 4,294 whole rounds of a million, and nothing of the uneven rest.
    let limit = 4_294_000_000_u32;
    assert_eq!(code_from_random((limit - 1).to_be_bytes()).unwrap(), "999999");
    assert_eq!(code_from_random(limit.to_be_bytes()), None);
    assert_eq!(code_from_random([0xff; 4]), None);
    assert_eq!(limit % 1_000_000, 0);
}

#[test]
fn codes_spread_evenly_over_their_digits() {
    let mut counts = [[0_u32; 10]; 6];
    let mut n = 0_u32;
    for _ in 0..100_000 {
        // A Weyl sequence: even, and the same at every run.
        n = n.wrapping_add(2_654_435_769);
        let Some(code) = code_from_random(n.to_be_bytes()) else { continue };
        assert_eq!(code.len(), 6);
        for (place, digit) in code.bytes().enumerate() {
            counts[place][usize::from(digit - b'0')] += 1;
        }
    }
    for (place, digits) in counts.iter().enumerate() {
        for (digit, count) in digits.iter().enumerate() {
            assert!((9_500..10_500).contains(count), "{digit} at {place}: {count}");
        }
    }
}

#[test]
fn recovery_codes_carry_all_their_bits() {
    let code = recovery_code_from_random([0xff; 16]);
    assert_eq!(code, "zzzzz-zzzzz-zzzzz-zzzzz-zzzzz-7", "128 bits: the last letter has three");
    let mut codes: Vec<String> =
        (0..128).map(|bit| recovery_code_from_random((1_u128 << bit).to_be_bytes())).collect();
    codes.sort();
    codes.dedup();
    assert_eq!(codes.len(), 128);
}

#[test]
fn a_recovery_code_is_read_as_people_type_it() {
    let code = recovery_code_from_random(*b"sixteen bytes ok");
    let plain = code.replace('-', "");
    assert_eq!(normalize_recovery_code(&code), Some(plain.clone()));
    assert_eq!(
        normalize_recovery_code(&format!(" {} ", code.to_uppercase().replace('-', " "))),
        Some(plain.clone())
    );
    let confused = plain.replace('0', "O").replace('1', "l");
    assert_eq!(normalize_recovery_code(&confused), Some(plain.clone()));
    for bad in ["", &plain[1..], &format!("{plain}0"), &"x".repeat(100_000)] {
        assert_eq!(normalize_recovery_code(bad), None);
    }
}
