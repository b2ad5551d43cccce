//! Users: creating, changing, disabling and deleting them.

use super::{ATTEMPTS, Manage, ManageError};
use crate::password::StoredHash;
use reseal_core::event::{EndReason, Event, EventKind};
use reseal_core::user::{UserPatch, UserSecrets};
use reseal_core::{Timestamp, User, UserId};
use reseal_store::{Commit, CommitError, Conflict, EndFilter, EndSessions, Write};
use serde_json::Value;
use std::collections::BTreeMap;

/// A user to create.
#[derive(Clone, Default)]
pub struct NewUser {
    /// The name to log in with.
    pub username: String,
    /// Full name.
    pub name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone number in E.164.
    pub phone_number: Option<String>,
    /// Whether it is proved that the number is the user's; then it is the second factor.
    pub phone_number_verified: bool,
    /// Roles.
    pub roles: Vec<String>,
    /// Anything else the application wants in its tokens.
    pub attributes: BTreeMap<String, Value>,
    /// Whether the user is disabled from the start.
    pub disabled: bool,
    /// The password's hash: PHC string, bcrypt or Django's format. `None`: no login by password.
    pub password_hash: Option<String>,
}

impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser").field("username", &self.username).finish_non_exhaustive()
    }
}

impl NewUser {
    /// The record and its secrets, checked. Public for an import, which commits many at once.
    pub fn into_record(self, id: UserId, now: Timestamp) -> Result<(User, UserSecrets), ManageError> {
        if let Some(hash) = &self.password_hash {
            StoredHash::parse(hash).map_err(|e| ManageError::invalid("password_hash", e.to_string()))?;
        }
        let phone_number = self.phone_number.as_deref().map(phone_number).transpose()?;
        let mut roles = self.roles;
        roles.sort();
        roles.dedup();
        let user = User {
            id,
            username: self.username,
            name: self.name,
            email: self.email,
            phone_number_verified: self.phone_number_verified && phone_number.is_some(),
            phone_number,
            roles,
            attributes: self.attributes.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            disabled: self.disabled,
            revision: 1,
            auth_epoch: 1,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        user.check()?;
        Ok((user, UserSecrets { password: self.password_hash, recovery_codes: Vec::new() }))
    }
}

/// The writes of a change of a record, with all that follows from it: the swap, `claims-changed` when the
/// revision grew, and the end of all sessions when the user was disabled by it.
///
/// `new` is `old` with its version raised once ([`User::patched`], [`User::with_new_secret`]).
pub fn user_change(
    old: &User,
    new: User,
    secrets: Option<UserSecrets>,
    now: Timestamp,
    event_until: Timestamp,
) -> Vec<Write> {
    let mut follows = Vec::new();
    if new.revision > old.revision {
        let kind = EventKind::ClaimsChanged { sub: new.id, rev: new.revision };
        follows.push(Write::Log(Event { kind, until: event_until }));
    }
    if new.disabled && !old.disabled {
        let end = end_all_of(new.id, EndReason::UserDisabled, now, event_until);
        follows.push(Write::EndSessions(end));
    }
    let mut writes = vec![Write::SwapUser(Box::new(new), secrets)];
    writes.append(&mut follows);
    writes
}

const fn end_all_of(user: UserId, reason: EndReason, now: Timestamp, event_until: Timestamp) -> EndSessions {
    EndSessions { filter: EndFilter::User { user, except: None }, reason, now, ip: None, event_until }
}

/// What one operation makes of a record.
struct Changed {
    user: User,
    /// `None` keeps them.
    secrets: Option<UserSecrets>,
    /// Ends all sessions of the user with this reason.
    end_sessions: Option<EndReason>,
}

impl Manage<'_> {
    /// Creates a user.
    pub async fn create_user(&self, new: NewUser) -> Result<User, ManageError> {
        let (user, secrets) = new.into_record(UserId::new(self.now, self.random.bytes()), self.now)?;
        self.store.commit(Commit::of([Write::CreateUser(Box::new(user.clone()), secrets)])).await?;
        Ok(user)
    }

