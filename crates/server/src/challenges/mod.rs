//! Challenges: one-time codes on their way to a phone, and the tries to answer them.
//!
//! Two things wait for a code: the second step of a login (`session::factor`) and the proof of a phone
//! number (`me::phone`). What both share is here: a challenge is stored before its code is sent, every
//! wrong code is counted before it is answered, and a right one takes the challenge away in the
//! transaction of what it allows.

pub mod message;
mod text;

pub use message::Message;
pub use text::{ChallengeText, Secret};

use crate::authority::Authority;
use crate::http::caller::{Origin, ShownIp};
use crate::http::error::{ApiError, ApiResult};
use crate::limits::LimitError;
use crate::sms::SmsError;
use http::{StatusCode, header};
use reseal_core::challenge::{
    CODE_SENDS, CODE_TRIES, CODE_TTL, Challenge, Purpose, RESEND_AFTER, Resend, code_from_random,
};
use reseal_core::client::SecretHash;
use reseal_core::credential::Unauthentic;
use reseal_core::{Client, KeyId, Scope, SessionId, Timestamp, User};
use reseal_store::{Commit, CommitError, Conflict, Write};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use zeroize::Zeroizing;

/// How often a decision on a challenge is made again because somebody else changed it. Its tries, its
/// messages and its end are fewer than that together, so this is never reached.
pub const ATTEMPTS: usize = 16;

/// A challenge whose code is on its way.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ChallengeBody {
    /// To be sent back with the code.
    #[schema(example = "rsl_ch_…")]
    pub challenge: String,
    /// Seconds in which the code is good.
    pub expires_in: i64,
}

impl ChallengeBody {
    /// What the caller gets of a challenge.
    pub fn new(text: &ChallengeText, expires_at: Timestamp, now: Timestamp) -> Self {
        Self { challenge: text.reveal().to_owned(), expires_in: (expires_at.secs() - now.secs()).max(0) }
    }
}

/// A login whose password was right and that needs a second factor.
#[derive(Clone, Copy, Debug)]
pub struct SecondStep<'a> {
    /// Who logs in.
    pub user: &'a User,
    /// Through which client.
    pub client: &'a Client,
    /// What is to be granted.
    pub scope: &'a Scope,
    /// From where.
    pub origin: &'a Origin,
    /// When the password was found right.
    pub now: Timestamp,
}

/// Begins the second step of a login. The answer is 403 `second_factor_required`, the code being on its way.
///
/// When no code can be sent (the daily limit, the provider is away) the answer is that error, and it
/// carries the challenge too: a recovery code needs no message.
pub async fn start_login(app: &Authority, step: SecondStep<'_>) -> ApiResult<ApiError> {
    let SecondStep { user, client, scope, origin, now } = step;
    let number = user.phone_number.as_deref().unwrap_or_default();
    let text = ChallengeText::new(&app.random, (*scope != client.scope).then_some(scope));
    let purpose = Purpose::Login { client_id: client.id.clone(), password_at: now };
    let code = new_code(app);
    let mut challenge = new_challenge(app, &text, (purpose, user, number), &code, now)?;
    let allowed = take_message(app, user, number, now).await;
    if allowed.is_err() {
        // Nobody gets this code, so nobody may guess it, and none is sent again.
        challenge.code_hash = SecretHash(app.random.bytes());
        challenge.sends = CODE_SENDS;
    }
    app.store.commit(Commit::of([Write::CreateChallenge(Box::new(challenge))])).await?;
    let sent = match allowed {
        Ok(()) => send(app, number, &Message::Login { client: &client.name }.text(&code)).await,
        Err(limited) => Err(limited),
    };
    tracing::info!(sub = %user.id, client_id = %client.id, ip = %ShownIp(origin.ip), sent = sent.is_ok(), "second factor required");
    let by_phone = json!({ "factor": "phone", "hint": message::hint(number) });
    let by_recovery_code = json!({ "factor": "recovery_code" });
    let (answer, factors) = match sent {
        Ok(()) => (second_factor_required(), json!([by_phone, by_recovery_code])),
        Err(unsent) => (unsent, json!([by_recovery_code])),
    };
    let expires_in = CODE_TTL.as_secs();
    Ok(answer.with("challenge", text.reveal()).with("factors", factors).with("expires_in", expires_in))
}

