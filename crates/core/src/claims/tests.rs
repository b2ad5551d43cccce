use super::*;
use crate::fixture::{at, fixed, password, refresh, sliding, start, two_factors};
use crate::id::UserId;
use serde_json::json;

fn user() -> User {
    User {
        id: UserId::from_bytes([3; 16]),
        username: "ada".to_owned(),
        name: Some("Ada".to_owned()),
        email: None,
        phone_number: None,
        phone_number_verified: false,
        roles: vec!["admin".to_owned()],
        attributes: [("plan".to_owned(), json!({"tier": 2})), ("secret".to_owned(), json!("x"))].into(),
        disabled: false,
        revision: 7,
        auth_epoch: 0,
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn text(
    session: &Session,
    policy: &crate::Policy,
    user: &User,
    names: &[&str],
    strength: Strength,
) -> String {
    let projection = Projection::parse(names).unwrap();
    let subject = SessionClaims { session, strength, user, projection: &projection };
    let claims = AccessTokenClaims {
        issuer: "https://id.example",
        audience: &["https://id.example".to_owned(), "api".to_owned()],
        client_id: &session.client_id,
        jti: "j1",
        life: session.access_life(policy, at(0)),
        scope: &session.scope,
        subject: Some(subject),
    };
    serde_json::to_string(&claims).unwrap()
}

#[test]
fn the_payload_is_exactly_this() {
    let policy = sliding();
    let names = ["name", "email", "phone_number", "phone_number_verified", "roles", "attributes.plan"];
    assert_eq!(
        text(&start(&policy), &policy, &user(), &names, password(at(0))),
        concat!(
            r#"{"iss":"https://id.example","sub":"03030303-0303-0303-0303-030303030303","#,
            r#""aud":["https://id.example","api"],"client_id":"spa","#,
            r#""iat":1700000000,"exp":1700001200,"jti":"j1","sid":"AQEBAQEBAQEBAQEBAQEBAQ","rev":7,"#,
            r#""auth_time":1700000000,"acr":"aal1","amr":["pwd"],"scope":"read write","renew_at":1700000600,"#,
            r#""name":"Ada","email":null,"phone_number":null,"phone_number_verified":false,"roles":["admin"],"#,
            r#""attributes":{"plan":{"tier":2}}}"#
        )
    );
}

#[test]
fn renew_at_is_only_in_tokens_that_are_renewed_by_presenting_them() {
    for policy in [refresh(), fixed()] {
        assert!(!text(&start(&policy), &policy, &user(), &[], password(at(0))).contains("renew_at"));
    }
}

#[test]
fn a_client_sees_what_it_lists_and_nothing_else() {
    let policy = refresh();
    let json = text(&start(&policy), &policy, &user(), &["preferred_username"], password(at(0)));
    assert!(json.contains(r#""preferred_username":"ada""#));
    for hidden in ["\"name\"", "roles", "attributes", "secret", "phone", "email"] {
        assert!(!json.contains(hidden), "{hidden}");
    }
}

#[test]
fn a_token_vouches_for_its_own_strength_and_not_the_sessions() {
    let policy = refresh();
    let session = start(&policy).step_up(two_factors(at(60)), at(60), None).session.unwrap();
    let json = text(&session, &policy, &user(), &[], session.strength.weaker(password(at(0))));
    assert!(json.contains(r#""acr":"aal1","amr":["pwd"]"#), "{json}");
    let json = text(&session, &policy, &user(), &[], session.strength);
    assert!(json.contains(r#""auth_time":1700000060,"acr":"aal2","amr":["pwd","sms","mfa"]"#), "{json}");
}

#[test]
fn a_bound_session_s_tokens_name_the_key() {
    let policy = refresh();
    let session = Session { binding: Some([0xab; 32]), ..start(&policy) };
    let json: Value = serde_json::from_str(&text(&session, &policy, &user(), &[], password(at(0)))).unwrap();
    assert_eq!(json["cnf"], json!({"jkt": "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s"}));
    let unbound = text(&start(&policy), &policy, &user(), &[], password(at(0)));
    assert!(!unbound.contains("cnf"));
}

#[test]
fn a_token_of_client_credentials_is_about_the_client() {
    let client_id: ClientId = "worker".parse().unwrap();
    let claims = AccessTokenClaims {
        issuer: "https://id.example",
        audience: &["https://id.example".to_owned()],
        client_id: &client_id,
        jti: "j2",
        life: AccessLife { iat: 10, exp: 310, renew_at: None },
        scope: &"reseal:admin".parse().unwrap(),
        subject: None,
    };
    assert_eq!(
        serde_json::to_string(&claims).unwrap(),
        concat!(
            r#"{"iss":"https://id.example","sub":"worker","aud":["https://id.example"],"client_id":"worker","#,
            r#""iat":10,"exp":310,"jti":"j2","scope":"reseal:admin"}"#
        )
    );
}

#[test]
fn an_attribute_that_the_user_lacks_is_null() {
    let policy = refresh();
    let json = text(&start(&policy), &policy, &user(), &["attributes.team"], password(at(0)));
    assert!(json.ends_with(r#""attributes":{"team":null}}"#), "{json}");
}

#[test]
fn no_projection_can_name_a_secret_or_a_registered_claim() {
    for bad in [
        "password",
        "recovery_codes",
        "username",
        "sub",
        "iss",
        "exp",
        "acr",
        "rev",
        "id",
        "disabled",
        "attributes",
        "attributes.",
        "attributes.a b",
        "attributes.a.b",
        "Name",
        "",
        "attributes.ü",
    ] {
        let error = Projection::parse([bad]).expect_err(bad);
        assert!(error.to_string().starts_with(&format!("{bad:?} is not a claim")), "{error}");
    }
    let long = Projection::parse(["x".repeat(10_000)]).unwrap_err().to_string();
    assert!(long.len() < 300, "an error does not repeat what it was sent at length");
}

#[test]
fn a_projection_is_read_as_it_was_written_once_each() {
    let projection = Projection::parse(["roles", "name", "roles", "attributes.plan"]).unwrap();
    assert_eq!(projection.names(), ["roles", "name", "attributes.plan"]);
    let json = serde_json::to_string(&projection).unwrap();
    assert_eq!(json, r#"["roles","name","attributes.plan"]"#);
    assert_eq!(serde_json::from_str::<Projection>(&json).unwrap(), projection);
    assert!(serde_json::from_str::<Projection>(r#"["password"]"#).is_err());
}
