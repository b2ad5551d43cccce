use super::*;
use crate::event::EndReason;
use crate::fixture::{at, cookie, fixed, policy, refresh, sliding, start};

fn check(json: &str) -> Result<Policy, PolicyError> {
    serde_json::from_str::<PolicyConfig>(json).unwrap().validate(&"web".parse().unwrap())
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_sliding_policy_is_idle_after_one_access_token() {
    let p = check(r#"{"kind": "sliding", "access_ttl": "20m", "max_ttl": "12h"}"#).unwrap();
    assert_eq!((p.access_ttl, p.idle_ttl, p.max_ttl), (20 * MINUTE, Some(20 * MINUTE), 12 * HOUR));
    assert!((p.renew_after - 0.5).abs() < f64::EPSILON);
    assert_eq!(p.half_life(), 10 * MINUTE);
}

#[test]
fn a_fixed_policy_has_one_end_and_no_idle_time() {
    let p = check(r#"{"kind": "fixed", "access_ttl": "7d"}"#).unwrap();
    assert_eq!((p.access_ttl, p.idle_ttl, p.max_ttl), (7 * DAY, None, 7 * DAY));
    assert!(check(r#"{"kind": "fixed", "access_ttl": "7d", "max_ttl": "7d"}"#).is_ok(), "no contradiction");
}

#[test]
fn a_refresh_policy_forgives_ten_seconds_and_lost_answers() {
    let p = check(r#"{"kind": "refresh", "access_ttl": "5m", "idle_ttl": "14d", "max_ttl": "90d"}"#).unwrap();
    assert_eq!((p.grace, p.lost_response), (Duration::from_secs(10), LostResponse::UntilUsed));
    let strict = r#"{"kind": "refresh", "access_ttl": "5m", "idle_ttl": "14d", "max_ttl": "90d",
        "grace": "0s", "lost_response": "grace-only"}"#;
    let p = check(strict).unwrap();
    assert_eq!((p.grace, p.lost_response), (Duration::ZERO, LostResponse::GraceOnly));
}

#[test]
fn the_half_life_of_a_cookie_is_that_of_its_idle_time() {
    let p = check(r#"{"kind": "cookie", "idle_ttl": "14d", "max_ttl": "90d"}"#).unwrap();
    assert_eq!((p.access_ttl, p.half_life()), (5 * MINUTE, 7 * DAY));
    let p = check(r#"{"kind": "cookie", "idle_ttl": "1m", "max_ttl": "1h", "renew_after": 0.25}"#).unwrap();
    assert_eq!(p.access_ttl, MINUTE, "the gateway's tokens do not outlive the session");
    assert_eq!(p.half_life(), Duration::from_secs(15));
}

#[test]
fn any_whole_second_from_one_up_is_legal() {
    for json in [
        r#"{"kind": "sliding", "access_ttl": "1s", "max_ttl": "1s"}"#,
        r#"{"kind": "fixed", "access_ttl": "1s"}"#,
        r#"{"kind": "refresh", "access_ttl": "1s", "idle_ttl": "1s", "max_ttl": "1s", "grace": "1s"}"#,
        r#"{"kind": "cookie", "idle_ttl": "1s", "max_ttl": "1s"}"#,
        r#"{"kind": "fixed", "access_ttl": "3650d"}"#,
    ] {
        assert!(check(json).is_ok(), "{json}");
    }
}

#[test]
fn every_contradiction_names_its_key_and_its_reason() {
    let cases = [
        (r#"{"kind": "sliding", "max_ttl": "1h"}"#, "access_ttl", "a sliding policy needs it"),
        (r#"{"kind": "sliding", "access_ttl": "1m"}"#, "max_ttl", "a sliding policy needs it"),
        (r#"{"kind": "fixed"}"#, "access_ttl", "a fixed policy needs it"),
        (
            r#"{"kind": "refresh", "idle_ttl": "1h", "max_ttl": "1d"}"#,
            "access_ttl",
            "a refresh policy needs it",
        ),
        (r#"{"kind": "refresh", "access_ttl": "1m", "max_ttl": "1d"}"#, "idle_ttl", "needs it"),
        (r#"{"kind": "refresh", "access_ttl": "1m", "idle_ttl": "1h"}"#, "max_ttl", "needs it"),
        (r#"{"kind": "cookie", "max_ttl": "1d"}"#, "idle_ttl", "a cookie policy needs it"),
        (r#"{"kind": "cookie", "idle_ttl": "1d"}"#, "max_ttl", "a cookie policy needs it"),
        (r#"{"kind": "fixed", "access_ttl": "7d", "idle_ttl": "1d"}"#, "idle_ttl", "no meaning"),
        (r#"{"kind": "fixed", "access_ttl": "7d", "max_ttl": "8d"}"#, "max_ttl", "no meaning"),
        (r#"{"kind": "fixed", "access_ttl": "7d", "renew_after": 0.5}"#, "renew_after", "no meaning"),
        (
            r#"{"kind": "refresh", "access_ttl": "1m", "idle_ttl": "1h", "max_ttl": "1d", "renew_after": 0.5}"#,
            "renew_after",
            "no meaning for a refresh policy",
        ),
        (r#"{"kind": "sliding", "access_ttl": "1m", "max_ttl": "1h", "grace": "1s"}"#, "grace", "no meaning"),
        (r#"{"kind": "cookie", "idle_ttl": "1m", "max_ttl": "1h", "grace": "1s"}"#, "grace", "no meaning"),
        (r#"{"kind": "fixed", "access_ttl": "7d", "grace": "1s"}"#, "grace", "no meaning"),
        (
            r#"{"kind": "cookie", "idle_ttl": "1m", "max_ttl": "1h", "lost_response": "until-used"}"#,
            "lost_response",
            "no meaning",
        ),
        (r#"{"kind": "fixed", "access_ttl": "0s"}"#, "access_ttl", "at least one second"),
        (
            r#"{"kind": "sliding", "access_ttl": "1s", "idle_ttl": "0s", "max_ttl": "1h"}"#,
            "idle_ttl",
            "at least",
        ),
        (r#"{"kind": "sliding", "access_ttl": "1s", "max_ttl": "0s"}"#, "max_ttl", "at least one second"),
        (r#"{"kind": "fixed", "access_ttl": "3651d"}"#, "access_ttl", "at most 3650 days"),
        (r#"{"kind": "cookie", "idle_ttl": "1d", "max_ttl": "87601h"}"#, "max_ttl", "at most 3650 days"),
        (
            r#"{"kind": "cookie", "idle_ttl": "2d", "max_ttl": "1d"}"#,
            "idle_ttl",
            "is longer than max_ttl: the session would end before it could be idle",
        ),
        (
            r#"{"kind": "refresh", "access_ttl": "2h", "idle_ttl": "1h", "max_ttl": "1d"}"#,
            "access_ttl",
            "is longer than idle_ttl: the token would outlive its session",
        ),
        (
            r#"{"kind": "cookie", "access_ttl": "2h", "idle_ttl": "1h", "max_ttl": "1d"}"#,
            "access_ttl",
            "idle_ttl",
        ),
        (
            r#"{"kind": "refresh", "access_ttl": "1m", "idle_ttl": "1h", "max_ttl": "1d", "grace": "301s"}"#,
            "grace",
            "at most 5 minutes",
        ),
        (
            r#"{"kind": "sliding", "access_ttl": "1m", "max_ttl": "1h", "renew_after": 0}"#,
            "renew_after",
            "between",
        ),
        (
            r#"{"kind": "sliding", "access_ttl": "1m", "max_ttl": "1h", "renew_after": 1}"#,
            "renew_after",
            "between",
        ),
        (
            r#"{"kind": "cookie", "idle_ttl": "1m", "max_ttl": "1h", "renew_after": -1}"#,
            "renew_after",
            "between",
        ),
    ];
    for (json, key, reason) in cases {
        let error = check(json).expect_err(json);
        assert_eq!(error.key, key, "{json}");
        assert!(error.reason.contains(reason), "{json}: {error}");
        assert_eq!(error.to_string(), format!("policy web: {key}: {}", error.reason));
    }
}

#[test]
fn the_key_at_fault_is_one_that_was_written() {
    let error = check(r#"{"kind": "sliding", "access_ttl": "13h", "max_ttl": "12h"}"#).unwrap_err();
    assert_eq!(error.key, "access_ttl", "there is no idle_ttl to look at: {error}");
    assert!(error.reason.contains("is longer than max_ttl"), "{error}");
}

#[test]
fn a_renew_after_that_is_no_number_is_refused() {
    let mut config: PolicyConfig =
        serde_json::from_str(r#"{"kind": "sliding", "access_ttl": "1m", "max_ttl": "1h"}"#).unwrap();
    config.renew_after = Some(f64::NAN);
    assert_eq!(config.validate(&"web".parse().unwrap()).unwrap_err().key, "renew_after");
}

#[test]
fn unknown_keys_and_kinds_are_refused_by_name() {
    let error = |json: &str| serde_json::from_str::<PolicyConfig>(json).unwrap_err().to_string();
    assert!(error(r#"{"kind": "fixed", "acess_ttl": "7d"}"#).contains("unknown field `acess_ttl`"));
    assert!(error(r#"{"kind": "eternal"}"#).contains("unknown variant `eternal`"));
    assert!(error(r#"{"kind": "fixed", "access_ttl": 7}"#).contains("expected a string"));
    assert!(error(r#"{"kind": "fixed", "access_ttl": "7w"}"#).contains("\"7w\" is not a length of time"));
}

#[test]
fn lengths_of_time_are_whole_numbers_with_a_unit() {
    for (text, secs) in [("1s", 1), ("90s", 90), ("20m", 1200), ("12h", 43_200), ("7d", 604_800), ("0s", 0)] {
        assert_eq!(text.parse(), Ok(Ttl(Duration::from_secs(secs))), "{text}");
    }
    for bad in
        ["", "s", "1", "1.5h", "-1s", "+1s", " 1s", "1s ", "1 s", "1S", "1ms", "½h", "1000000000000s", "1ü"]
    {
        assert!(bad.parse::<Ttl>().is_err(), "{bad}");
    }
    for text in ["1s", "90s", "20m", "12h", "7d", "0s"] {
        assert_eq!(text.parse::<Ttl>().unwrap().to_string(), text);
    }
    assert_eq!("60m".parse::<Ttl>().unwrap().to_string(), "1h", "in the largest unit");
}

#[test]
fn the_presets_are_those_of_the_documentation() {
    let all = Policies::new([]).unwrap();
    let of = |name: &str| {
        let p = all.find(&name.parse().unwrap()).unwrap();
        (p.kind, p.access_ttl, p.idle_ttl, p.max_ttl)
    };
    assert_eq!(of("web"), (PolicyKind::Sliding, 20 * MINUTE, Some(20 * MINUTE), 12 * HOUR));
    assert_eq!(of("remember"), (PolicyKind::Fixed, 7 * DAY, None, 7 * DAY));
    assert_eq!(of("app"), (PolicyKind::Refresh, 5 * MINUTE, Some(14 * DAY), 90 * DAY));
    assert_eq!(of("browser"), (PolicyKind::Cookie, 5 * MINUTE, Some(14 * DAY), 90 * DAY));
    // NIST SP 800-63B-4: overall, and by inactivity.
    assert_eq!(of("nist-aal1"), (PolicyKind::Refresh, 5 * MINUTE, Some(30 * DAY), 30 * DAY));
    assert_eq!(of("nist-aal2"), (PolicyKind::Refresh, 5 * MINUTE, Some(HOUR), 24 * HOUR));
    assert_eq!(of("nist-aal3"), (PolicyKind::Refresh, 5 * MINUTE, Some(15 * MINUTE), 12 * HOUR));
    assert_eq!(all.iter().count(), 7);
    assert_eq!((all.longest_access_ttl(), all.longest_max_ttl()), (7 * DAY, 90 * DAY));
}

#[test]
fn a_configured_policy_replaces_the_preset_whole() {
    let config: PolicyConfig = serde_json::from_str(r#"{"kind": "fixed", "access_ttl": "100d"}"#).unwrap();
    let name: PolicyName = "web".parse().unwrap();
    let all = Policies::new([(&name, &config)]).unwrap();
    assert_eq!(all.find(&name).unwrap().kind, PolicyKind::Fixed);
    assert_eq!(all.find(&name).unwrap().idle_ttl, None, "nothing of the preset shows through");
    assert_eq!(all.longest_max_ttl(), 100 * DAY);
    let bad: PolicyConfig = serde_json::from_str(r#"{"kind": "fixed"}"#).unwrap();
    assert_eq!(Policies::new([(&name, &bad)]).unwrap_err().key, "access_ttl");
}

#[test]
fn a_token_is_renewed_from_half_its_own_life_on() {
    let p = sliding();
    assert_eq!(p.renew_at(100, 100 + 1200), 700);
    assert_eq!(p.renew_at(100, 100 + 300), 250, "a token that the session's end cut short, too");
    assert_eq!(p.renew_at(100, 101), 100, "a life of one second can be renewed at all");
    assert_eq!(p.renew_at(100, 99), 100);
}

fn policies_with(policy: Policy) -> Policies {
    Policies([(policy.name.clone(), policy)].into())
}

#[test]
fn a_tightened_policy_ends_the_sessions_that_outlive_it() {
    let session = start(&refresh());
    let tight = policy(r#"{"kind": "refresh", "access_ttl": "5m", "idle_ttl": "1h", "max_ttl": "2h"}"#);
    let policies = policies_with(tight);
    assert_eq!(ended_by_change(&session, &policies, at(3599)), None);
    let ended = ended_by_change(&session, &policies, at(3600)).unwrap();
    assert_eq!(ended, Ended { at: at(3600), reason: EndReason::IdleTimeout });
    let short = policy(r#"{"kind": "refresh", "access_ttl": "5m", "idle_ttl": "1h", "max_ttl": "1h"}"#);
    let ended = ended_by_change(&session, &policies_with(short), at(9999)).unwrap();
    assert_eq!(ended, Ended { at: at(3600), reason: EndReason::MaxLifetime });
}

#[test]
fn a_policy_that_is_gone_or_holds_another_credential_ends_its_sessions() {
    let revoked = Some(Ended { at: at(5), reason: EndReason::Revoked });
    assert_eq!(ended_by_change(&start(&refresh()), &Policies(BTreeMap::new()), at(5)), revoked);
    assert_eq!(ended_by_change(&start(&refresh()), &policies_with(cookie()), at(5)), revoked);
    assert_eq!(ended_by_change(&start(&cookie()), &policies_with(fixed()), at(5)), revoked);
    assert_eq!(ended_by_change(&start(&cookie()), &policies_with(cookie()), at(5)), None);
}
