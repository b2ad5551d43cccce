//! Text messages: who sends them, and numbers that can get one.
//!
//! [`TextMessages`] is what the rest of the authority sees. What stands behind it is the `sms` setting
//! ([`SmsConfig`]): nothing, development mode's outbox, or the HTTP interface of a provider
//! ([`http::HttpTextMessages`]). Neither a number nor a text ever reaches the log; [`mask`] leaves two
//! digits, enough to tell two phones apart.

pub mod config;
pub mod http;
pub mod phone;
mod template;

pub use config::{HttpSms, SmsConfig};

use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// A way to send text messages.
#[async_trait]
pub trait TextMessages: Send + Sync + 'static {
    /// Hands `text` over for the number `to` (E.164). Returns when the provider has accepted it; the wait
    /// is bounded.
    async fn send(&self, to: &str, text: &str) -> Result<(), SmsError>;
}

/// Why a text message was not sent. No variant holds the number, the text or the provider's URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SmsError {
    /// There is no provider.
    #[error("no provider for text messages is configured: set `kind` in [sms]")]
    NotConfigured,
    /// The setting cannot be used.
    #[error("{key}: {reason}")]
    Config {
        /// The key of `[sms]` to look at.
        key: &'static str,
        /// The reason, and what to do.
        reason: String,
    },
    /// The provider refused the message; sending it again would not help.
    #[error("the provider refused the message with status {0}")]
    Refused(u16),
    /// The provider failed, every time.
    #[error("the provider failed with status {status} after {tries} tries")]
    Failed {
        /// The last status.
        status: u16,
        /// How often it was tried.
        tries: u32,
    },
    /// The provider asks for more time than a user would wait.
    #[error("the provider takes no messages for {} s", .0.as_secs())]
    Overloaded(Duration),
    /// The provider could not be reached.
    #[error("the provider could not be reached after {tries} tries: {reason}")]
    Unreachable {
        /// What the network said.
        reason: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The provider did not answer in time. The message may have been sent.
    #[error("the provider did not answer in time")]
    TimedOut,
    /// Too many messages are on their way already.
    #[error("too many text messages are on their way")]
    Busy,
}

/// Opens the provider of the setting, checking all of it.
///
/// Development mode's outbox is not opened here: outside of it the setting is an error.
pub fn open(config: &SmsConfig) -> Result<Arc<dyn TextMessages>, SmsError> {
    match config {
        SmsConfig::None => Ok(Arc::new(Unavailable)),
        SmsConfig::Dev => Err(SmsError::Config {
            key: "kind",
            reason: "\"dev\" is the outbox of `reseal serve --dev` and reaches no phone; use \"http\""
                .to_owned(),
        }),
        SmsConfig::Http(http) => {
            Ok(Arc::new(http::HttpTextMessages::open(http, |name| std::env::var(name).ok())?))
        }
    }
}

/// A number as logs may show it: its last two digits.
pub fn mask(number: &str) -> String {
    let tail: String = number.chars().rev().take(2).filter(char::is_ascii_digit).collect();
    format!("+…{}", tail.chars().rev().collect::<String>())
}

/// Sends nothing, and says so.
#[derive(Debug)]
struct Unavailable;

#[async_trait]
impl TextMessages for Unavailable {
    async fn send(&self, _to: &str, _text: &str) -> Result<(), SmsError> {
        Err(SmsError::NotConfigured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_provider_sending_fails_with_what_to_do() {
        let texts = open(&SmsConfig::default()).unwrap();
        let error = texts.send("+4915112345678", "hello").await.unwrap_err();
        assert!(error.to_string().contains("[sms]"), "{error}");
    }

    #[test]
    fn the_outbox_is_refused_outside_of_development_mode() {
        let error = open(&SmsConfig::Dev).err().unwrap();
        assert!(error.to_string().contains("serve --dev"), "{error}");
    }

    #[test]
    fn a_masked_number_shows_two_digits() {
        assert_eq!(mask("+4915112345678"), "+…78");
        assert_eq!(mask(""), "+…");
    }
}
