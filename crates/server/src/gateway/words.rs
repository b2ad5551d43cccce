//! What the hosted pages say.

use crate::http::error::ApiError;
use jiff::Timestamp as Instant;

/// An error in plain words.
pub(super) fn of_error(error: &ApiError) -> String {
    let wait = || error.wait().map_or_else(|| "in a moment".to_owned(), |secs| format!("in {}", span(secs)));
    match error.code() {
        "invalid_credentials" => "Wrong username or password.".to_owned(),
        "invalid_challenge" => {
            "That took too long, or was tried too often. Sign in again, and you get a new code.".to_owned()
        }
        "invalid_code" => match error.member("tries_left").and_then(serde_json::Value::as_u64) {
            Some(0) => "The code was wrong, and it was the last try. Sign in again, and you get a new one."
                .to_owned(),
            Some(1) => "The code is wrong. One try is left.".to_owned(),
            Some(n) => format!("The code is wrong. {n} tries are left."),
            None => "The code is wrong.".to_owned(),
        },
        "too_many_requests" => format!("{} You can try again {}.", error.description(), wait()),
        "temporarily_unavailable" => match error.member("challenge") {
            Some(_) => {
                "The text message could not be sent. Use a recovery code, or try again in a while.".to_owned()
            }
            None => format!("Signing in does not work right now. Try again {}.", wait()),
        },
        "invalid_request" | "unsupported_media_type" => "Fill in every field.".to_owned(),
        _ => error.description().to_owned(),
    }
}

/// Why a session is over, as its owner is told on the page where he signs in again.
pub(super) fn why_over(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "idle_timeout" => "You were signed out because the session was not used for a long time.",
        "max_lifetime" => "You were signed out because the session had reached its greatest age.",
        "signed_out" => "You have signed out.",
        "revoked" => "The session was ended from elsewhere.",
        "password_changed" => "You were signed out because the password was changed.",
        "reuse_detected" => "The session was ended because somebody else may have used it.",
        "user_disabled" => "This account is disabled.",
        _ => return None,
    })
}

/// A length of time as one says it.
pub(super) fn span(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min", secs.div_ceil(60)),
        3600..172_800 => format!("{} h", secs.div_ceil(3600)),
        _ => format!("{} days", secs / 86_400),
    }
}

/// A time for people, with the one for machines: "8 December, 18:20 UTC".
pub(super) fn moment(secs: i64) -> (String, String) {
    let Ok(instant) = Instant::from_second(secs) else { return Default::default() };
    (instant.strftime("%-d %B %Y, %H:%M UTC").to_string(), instant.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn waits_are_never_shorter_than_told() {
        for (secs, said) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "2 min"),
            (3600, "1 h"),
            (3601, "2 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(span(secs), said);
        }
        let error = ApiError::too_many_requests(Duration::from_secs(90), "Too many.");
        assert_eq!(of_error(&error), "Too many. You can try again in 2 min.");
    }

    #[test]
    fn every_reason_has_its_words() {
        use reseal_core::EndReason::{
            IdleTimeout, MaxLifetime, PasswordChanged, ReuseDetected, Revoked, SignedOut, UserDisabled,
        };
        for reason in
            [IdleTimeout, MaxLifetime, SignedOut, Revoked, PasswordChanged, ReuseDetected, UserDisabled]
        {
            assert!(why_over(reason.as_str()).is_some(), "{reason}");
        }
        assert_eq!(why_over("superseded"), None);
        assert_eq!(why_over("<script>"), None);
    }

    #[test]
    fn a_moment_is_told_to_people_and_to_machines() {
        assert_eq!(moment(0), ("1 January 1970, 00:00 UTC".to_owned(), "1970-01-01T00:00:00Z".to_owned()));
    }
}
