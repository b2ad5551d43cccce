//! Nothing panics, and nothing but the token itself is accepted.

use crate::support::{builder, claims, given, key, sign};
use proptest::prelude::*;
use reseal_jose::{Algorithm, SigningKey};
use reseal_verify::Verifier;
use std::sync::LazyLock;

const ISSUER: &str = "https://auth.test";

struct World {
    runtime: tokio::runtime::Runtime,
    verifier: Verifier,
    tokens: Vec<String>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let keys: Vec<SigningKey> = Algorithm::ALL.into_iter().map(key).collect();
    let given = given(&keys.iter().collect::<Vec<_>>());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let verifier = runtime.block_on(builder(ISSUER).0.keys(given).build()).unwrap();
    let tokens = keys.iter().map(|key| sign(key, &claims(ISSUER))).collect();
    World { runtime, verifier, tokens }
});

fn accepts(token: &str) -> bool {
    WORLD.runtime.block_on(WORLD.verifier.verify(token)).is_ok()
}

#[test]
fn every_change_of_a_single_bit_is_refused() {
    let mut tried = 0;
    for token in &WORLD.tokens {
        assert!(accepts(token));
        for place in 0..token.len() {
            // The eighth bit would make it no text.
            for bit in 0..7 {
                let mut bytes = token.clone().into_bytes();
                bytes[place] ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();
                assert!(!accepts(&changed), "bit {bit} of byte {place}");
                tried += 1;
            }
        }
        assert!(accepts(token));
    }
    assert!(tried > 5000);
}

#[test]
fn parts_of_different_tokens_do_not_go_together() {
    for one in &WORLD.tokens {
        for other in WORLD.tokens.iter().filter(|other| *other != one) {
            let (a, b): (Vec<&str>, Vec<&str>) = (one.split('.').collect(), other.split('.').collect());
            for mixed in [[b[0], a[1], a[2]], [a[0], a[1], b[2]]] {
                assert!(!accepts(&mixed.join(".")));
            }
        }
        for text in
            [format!("{one}."), format!(".{one}"), format!("{one}="), format!(" {one}"), format!("{one}\n")]
        {
            assert!(!accepts(&text));
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in ".{0,400}") {
        prop_assert!(!accepts(&text));
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(!accepts(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn a_token_that_is_cut_joined_or_overwritten_is_refused(
        which in 0..3_usize,
        at in any::<proptest::sample::Index>(),
        cut in any::<proptest::sample::Index>(),
        piece in "[A-Za-z0-9_.=-]{0,40}",
    ) {
        let token = &WORLD.tokens[which];
        let at = at.index(token.len());
        let until = at + cut.index(token.len() - at + 1);
        let changed = format!("{}{piece}{}", &token[..at], &token[until..]);
        prop_assume!(&changed != token);
        prop_assert!(!accepts(&changed));
    }

    #[test]
    fn three_parts_of_anything_are_refused_without_a_panic(
        header in proptest::collection::vec(any::<u8>(), 0..60),
        payload in proptest::collection::vec(any::<u8>(), 0..60),
        signature in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        use base64::Engine as _;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let token = [encode(&header), encode(&payload), encode(&signature)].join(".");
        prop_assert!(!accepts(&token));
    }
}
