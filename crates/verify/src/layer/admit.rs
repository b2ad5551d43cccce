//! Whether a request is let through, and with which token.

use super::{OnStale, VerifyLayer};
use crate::bearer::bearer;
use crate::error::VerifyError;
use crate::freshness::{Facts, Judgement};
use crate::refusal::{InRealm, InvalidToken, MissingToken, Realm, Refusal, TemporarilyUnavailable};
use crate::renew::{Answered, Outcome, TokenText, Why};
use crate::token::Token;
use crate::verified::Verified;
use crate::verifier::Checked;
use http::{HeaderValue, header, request};
use std::sync::Arc;

/// A layer's settings, applied to requests.
#[derive(Clone, Debug)]
pub(super) struct Admission(pub(super) VerifyLayer);

/// A token that is good, and its text if it is a newer one than was sent.
struct Current {
    token: Arc<Token>,
    renewed: Option<TokenText>,
}

impl Admission {
    /// Checks a request and leaves what was found in it. The token, if it is a newer one, goes back with the
    /// answer, a refusal too.
    pub(super) async fn admit(&self, parts: &mut request::Parts) -> (Result<(), Refusal>, Option<TokenText>) {
        let Self(VerifyLayer { verifier, required, requirements, realm, .. }) = self;
        if realm.is_some() {
            parts.extensions.insert(InRealm(realm.clone()));
        }
        let current = match bearer(&parts.headers) {
            Ok(Some(token)) => self.current(token).await,
            Ok(None) if *required => Err(MissingToken::default().into()),
            Ok(None) => return (Ok(()), None),
            Err(malformed) => Err(malformed.into()),
        };
        let Current { token, renewed } = match current {
            Ok(current) => current,
            Err(refusal) => return (Err(refusal.in_realm(realm)), None),
        };
        if let Some(refusal) = requirements.check(&token, verifier.now()).err() {
            return (Err(refusal.in_realm(realm)), renewed);
        }
        if let Some(mut value) =
            renewed.as_ref().and_then(|t| HeaderValue::try_from(format!("Bearer {}", t.reveal())).ok())
        {
            value.set_sensitive(true);
            parts.headers.insert(header::AUTHORIZATION, value);
        }
        parts.extensions.insert(Verified::new(token, verifier.clone(), realm.clone()));
        (Ok(()), renewed)
    }

    async fn current(&self, text: &str) -> Result<Current, Refusal> {
        let Self(VerifyLayer { verifier, on_stale, sliding, .. }) = self;
        let Checked { token, stale } = verifier.check(text).await.map_err(|e| Refusal::of(&e, None))?;
        match on_stale {
            OnStale::Refuse if stale => Err(Refusal::of(&VerifyError::ClaimsChanged, None)),
            OnStale::Renew if stale => self.replace(text, &token).await,
            _ if *sliding && token.renew_at().is_some_and(|at| at <= verifier.now()) => {
                self.slide(text, token).await
            }
            _ => Ok(Current { token, renewed: None }),
        }
    }

    /// Past the half of its life: a newer token if there is one, else this one goes on while it lasts.
    async fn slide(&self, text: &str, token: Arc<Token>) -> Result<Current, Refusal> {
        let Self(VerifyLayer { verifier, renewer, on_stale, .. }) = self;
        let newer = match renewer.renew(text, Why::Due, verifier.now(), None).await.outcome {
            Outcome::Renewed(newer) => newer,
            Outcome::Refused { reason } => return Err(refused(reason.as_deref())),
            Outcome::NotYet { .. } | Outcome::Away { .. } => return Ok(Current { token, renewed: None }),
        };
        match verifier.check(newer.reveal()).await {
            Ok(checked) if !is_successor(&checked.token, &token) => Ok(Current { token, renewed: None }),
            Ok(checked) if !checked.stale => Ok(Current { token: checked.token, renewed: Some(newer) }),
            // Something changed since; the old one is as stale.
            Ok(_) if *on_stale == OnStale::Refuse => Err(Refusal::of(&VerifyError::ClaimsChanged, None)),
            Ok(_) => self.replace(text, &token).await,
            Err(error @ VerifyError::SessionEnded(_)) => Err(Refusal::of(&error, None)),
            // For example signed with a key that could not be fetched yet.
            Err(error) => {
                tracing::warn!(%error, "a renewed token cannot be used yet; the one presented is still good");
                Ok(Current { token, renewed: None })
            }
        }
    }

    /// Stale: only a newer token lets the request through.
    ///
    /// The newer one may be stale again. Either it was asked for before the change (others' call, or an
    /// answer that was kept): then a later call is made, once. Or the change was one of the client, in this
    /// very second: `iat` knows no parts of it, so a token of that second counts as older, wherever it came
    /// from. One that we asked for after we had learned of the change is newer, and is accepted here; its holder
    /// gets another at his next request, until the second is over.
    async fn replace(&self, text: &str, token: &Token) -> Result<Current, Refusal> {
        let Self(VerifyLayer { verifier, renewer, .. }) = self;
        let mut newer_than = None;
        for _ in 0..2 {
            let Answered { outcome, flight, asked_for_me } =
                renewer.renew(text, Why::Stale, verifier.now(), newer_than).await;
            let newer = match outcome {
                Outcome::Renewed(newer) => newer,
                Outcome::NotYet { .. } => return Err(Refusal::of(&VerifyError::ClaimsChanged, None)),
                Outcome::Refused { reason } => return Err(refused(reason.as_deref())),
                Outcome::Away { retry_after } => return Err(TemporarilyUnavailable { retry_after }.into()),
            };
            let checked = verifier.check(newer.reveal()).await.map_err(|e| Refusal::of(&e, None))?;
            if !is_successor(&checked.token, token) {
                break;
            }
            // A call later than one whose answer we saw began after we had learned of the change, too.
            let asked_after = asked_for_me || newer_than.is_some();
            if !checked.stale || (asked_after && self.is_of_the_second_of_the_change(&checked.token)) {
                return Ok(Current { token: checked.token, renewed: Some(newer) });
            }
            newer_than = Some(flight);
        }
        Err(TemporarilyUnavailable { retry_after: 1 }.into())
    }

    /// Whether a token is stale only because its client changed in the second that it was issued in.
    fn is_of_the_second_of_the_change(&self, token: &Token) -> bool {
        let verifier = &self.0.verifier;
        let freshness = verifier.freshness();
        let mut facts = Facts {
            kid: token.key_id(),
            sid: token.session_id,
            sub: token.user_id,
            rev: token.revision(),
            client_id: token.client_id(),
            iat: token.issued_at(),
        };
        // While the feed is lost it may be the authority that called it stale, and it knows no such doubt.
        let lost = verifier.0.when_lost.is_some() && freshness.feed_is_lost();
        if lost || freshness.judge_facts(&facts) != Judgement::Stale {
            return false;
        }
        facts.iat = facts.iat.map(|iat| iat.saturating_add(1));
        freshness.judge_facts(&facts) == Judgement::Current
    }
}

/// Whether one token is of the same session and user as the other. Anything else the authority never
/// answers, and if it did, it would let one user act as another.
fn is_successor(newer: &Token, token: &Token) -> bool {
    let same = newer.session_id().is_some()
        && newer.session_id() == token.session_id()
        && newer.subject() == token.subject();
    if !same {
        tracing::error!("the authority answered a renewal with a token of another session");
    }
    same
}

fn refused(reason: Option<&str>) -> Refusal {
    let realm: Realm = None;
    InvalidToken::by_authority(reason, realm).into()
}