    /// Changes a record; concurrent changes of different members all take place. With `revision`, only a
    /// record of exactly that revision is changed. Disabling ends all sessions; losing the second factor
    /// takes its recovery codes along.
    pub async fn patch_user(
        &self,
        id: UserId,
        patch: &UserPatch,
        revision: Option<u64>,
    ) -> Result<User, ManageError> {
        let mut patch = patch.clone();
        if let Some(Some(number)) = &patch.phone_number {
            patch.phone_number = Some(Some(phone_number(number)?));
        }
        self.change_user(id, |old, secrets| {
            if revision.is_some_and(|wanted| wanted != old.revision) {
                return Err(ManageError::OtherRevision(old.revision));
            }
            let Some(user) = old.patched(&patch, self.now)? else { return Ok(None) };
            let factor_lost = old.has_second_factor() && !user.has_second_factor();
            let secrets = factor_lost.then(|| without_codes(secrets));
            Ok(Some(Changed { user, secrets, end_sessions: None }))
        })
        .await
    }

    /// Sets the password's hash. Logins under way are void and all sessions end (ASVS 7.4.3).
    pub async fn set_password(&self, id: UserId, hash: &str) -> Result<User, ManageError> {
        StoredHash::parse(hash).map_err(|e| ManageError::invalid("password_hash", e.to_string()))?;
        self.change_user(id, |old, secrets| {
            let secrets = UserSecrets { password: Some(hash.to_owned()), ..secrets.clone() };
            Ok(Some(Changed {
                user: old.with_new_secret(self.now),
                secrets: Some(secrets),
                end_sessions: Some(EndReason::PasswordChanged),
            }))
        })
        .await
    }

    /// Takes the second factor away: the phone number and the recovery codes. What was under way with
    /// them (a login, the proof of another number) is void, whether there was a factor or not.
    pub async fn reset_factors(&self, id: UserId) -> Result<User, ManageError> {
        let patch = UserPatch { phone_number: Some(None), ..UserPatch::default() };
        self.change_user(id, |old, secrets| {
            let mut user = old.patched(&patch, self.now)?.unwrap_or_else(|| old.with_new_secret(self.now));
            user.auth_epoch = old.auth_epoch + 1;
            Ok(Some(Changed { user, secrets: Some(without_codes(secrets)), end_sessions: None }))
        })
        .await
    }

    /// Ends all sessions of the user, then deletes the record, in one transaction.
    pub async fn delete_user(&self, id: UserId) -> Result<(), ManageError> {
        for _ in 0..ATTEMPTS {
            let user = self.store.user(id).await?.ok_or(ManageError::NotFound("user"))?;
            let end = end_all_of(id, EndReason::UserDisabled, self.now, self.event_until);
            let delete = Write::DeleteUser { user: id, version: user.version, at: self.now };
            match self.store.commit(Commit::of([Write::EndSessions(end), delete])).await {
                Err(CommitError::Conflict(Conflict::UserChanged)) => {}
                done => return Ok(done?),
            }
        }
        Err(ManageError::Contended)
    }