/// Begins the proof of a phone number for the session that asks.
pub async fn start_phone(
    app: &Authority,
    (user, session_id): (&User, SessionId),
    number: &str,
    now: Timestamp,
) -> ApiResult<ChallengeBody> {
    take_message(app, user, number, now).await?;
    let text = ChallengeText::new(&app.random, None);
    let code = new_code(app);
    let challenge = new_challenge(app, &text, (Purpose::Phone { session_id }, user, number), &code, now)?;
    let body = ChallengeBody::new(&text, challenge.expires_at, now);
    app.store.commit(Commit::of([Write::CreateChallenge(Box::new(challenge))])).await?;
    send(app, number, &Message::Phone.text(&code)).await?;
    tracing::info!(sub = %user.id, sid = %session_id, "a phone number is to be confirmed");
    Ok(body)
}

/// Sends a new code for a challenge; the one before is good no more.
pub async fn resend(
    app: &Authority,
    text: &ChallengeText,
    (user, message): (&User, Message<'_>),
    now: Timestamp,
) -> ApiResult<Challenge> {
    let mut paid = false;
    for _ in 0..ATTEMPTS {
        let challenge = read(app, text).await?;
        let code = new_code(app);
        let hash = code_hash(app, challenge.key_id, (&challenge.id, &code)).await?;
        let next = challenge.resend(hash, now).map_err(|e| not_resent(e, &challenge, now))?;
        if !paid {
            take_message(app, user, &challenge.phone_number, now).await?;
            paid = true;
        }
        match app.store.commit(Commit::of([Write::SwapChallenge(Box::new(next.clone()))])).await {
            Ok(()) => {
                send(app, &next.phone_number, &message.text(&code)).await?;
                tracing::info!(sub = %user.id, "code sent again");
                return Ok(next);
            }
            Err(CommitError::Conflict(Conflict::ChallengeChanged)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::unavailable(Duration::from_secs(1)))
}

/// The challenge as it is now; one that is not there (any more) is told like one that is over.
pub async fn read(app: &Authority, text: &ChallengeText) -> ApiResult<Challenge> {
    app.store.challenge(&text.id()).await?.ok_or_else(invalid_challenge)
}

/// The hash of a code that a user typed; `None` when it cannot be one.
pub async fn typed_code_hash(
    app: &Authority,
    challenge: &Challenge,
    typed: &str,
) -> ApiResult<Option<SecretHash>> {
    match six_digits(typed) {
        Some(code) => code_hash(app, challenge.key_id, (&challenge.id, &code)).await.map(Some),
        None => Ok(None),
    }
}

/// Commits the loss of a try, before anybody is told that the code was wrong. `Ok` is the answer then, or
/// `None` when the challenge changed meanwhile: read it and judge again. So parallel guesses never get
/// more tries than one after the other.
pub async fn spend_try(app: &Authority, next: Challenge) -> ApiResult<Option<ApiError>> {
    let (user, tries_left) = (next.user_id, next.tries_left);
    match app.store.commit(Commit::of([Write::SwapChallenge(Box::new(next))])).await {
        Ok(()) => {
            tracing::warn!(sub = %user, tries_left, "wrong code");
            Ok(Some(invalid_code(tries_left)))
        }
        Err(CommitError::Conflict(Conflict::ChallengeChanged)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Uses the challenge up; belongs into the commit of what it allows.
pub const fn take(challenge: &Challenge) -> Write {
    Write::TakeChallenge { id: challenge.id, version: challenge.version }
}

/// 400 for a challenge that is unknown, over, used, or not the caller's: they all look the same.
pub fn invalid_challenge() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_challenge", "This challenge is over. Start again.")
}

fn invalid_code(tries_left: u8) -> ApiError {
    let description = match tries_left {
        0 => "The code is wrong, and it was the last try. Start again.",
        _ => "The code is wrong. Look at the newest message, and try again.",
    };
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_code", description).with("tries_left", tries_left)
}

fn second_factor_required() -> ApiError {
    ApiError::forbidden(
        "second_factor_required",
        "The password is right. Send the code that is on its way, or a recovery code, with the challenge.",
    )
}

fn new_challenge(
    app: &Authority,
    text: &ChallengeText,
    (purpose, user, number): (Purpose, &User, &str),
    code: &str,
    now: Timestamp,
) -> ApiResult<Challenge> {
    let keys = app.keys.load();
    let (id, key_id) = (text.id(), keys.ring.current());
    let code_hash = keys.ring.code_hash(key_id, &id.0, code).map_err(|_| key_is_missing())?;
    Ok(Challenge {
        id,
        purpose,
        user_id: user.id,
        phone_number: number.to_owned(),
        auth_epoch: user.auth_epoch,
        key_id,
        code_hash: SecretHash(code_hash),
        tries_left: CODE_TRIES,
        sends: 1,
        sent_at: now,
        expires_at: now + CODE_TTL,
        version: 1,
    })
}

fn new_code(app: &Authority) -> Zeroizing<String> {
    loop {
        if let Some(code) = code_from_random(app.random.bytes()) {
            return code.into();
        }
    }
}

/// The keyed hash of a code. The key may have been made on another node a moment ago.
async fn code_hash(app: &Authority, key: KeyId, (id, code): (&SecretHash, &str)) -> ApiResult<SecretHash> {
    let hash = || app.keys.load().ring.code_hash(key, &id.0, code).map(SecretHash);
    if let Err(Unauthentic::UnknownKey(_)) = hash()
        && let Err(error) = app.reload_keys_soon().await
    {
        tracing::error!(%error, "the keys could not be read again");
    }
    hash().map_err(|_| key_is_missing())
}

fn key_is_missing() -> ApiError {
    ApiError::unavailable(Duration::from_secs(1))
}

/// A code as people type it: spaces and dashes do not count.
fn six_digits(typed: &str) -> Option<Zeroizing<String>> {
    if typed.len() > 32 {
        return None;
    }
    let code: Zeroizing<String> =
        Zeroizing::new(typed.chars().filter(|c| !c.is_whitespace() && *c != '-').collect());
    (code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit())).then_some(code)
}

/// Takes one message from what the user and the number may get in a day.
async fn take_message(app: &Authority, user: &User, number: &str, now: Timestamp) -> ApiResult<()> {
    let (of_user, of_number) = (format!("user {}", user.id), format!("number {number}"));
    app.message_budget.take(now.millis(), [&of_user, &of_number]).await.map_err(|error| match error {
        LimitError::TooMany(wait) => {
            tracing::warn!(sub = %user.id, "the daily limit of text messages is reached");
            let description = "Too many text messages were sent today. Use a recovery code, or wait.";
            ApiError::too_many_requests(wait.0, description)
        }
        LimitError::Store(error) => error.into(),
    })
}

async fn send(app: &Authority, number: &str, text: &str) -> ApiResult<()> {
    app.texts.send(number, text).await.map_err(|error| {
        tracing::error!(%error, "a text message could not be sent");
        let (code, description, wait) = match error {
            SmsError::NotConfigured => (
                "text_messages_not_configured",
                "This authority cannot send text messages. Tell its operator.",
                HOUR,
            ),
            SmsError::Overloaded(wait) => ("temporarily_unavailable", UNSENT, wait),
            _ => ("temporarily_unavailable", UNSENT, RESEND_AFTER),
        };
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, description)
            .header(header::RETRY_AFTER, &wait.as_secs().max(1).to_string())
    })
}

const UNSENT: &str = "The text message could not be sent. Try again in a while.";
const HOUR: Duration = Duration::from_secs(3600);

fn not_resent(why: Resend, challenge: &Challenge, now: Timestamp) -> ApiError {
    match why {
        Resend::Void => invalid_challenge(),
        Resend::Wait(wait) => {
            ApiError::too_many_requests(wait, "A code was sent a moment ago. Wait for it first.")
        }
        Resend::TooMany => ApiError::too_many_requests(
            challenge.expires_at.since(now),
            "Enough codes were sent for this login. Use the newest, a recovery code, or log in again.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        for typed in ["042137", " 042 137\n", "042-137"] {
            assert_eq!(six_digits(typed).unwrap().as_str(), "042137", "{typed:?}");
        }
        for bad in ["", "42137", "0421371", "04213a", "٠٤٢١٣٧", &"0".repeat(33)] {
            assert!(six_digits(bad).is_none(), "{bad:?}");
        }
    }
}
