use super::*;
use crate::token::Registered;

fn question() -> Question {
    Question {
        endpoint: "http://localhost/oauth/introspect".to_owned(),
        token: "t".to_owned().into(),
        issuer: "https://auth.test".to_owned(),
        subject: "alice".to_owned(),
    }
}

fn active(current_rev: Option<u64>, scope: Option<&str>) -> Answer {
    Answer::Active { current_rev, scope: scope.map(Arc::from) }
}

fn token(rev: Option<u64>, scope: &[&str]) -> Token {
    let scope = scope.iter().map(|s| (*s).to_owned()).collect();
    Token {
        registered: Registered { rev, scope, ..Registered::default() },
        kid: None,
        key: "".into(),
        payload: "{}".into(),
        session_id: None,
        user_id: None,
    }
}

#[test]
fn answers_are_read_as_rfc_7662_has_them() {
    let read = |text: &str| read(text.as_bytes(), &question());
    assert_eq!(read(r#"{"active":false}"#), Some(Answer::Inactive));
    assert_eq!(read(r#"{"active":true}"#), Some(active(None, None)));
    assert_eq!(
        read(
            r#"{"active":true,"iss":"https://auth.test","sub":"alice","scope":"a b","current_rev":7,"x":[]}"#
        ),
        Some(active(Some(7), Some("a b")))
    );
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"active":"true"}"#,
        r#"{"active":true,"active":false}"#,
        r#"{"active":true,"iss":"https://other.test"}"#,
        r#"{"active":true,"sub":"bob"}"#,
        r#"{"active":true,"current_rev":-1}"#,
    ] {
        assert_eq!(read(bad), None, "{bad}");
    }
}

#[test]
fn a_token_is_stale_when_the_authority_knows_more_or_grants_less() {
    let judge = |answer: &Answer, rev, scope| answer.judge(&token(rev, scope));
    assert_eq!(judge(&active(Some(3), Some("a b")), Some(3), &["a"]), Ok(false));
    assert_eq!(judge(&active(Some(4), Some("a b")), Some(3), &["a"]), Ok(true));
    assert_eq!(judge(&active(Some(3), Some("a")), Some(3), &["a", "b"]), Ok(true));
    assert_eq!(judge(&active(Some(3), None), None, &[]), Ok(true), "it does not say how old it is");
    assert_eq!(judge(&active(None, None), None, &["a"]), Ok(false), "another issuer's");
    assert_eq!(judge(&Answer::Inactive, None, &[]), Err(VerifyError::Inactive));
    let away = Err(VerifyError::Unavailable(Unavailable::Introspection));
    assert_eq!(judge(&Answer::Away, None, &[]), away);
}

#[tokio::test]
async fn answers_are_good_for_a_second_and_bounded() {
    let mut state = State::default();
    let now = Instant::now();
    state.keep([1; 32], Answer::Inactive, now);
    assert_eq!(state.kept(&[1; 32], now + INTROSPECTION_LIFE / 2), Some(Answer::Inactive));
    assert_eq!(state.kept(&[1; 32], now + INTROSPECTION_LIFE), None);
    for n in 0..3 * MAX_ANSWERS {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_le_bytes());
        state.keep(hash, Answer::Inactive, now);
    }
    assert!(state.young.len() + state.old.len() <= MAX_ANSWERS);
}

#[tokio::test]
async fn an_answer_is_as_old_as_its_question() {
    let mut state = State::default();
    let asked_at = Instant::now();
    let later = asked_at + INTROSPECTION_LIFE / 4;
    // The first call is slow, and the session ends before the second one.
    state.keep([1; 32], Answer::Inactive, later);
    state.keep([1; 32], active(None, None), asked_at);
    assert_eq!(state.kept(&[1; 32], later), Some(Answer::Inactive));
    assert_eq!(state.kept(&[1; 32], later + INTROSPECTION_LIFE), None);
}

#[tokio::test]
async fn calls_are_bounded_fresh_ones_too() {
    let credentials = Credentials { client_id: "me".to_owned(), secret: Zeroizing::new("hush".to_owned()) };
    // Nobody takes what comes to it.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/oauth/introspect", silent.local_addr().unwrap());
    let asker = Introspector::new(http::client().unwrap(), credentials, false);
    let ask = || {
        let question = Question { endpoint: endpoint.clone(), ..question() };
        let asker = Arc::clone(&asker);
        async move { asker.ask(question, true).await }
    };
    let places = Arc::clone(&asker.places).try_acquire_many_owned(u32::try_from(MAX_WAITING - 2).unwrap());
    let _places = places.unwrap();
    let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(ask())).collect();
    while asker.places.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask().await, Answer::Away);
    // Whoever gives up leaves the call to its end.
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!(asker.places.available_permits(), 0);
}
