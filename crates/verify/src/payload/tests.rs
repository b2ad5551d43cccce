use super::*;
use proptest::prelude::*;

const REST: &str = r#""iss":"i","sub":"s","aud":"a","exp":1000"#;

fn with(more: &str) -> Result<Registered, VerifyError> {
    parse(&format!("{{{REST}{more}}}"))
}

#[test]
fn reads_all_claims_of_ours() {
    let claims = parse(
        r#"{"iss":"https://auth.test","sub":"u","aud":["https://auth.test","orders"],"client_id":"web","iat":10,"exp":20,
        "jti":"j","sid":"s","rev":3,"auth_time":5,"acr":"aal2","amr":["pwd","sms","mfa"],"scope":"read write","renew_at":15,
        "name":"Ann","attributes":{"plan":"pro"}}"#,
    )
    .unwrap();
    assert_eq!(
        claims,
        Registered {
            iss: "https://auth.test".into(),
            sub: "u".into(),
            aud: vec!["https://auth.test".into(), "orders".into()],
            exp: 20,
            nbf: None,
            iat: Some(10),
            jti: Some("j".into()),
            client_id: Some("web".into()),
            scope: vec!["read".into(), "write".into()],
            sid: Some("s".into()),
            rev: Some(3),
            auth_time: Some(5),
            acr: Some("aal2".into()),
            amr: vec!["pwd".into(), "sms".into(), "mfa".into()],
            renew_at: Some(15),
        }
    );
}

#[test]
fn reads_what_other_issuers_write() {
    let claims =
        with(r#","nbf":1.2,"iat":1.8,"scope":["a","b c"],"rev":"5-abc","renew_at":{"x":[1]},"amr":"pwd""#)
            .unwrap();
    assert_eq!((claims.nbf, claims.iat), (Some(2), Some(1)), "never earlier than it says, never later");
    assert_eq!(claims.scope, ["a", "b c"]);
    assert_eq!((claims.rev, claims.renew_at), (None, None));
    assert_eq!(claims.amr, ["pwd"]);
    for value in [
        "null",
        "-1",
        "-0",
        "1.5",
        "1e400",
        "18446744073709551616",
        "true",
        "\"7\"",
        "[[[]]]",
        r#"{"a":[1]}"#,
    ] {
        assert_eq!(with(&format!(",\"rev\":{value}")).unwrap().rev, None, "{value}");
        assert_eq!(with(&format!(",\"renew_at\": {value} ")).unwrap().renew_at, None, "{value}");
    }
    assert_eq!(with(&format!(",\"rev\":{}", u64::MAX)).unwrap().rev, Some(u64::MAX));
    assert_eq!(with(&format!(",\"renew_at\": {}", i64::MAX)).unwrap().renew_at, Some(i64::MAX));
    assert_eq!(with(r#","nbf":null,"jti":null,"scope":null"#).unwrap().nbf, None);
    assert!(with(r#","scope":"  a  b ""#).unwrap().scope.eq(&["a", "b"]));
}

#[test]
fn dates_have_no_end_that_panics() {
    let exp =
        |text: &str| parse(&format!(r#"{{"iss":"i","sub":"s","aud":"a","exp":{text}}}"#)).map(|c| c.exp);
    assert_eq!(exp("1000.9"), Ok(1000));
    assert_eq!(exp("-0.5"), Ok(-1));
    assert_eq!(exp("1e300"), Ok(i64::MAX));
    assert_eq!(exp("-1e300"), Ok(i64::MIN));
    assert_eq!(exp("18446744073709551615"), Ok(i64::MAX));
    assert_eq!(exp("1e3"), Ok(1000));
    for bad in ["1e999", "\"1000\"", "null", "true", "[1000]", "NaN"] {
        assert!(exp(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_must_be_there_must_be_there() {
    for (name, rest) in [
        ("iss", r#""sub":"s","aud":"a","exp":1"#),
        ("sub", r#""iss":"i","aud":"a","exp":1"#),
        ("aud", r#""iss":"i","sub":"s","exp":1"#),
        ("exp", r#""iss":"i","sub":"s","aud":"a""#),
    ] {
        assert!(matches!(parse(&format!("{{{rest}}}")), Err(VerifyError::Claims(_))), "{name}");
        assert!(parse(&format!("{{{rest},\"{name}\":null}}")).is_err(), "{name}");
    }
    for bad in
        [r#","nbf":"1""#, r#","scope":1"#, r#","sid":1"#, r#","jti":[]"#, r#","amr":[1]"#, r#","acr":2"#]
    {
        assert!(with(bad).is_err(), "{bad}");
    }
}

#[test]
fn no_claim_is_there_twice_however_it_is_spelled() {
    assert!(with(r#","iss":"i""#).is_err());
    assert!(with(r#","name":"a","name":"b""#).is_err());
    assert!(with(r#","n\u0061me":"a","name":"b""#).is_err());
    assert!(with(r#","name":"a","names":"b""#).is_ok());
}

#[test]
fn is_bounded() {
    let many = |n: usize| (0..n).map(|i| format!(",\"c{i}\":0")).collect::<String>();
    assert!(with(&many(MAX_CLAIMS - 4)).is_ok());
    assert!(with(&many(MAX_CLAIMS - 3)).is_err());
    let list = |n: usize| vec!["\"a\""; n].join(",");
    assert!(with(&format!(",\"amr\":[{}]", list(MAX_LIST))).is_ok());
    assert!(with(&format!(",\"amr\":[{}]", list(MAX_LIST + 1))).is_err());
    assert!(with(&format!(",\"scope\":\"{}\"", "a ".repeat(MAX_LIST + 1))).is_err());
}

#[test]
fn deep_nesting_is_no_stack_overflow() {
    let deep = |n: usize| format!(",\"x\":{}{}", "[".repeat(n), "]".repeat(n));
    let _ = with(&deep(6000));
    let _ = with(&format!(",\"rev\":{}{}", "[".repeat(6000), "]".repeat(6000)));
    let _ = with(&format!(",\"x\":{}", "{\"a\":".repeat(3000)));
    assert!(with(&deep(50)).is_ok());
}

#[test]
fn errors_quote_nothing() {
    for text in [r#"{"iss":5,"secret":"hunter2"}"#, r#"{"iss":"hunter2","sub":["hunter2"]}"#, "hunter2"] {
        assert!(!parse(text).unwrap_err().to_string().contains("hunter2"), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in ".{0,300}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_json_is_read_without_a_panic(name in "(iss|sub|aud|exp|nbf|iat|scope|rev|amr|renew_at|sid)", value in any_json()) {
        let _ = parse(&format!("{{\"{name}\":{value}}}"));
        let _ = with(&format!(",\"{name}\":{value}"));
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::hash_map(".{0,4}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}
