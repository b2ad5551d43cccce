//! Beside the `jsonwebtoken` crate, which reads the wall clock: so do we here.

use crate::support::{AUDIENCE, given, key, set};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, encode};
use proptest::prelude::*;
use reseal_jose::{Algorithm, SigningKey};
use reseal_verify::{Clock as _, SystemClock, Verifier};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::Duration;

const ISSUER: &str = "https://auth.test";
const LEEWAY: i64 = 30;

struct World {
    runtime: tokio::runtime::Runtime,
    verifier: Verifier,
    key: SigningKey,
    decoding: DecodingKey,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = key(Algorithm::Es256);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let builder = Verifier::builder(ISSUER).audience(AUDIENCE).leeway(Duration::from_secs(30)).cache(0);
    let verifier = runtime.block_on(builder.keys(given(&[&key])).build()).unwrap();
    let jwk = serde_json::to_value(&set(&[&key]).keys[0]).unwrap();
    let decoding =
        DecodingKey::from_ec_components(jwk["x"].as_str().unwrap(), jwk["y"].as_str().unwrap()).unwrap();
    World { runtime, verifier, key, decoding }
});

fn ours(token: &str) -> bool {
    WORLD.runtime.block_on(WORLD.verifier.verify(token)).is_ok()
}

fn theirs(token: &str) -> bool {
    let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
    validation.validate_nbf = true;
    validation.leeway = u64::try_from(LEEWAY).unwrap();
    decode::<Value>(token, &WORLD.decoding, &validation).is_ok()
}

/// Seconds from now, far enough from every boundary that a second between the two verifications is no matter.
fn offset() -> impl Strategy<Value = i64> {
    (-90..90_i64).prop_filter("a boundary", |offset| (offset.abs() - LEEWAY).abs() > 5)
}

fn maybe<T: std::fmt::Debug + Clone + 'static>(
    strategy: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<T>> {
    proptest::option::weighted(0.85, strategy)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn both_accept_the_same_tokens(
        exp in maybe(offset()),
        nbf in proptest::option::weighted(0.4, offset()),
        iss in maybe(prop_oneof![4 => Just(ISSUER), 1 => Just("https://other.test")]),
        aud in maybe(prop_oneof![
            2 => Just(json!(AUDIENCE)),
            2 => Just(json!(["x", AUDIENCE])),
            1 => Just(json!("x")),
            1 => Just(json!([])),
        ]),
        sub in maybe(Just("alice")),
    ) {
        let now = SystemClock.now();
        let mut claims = json!({});
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                claims[name] = value;
            }
        };
        put("exp", exp.map(|exp| json!(now + exp)));
        put("nbf", nbf.map(|nbf| json!(now + nbf)));
        put("iss", iss.map(|iss| json!(iss)));
        put("aud", aud);
        put("sub", sub.map(|sub| json!(sub)));
        let token = crate::support::sign(&WORLD.key, &claims);
        prop_assert_eq!(ours(&token), theirs(&token), "{}", claims);
    }
}

#[test]
fn what_they_sign_is_accepted_here() {
    let key = key(Algorithm::Es256);
    let builder = Verifier::builder(ISSUER).audience(AUDIENCE).keys(given(&[&key]));
    let verifier = WORLD.runtime.block_on(builder.build()).unwrap();
    let mut header = Header::new(jsonwebtoken::Algorithm::ES256);
    header.typ = Some("at+jwt".to_owned());
    let now = SystemClock.now();
    let claims = json!({ "iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": now + 300 });
    let signing = EncodingKey::from_ec_der(&key.to_pkcs8().unwrap());
    for kid in [None, Some(key.kid().to_owned())] {
        header.kid = kid;
        let token = encode(&header, &claims, &signing).unwrap();
        assert_eq!(WORLD.runtime.block_on(verifier.verify(&token)).unwrap().subject(), "alice");
    }
}