    /// Reads, decides and commits until nobody else was faster. `None`: there is nothing to change.
    async fn change_user(
        &self,
        id: UserId,
        decide: impl Fn(&User, &UserSecrets) -> Result<Option<Changed>, ManageError> + Send,
    ) -> Result<User, ManageError> {
        for _ in 0..ATTEMPTS {
            let (old, secrets) = self.store.user_secrets(id).await?.ok_or(ManageError::NotFound("user"))?;
            let Some(changed) = decide(&old, &secrets)? else { return Ok(old) };
            let Changed { user, secrets, end_sessions } = changed;
            let mut commit = Commit::of(user_change(&old, user.clone(), secrets, self.now, self.event_until));
            if let Some(reason) = end_sessions {
                commit.push(Write::EndSessions(end_all_of(id, reason, self.now, self.event_until)));
            }
            match self.store.commit(commit).await {
                Ok(()) => return Ok(user),
                Err(CommitError::Conflict(Conflict::UserChanged)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ManageError::Contended)
    }
}

/// The number in E.164, checked against the world's numbering plans.
fn phone_number(text: &str) -> Result<String, ManageError> {
    let number =
        crate::sms::phone::parse(text).map_err(|e| ManageError::invalid("phone_number", e.to_string()))?;
    Ok(number.into_string())
}

fn without_codes(secrets: &UserSecrets) -> UserSecrets {
    UserSecrets { recovery_codes: Vec::new(), ..secrets.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const UNTIL: Timestamp = Timestamp::from_secs(1_800_000_600);

    fn user(new: NewUser) -> User {
        let new = NewUser { username: "alice".into(), ..new };
        new.into_record(UserId::from_bytes([7; 16]), NOW).unwrap().0
    }

    fn patched(old: &User, patch: &UserPatch) -> Vec<Write> {
        let new = old.patched(patch, NOW).unwrap().unwrap();
        user_change(old, new, None, NOW, UNTIL)
    }

    #[test]
    fn a_change_of_claims_is_logged_once_with_the_new_revision() {
        let old = user(NewUser { roles: vec!["admin".into()], ..NewUser::default() });
        let patch = UserPatch {
            roles: Some(vec![]),
            name: Some(Some("Alice".into())),
            attributes: BTreeMap::from([("plan".to_owned(), "free".into())]),
            ..UserPatch::default()
        };
        let writes = patched(&old, &patch);
        let [Write::SwapUser(new, None), Write::Log(event)] = &writes[..] else { panic!("{writes:?}") };
        assert_eq!((new.revision, new.version), (old.revision + 1, old.version + 1));
        assert_eq!(event.kind, EventKind::ClaimsChanged { sub: old.id, rev: old.revision + 1 });
        assert_eq!(event.until, UNTIL);
    }

    #[test]
    fn disabling_ends_every_session_and_enabling_ends_none() {
        let old = user(NewUser::default());
        let disable = UserPatch { disabled: Some(true), ..UserPatch::default() };
        let writes = patched(&old, &disable);
        let [Write::SwapUser(disabled, _), Write::Log(_), Write::EndSessions(end)] = &writes[..] else {
            panic!("{writes:?}")
        };
        assert_eq!(end.reason, EndReason::UserDisabled);
        assert!(matches!(end.filter, EndFilter::User { user, except: None } if user == old.id));
        assert!(disabled.auth_epoch > old.auth_epoch);

        let enable = UserPatch { disabled: Some(false), ..UserPatch::default() };
        let writes = patched(disabled, &enable);
        assert!(!writes.iter().any(|w| matches!(w, Write::EndSessions(_))), "{writes:?}");
    }

    #[test]
    fn a_new_secret_is_no_change_of_claims() {
        let old = user(NewUser::default());
        let writes = user_change(&old, old.with_new_secret(NOW), Some(UserSecrets::default()), NOW, UNTIL);
        assert!(matches!(&writes[..], [Write::SwapUser(_, Some(_))]), "{writes:?}");
    }

    #[test]
    fn a_new_record_is_tidy_or_refused() {
        let roles = vec!["b".to_owned(), "a".to_owned(), "b".to_owned()];
        let attributes = BTreeMap::from([("gone".to_owned(), Value::Null)]);
        let tidy = user(NewUser { roles, attributes, phone_number_verified: true, ..NewUser::default() });
        assert_eq!(tidy.roles, ["a", "b"]);
        assert!(tidy.attributes.is_empty());
        assert!(!tidy.phone_number_verified, "there is no number to verify");

        let refused = |new: NewUser| match new.into_record(UserId::from_bytes([7; 16]), NOW) {
            Err(ManageError::Invalid { member, .. }) => member,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(NewUser::default()), "username");
        let hash = Some("plain text".to_owned());
        let new = NewUser { username: "bob".into(), password_hash: hash, ..NewUser::default() };
        assert_eq!(refused(new), "password_hash");
    }
}
