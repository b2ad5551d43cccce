use super::*;
use proptest::prelude::*;

fn rules() -> Rules {
    Rules {
        issuer: "https://auth.test".to_owned(),
        audience: vec!["orders".to_owned(), "stock".to_owned()],
        algorithms: vec![Algorithm::Es256],
        types: Some(vec!["at+jwt".to_owned()]),
        leeway: 5,
    }
}

fn claims(iss: &str, aud: &[&str], exp: i64, nbf: Option<i64>) -> Registered {
    Registered {
        iss: iss.to_owned(),
        aud: aud.iter().map(|a| (*a).to_owned()).collect(),
        exp,
        nbf,
        ..Registered::default()
    }
}

fn header(json: &str) -> Header {
    use base64::Engine as _;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
    reseal_jose::Jws::parse(&format!("{header}.e30.AAAA")).unwrap().header().clone()
}

#[test]
fn a_token_is_dead_from_exp_plus_leeway_on() {
    let claims = claims("", &[], 1000, None);
    assert_eq!(rules().check_time(&claims, 1004), Ok(()));
    assert_eq!(rules().check_time(&claims, 1005), Err(VerifyError::Expired));
    let strict = Rules { leeway: 0, ..rules() };
    assert_eq!(strict.check_time(&claims, 999), Ok(()));
    assert_eq!(strict.check_time(&claims, 1000), Err(VerifyError::Expired));
}

#[test]
fn a_token_is_valid_from_nbf_minus_leeway_on() {
    let claims = claims("", &[], 2000, Some(1000));
    assert_eq!(rules().check_time(&claims, 995), Ok(()));
    assert_eq!(rules().check_time(&claims, 994), Err(VerifyError::NotYetValid));
}

#[test]
fn the_issuer_is_compared_exactly() {
    let with = |iss: &str| rules().check_parties(&claims(iss, &["orders"], 0, None));
    assert_eq!(with("https://auth.test"), Ok(()));
    for other in ["https://auth.test/", "https://AUTH.test", "http://auth.test", "", " https://auth.test"] {
        assert_eq!(with(other), Err(VerifyError::Issuer), "{other}");
    }
}

#[test]
fn one_of_our_names_must_be_in_the_audience() {
    let with = |aud: &[&str]| rules().check_parties(&claims("https://auth.test", aud, 0, None));
    assert_eq!(with(&["orders"]), Ok(()));
    assert_eq!(with(&["other", "stock"]), Ok(()));
    for aud in [&[][..], &["other"], &["Orders"], &["order"], &["orders "]] {
        assert_eq!(with(aud), Err(VerifyError::Audience), "{aud:?}");
    }
}

#[test]
fn the_type_is_compared_as_rfc_9068_has_it() {
    let with = |json: &str| rules().check_header(&header(json));
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert_eq!(with(&format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#)), Ok(()), "{typ}");
    }
    for typ in ["JWT", "", "application/", "application/application/at+jwt", "text/at+jwt", "at+jwt "] {
        assert_eq!(with(&format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#)), Err(VerifyError::Type), "{typ}");
    }
    assert_eq!(with(r#"{"alg":"ES256"}"#), Err(VerifyError::Type));
    let any = Rules { types: None, ..rules() };
    assert_eq!(any.check_header(&header(r#"{"alg":"ES256"}"#)), Ok(()));
    assert_eq!(media_type("Application/At+JWT"), "at+jwt");
    assert_eq!(media_type("text/AT"), "text/at");
}

#[test]
fn only_listed_algorithms_are_accepted() {
    let got = rules().check_header(&header(r#"{"alg":"RS256","typ":"at+jwt"}"#));
    assert_eq!(got, Err(VerifyError::Algorithm(Algorithm::Rs256)));
}

proptest! {
    #[test]
    fn times_never_overflow(exp: i64, nbf: Option<i64>, now: i64, leeway in 0..=60_i64) {
        let rules = Rules { leeway, ..rules() };
        let (exp_w, now_w, leeway_w) = (i128::from(exp), i128::from(now), i128::from(leeway));
        // At the very end of the scale the sum stops; no clock ever shows that time.
        prop_assume!(now < i64::MAX - 60 && now > i64::MIN + 60);
        let expected = if now_w >= exp_w + leeway_w {
            Err(VerifyError::Expired)
        } else if nbf.is_some_and(|nbf| now_w < i128::from(nbf) - leeway_w) {
            Err(VerifyError::NotYetValid)
        } else {
            Ok(())
        };
        prop_assert_eq!(rules.check_time(&claims("", &[], exp, nbf), now), expected);
    }
}
