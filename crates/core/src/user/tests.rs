use super::*;
use crate::fixture::at;
use serde_json::json;

fn user() -> User {
    User {
        id: UserId::from_bytes([3; 16]),
        username: "ada".to_owned(),
        name: Some("Ada".to_owned()),
        email: Some("ada@example.org".to_owned()),
        phone_number: None,
        phone_number_verified: false,
        roles: vec!["user".to_owned()],
        attributes: BTreeMap::new(),
        disabled: false,
        revision: 1,
        auth_epoch: 0,
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn with_phone() -> User {
    User { phone_number: Some("+4915112345678".to_owned()), phone_number_verified: true, ..user() }
}

/// What the patch makes of the record; it must change something and be allowed.
fn patched(user: &User, patch: &UserPatch) -> User {
    let next = user.patched(patch, at(9)).unwrap().unwrap();
    assert_eq!(next.revision, user.revision + 1, "the revision grows by exactly one");
    assert_eq!((next.version, next.updated_at), (user.version + 1, at(9)));
    assert_eq!((next.id, next.created_at), (user.id, user.created_at));
    next
}

/// The members at fault, where the patch is refused.
fn refused(patch: UserPatch) -> String {
    user().patched(&patch, at(9)).unwrap_err().member
}

#[test]
fn however_much_changes_the_revision_grows_by_one() {
    let patch = UserPatch {
        name: Some(Some("Lady Lovelace".to_owned())),
        email: Some(None),
        roles: Some(vec!["user".to_owned(), "admin".to_owned(), "user".to_owned()]),
        attributes: [("plan".to_owned(), json!("pro"))].into(),
        ..UserPatch::default()
    };
    let next = patched(&user(), &patch);
    assert_eq!((next.name.as_deref(), next.email), (Some("Lady Lovelace"), None));
    assert_eq!(next.roles, ["admin", "user"], "a set, in order");
    assert_eq!(next.attributes["plan"], json!("pro"));
    assert_eq!(next.auth_epoch, 0, "none of it is about authentication");
}

#[test]
fn a_patch_that_changes_nothing_is_no_change() {
    let patch = UserPatch {
        name: Some(Some("Ada".to_owned())),
        phone_number: Some(None),
        roles: Some(vec!["user".to_owned()]),
        attributes: [("absent".to_owned(), Value::Null)].into(),
        disabled: Some(false),
        ..UserPatch::default()
    };
    assert_eq!(user().patched(&patch, at(9)), Ok(None));
    assert_eq!(user().patched(&UserPatch::default(), at(9)), Ok(None));
}

#[test]
fn attributes_are_patched_one_by_one() {
    let user = User { attributes: [("a".to_owned(), json!(1)), ("b".to_owned(), json!(2))].into(), ..user() };
    let patch = UserPatch {
        attributes: [("b".to_owned(), Value::Null), ("c".to_owned(), json!(3))].into(),
        ..UserPatch::default()
    };
    let next = patched(&user, &patch);
    assert_eq!(json!(next.attributes), json!({"a": 1, "c": 3}));
}

#[test]
fn a_new_phone_number_is_unverified_until_proved() {
    let patch = UserPatch { phone_number: Some(Some("+4915187654321".to_owned())), ..UserPatch::default() };
    assert!(!patched(&user(), &patch).has_second_factor());
    assert!(!patched(&with_phone(), &patch).phone_number_verified, "the old proof is not of the new number");
    let proved = UserPatch { phone_number_verified: Some(true), ..patch };
    assert!(patched(&user(), &proved).has_second_factor());
}

#[test]
fn the_same_phone_number_stays_verified() {
    let patch = UserPatch { phone_number: Some(Some("+4915112345678".to_owned())), ..UserPatch::default() };
    assert_eq!(with_phone().patched(&patch, at(9)), Ok(None));
}

#[test]
fn no_number_no_verified_number() {
    let patch = UserPatch { phone_number_verified: Some(true), ..UserPatch::default() };
    assert_eq!(user().patched(&patch, at(9)), Ok(None));
    let patch =
        UserPatch { phone_number: Some(None), phone_number_verified: Some(true), ..UserPatch::default() };
    let next = patched(&with_phone(), &patch);
    assert_eq!((next.phone_number.clone(), next.phone_number_verified), (None, false));
    assert!(!next.has_second_factor());
}

#[test]
fn the_epoch_grows_with_factor_and_disabling_and_with_nothing_else() {
    let epoch = |user: &User, patch: UserPatch| patched(user, &patch).auth_epoch;
    let phone = |number: Option<&str>, verified| UserPatch {
        phone_number: Some(number.map(str::to_owned)),
        phone_number_verified: verified,
        ..UserPatch::default()
    };
    let disabled = |disabled| UserPatch { disabled: Some(disabled), ..UserPatch::default() };
    assert_eq!(epoch(&user(), phone(Some("+4915112345678"), Some(true))), 1, "factor on");
    assert_eq!(epoch(&with_phone(), phone(None, None)), 1, "factor off");
    assert_eq!(epoch(&with_phone(), phone(Some("+4915187654321"), Some(true))), 1, "another phone");
    assert_eq!(
        epoch(&with_phone(), UserPatch { phone_number_verified: Some(false), ..UserPatch::default() }),
        1
    );
    assert_eq!(epoch(&user(), disabled(true)), 1);
    assert_eq!(epoch(&User { disabled: true, ..user() }, disabled(false)), 1);
    assert_eq!(
        epoch(&with_phone(), UserPatch { disabled: Some(true), ..phone(None, None) }),
        1,
        "once per change"
    );
    assert_eq!(epoch(&user(), phone(Some("+4915112345678"), None)), 0, "a number that proves nothing yet");
    assert_eq!(epoch(&with_phone(), UserPatch { roles: Some(vec![]), ..UserPatch::default() }), 0);
}

#[test]
fn a_new_secret_raises_the_epoch_and_no_revision() {
    let next = user().with_new_secret(at(9));
    assert_eq!((next.auth_epoch, next.revision, next.version, next.updated_at), (1, 1, 2, at(9)));
}

#[test]
fn members_have_limits_and_the_one_at_fault_is_named() {
    let name = |name: &str| UserPatch { name: Some(Some(name.to_owned())), ..UserPatch::default() };
    let email = |email: &str| UserPatch { email: Some(Some(email.to_owned())), ..UserPatch::default() };
    let phone =
        |phone: &str| UserPatch { phone_number: Some(Some(phone.to_owned())), ..UserPatch::default() };
    let roles = |roles: Vec<String>| UserPatch { roles: Some(roles), ..UserPatch::default() };
    let attribute = |name: &str, value| UserPatch {
        attributes: [(name.to_owned(), value)].into(),
        ..UserPatch::default()
    };
    for bad in ["", "a\nb", &"x".repeat(257)] {
        assert_eq!(refused(name(bad)), "name");
    }
    assert!(user().patched(&name(&"x".repeat(256)), at(9)).is_ok());
    for bad in
        ["ada", "@example.org", "ada@", "a b@example.org", "", &format!("{}@example.org", "x".repeat(65))]
    {
        assert_eq!(refused(email(bad)), "email", "{bad}");
    }
    assert!(user().patched(&email("ada+tag@sub.example.org"), at(9)).is_ok());
    for bad in ["", "015112345678", "+0151", "+1", "+12345678901234567", "+49 151", "+49a1"] {
        assert_eq!(refused(phone(bad)), "phone_number", "{bad}");
    }
    let many = |n: usize| (0..n).map(|i| format!("role-{i}")).collect::<Vec<_>>();
    for bad in [many(65), vec![String::new()], vec!["x".repeat(65)], vec!["a\0".to_owned()]] {
        assert_eq!(refused(roles(bad)), "roles");
    }
    assert!(user().patched(&roles(many(64)), at(9)).is_ok());
    for bad in ["", "a b", "a.b", "ü", &"x".repeat(65)] {
        assert_eq!(refused(attribute(bad, json!(1))), "attributes", "{bad}");
    }
    assert!(user().patched(&attribute("a", json!("x".repeat(4094))), at(9)).is_ok(), "4096 with its quotes");
    assert_eq!(refused(attribute("a", json!("x".repeat(4095)))), "attributes");
    let many = UserPatch {
        attributes: (0..65).map(|i| (format!("a{i}"), json!(1))).collect(),
        ..UserPatch::default()
    };
    assert_eq!(refused(many), "attributes");
}

#[test]
fn usernames_are_plain_and_compared_without_case() {
    for good in ["ada", "Ada Lovelace", "ada@example.org", "アダ", &"x".repeat(128)] {
        assert!(is_username(good), "{good}");
    }
    for bad in ["", " ada", "ada ", "a\tb", "a\u{7f}b", "\u{a0}ada", &"x".repeat(129)] {
        assert!(!is_username(bad), "{bad:?}");
    }
    assert_eq!(username_key("ADA@Example.org"), username_key("ada@example.ORG"));
    assert_eq!(User { username: " ".to_owned(), ..user() }.check().unwrap_err().member, "username");
}

#[test]
fn secrets_do_not_print() {
    let secrets = UserSecrets { password: Some("$argon2id$…".to_owned()), recovery_codes: vec![[1; 32]] };
    assert_eq!(format!("{secrets:?}"), "UserSecrets(…)");
}

#[test]
fn a_restored_record_is_above_whatever_was_issued_and_says_the_same() {
    let before = with_phone();
    let restored = before.restored(at(9)).unwrap();
    assert_eq!(restored.revision, before.revision + RESTORED_REVISIONS);
    assert!(restored.auth_epoch > before.auth_epoch, "no login that was under way goes on");
    assert_eq!((restored.version, restored.updated_at), (before.version + 1, at(9)));
    let User { revision, auth_epoch, version, updated_at, .. } = before;
    assert_eq!(
        User { revision, auth_epoch, version, updated_at, ..restored },
        before,
        "nothing else changed"
    );
}

#[test]
fn no_revision_leaves_what_a_number_in_json_can_be() {
    let highest = User { revision: MAX_REVISION - RESTORED_REVISIONS, ..user() };
    assert_eq!(highest.restored(at(9)).unwrap().revision, MAX_REVISION);
    for revision in [MAX_REVISION - RESTORED_REVISIONS + 1, MAX_REVISION, u64::MAX] {
        assert_eq!(User { revision, ..user() }.restored(at(9)), None);
    }
}
