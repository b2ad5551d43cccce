//! Clients: registering, changing and deleting them, and their secrets.

use super::{ATTEMPTS, Manage, ManageError};
use crate::http::origin::is_origin;
use crate::knowledge::{KNOWN_WITHIN, is_shared};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reseal_core::claims::Projection;
use reseal_core::client::SecretHash;
use reseal_core::event::{Event, EventKind};
use reseal_core::{Client, ClientId, PolicyName, Scope, Timestamp};
use reseal_jose::Algorithm;
use reseal_store::{Commit, CommitError, Conflict, Write};
use zeroize::Zeroizing;

/// A client to register.
#[derive(Clone, Debug)]
pub struct NewClient {
    /// Its id; `None` makes a random one.
    pub id: Option<ClientId>,
    /// A name for people.
    pub name: String,
    /// Whether it gets a secret.
    pub confidential: bool,
    /// The policy of its sessions.
    pub policy: PolicyName,
    /// Resource servers its tokens are for, besides the authority.
    pub audience: Vec<String>,
    /// What its sessions and its own tokens may be granted.
    pub scope: Scope,
    /// What of the user's record its tokens show.
    pub claims: Projection,
    /// Origins from which browsers may call for it.
    pub origins: Vec<String>,
    /// Signing algorithm of its tokens.
    pub algorithm: Algorithm,
    /// Whether it may ask about tokens.
    pub introspect: bool,
}

/// A change of a client: `None` leaves a member, lists are replaced whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientPatch {
    /// A name for people.
    pub name: Option<String>,
    /// The policy of the sessions that start from now on.
    pub policy: Option<PolicyName>,
    /// Resource servers its tokens are for, besides the authority.
    pub audience: Option<Vec<String>>,
    /// What its sessions and its own tokens may be granted.
    pub scope: Option<Scope>,
    /// What of the user's record its tokens show.
    pub claims: Option<Projection>,
    /// Origins from which browsers may call for it.
    pub origins: Option<Vec<String>>,
    /// Signing algorithm of its tokens.
    pub algorithm: Option<Algorithm>,
    /// Whether it may ask about tokens.
    pub introspect: Option<bool>,
    /// Disables or enables the client.
    pub disabled: Option<bool>,
}

/// A client's secret, shown once: only its hash is kept. Prints nothing.
#[derive(Clone)]
pub struct ClientSecret(Zeroizing<String>);

impl ClientSecret {
    /// 256 random bits behind a prefix that secret scanners find.
    fn new(random: &crate::random::Random) -> Self {
        Self(random.secret_text("rsl_cs_").into())
    }

    /// The secret itself, to be handed to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> SecretHash {
        SecretHash::of(&self.0)
    }
}

impl std::fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

/// How far the deletion of a client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientDeletion {
    /// It is gone.
    Done,
    /// It is disabled, and more of its sessions are to be ended: call again.
    MoreSessions,
}

impl Manage<'_> {
    /// Registers a client. A confidential one gets a secret, which is returned this once.
    pub async fn create_client(&self, new: NewClient) -> Result<(Client, Option<ClientSecret>), ManageError> {
        let id = match new.id {
            Some(id) => id,
            None => self.random_client_id()?,
        };
        let secret = new.confidential.then(|| ClientSecret::new(self.random));
        let client = Client {
            id,
            name: new.name,
            secret_hash: secret.as_ref().map(ClientSecret::hash),
            policy: new.policy,
            audience: tidy(new.audience),
            scope: new.scope,
            claims: new.claims,
            origins: tidy(new.origins),
            algorithm: new.algorithm.as_str().to_owned(),
            introspect: new.introspect,
            disabled: false,
            version: 1,
            created_at: self.now,
            updated_at: self.now,
        };
        self.check_client(&client)?;
        // A login that overlapped the deletion of an earlier client of this id may have left a session;
        // it must not come alive again.
        let writes = [
            self.ending_of_client(&client.id),
            Write::CreateClient(Box::new(client.clone())),
            self.clients_changed(),
        ];
        self.store.commit(Commit::of(writes)).await?;
        Ok((client, secret))
    }

    /// Changes a client; concurrent changes of different members all take place. What takes something
    /// away is told to verifiers.
    pub async fn patch_client(&self, id: &ClientId, patch: &ClientPatch) -> Result<Client, ManageError> {
        self.change_client(id, |old| {
            let new = patched(old, patch);
            self.check_client(&new)?;
            Ok(new)
        })
        .await
    }

    /// Gives a confidential client a new secret; the old one is void at once, and so are the tokens that
    /// it was good for.
    pub async fn rotate_client_secret(&self, id: &ClientId) -> Result<(Client, ClientSecret), ManageError> {
        let secret = ClientSecret::new(self.random);
        let client = self
            .change_client(id, |old| {
                if !old.is_confidential() {
                    return Err(ManageError::Unfit("a public client has no secret"));
                }
                Ok(Client { secret_hash: Some(secret.hash()), ..old.clone() })
            })
            .await?;
        Ok((client, secret))
    }

    /// Deletes a client: it is disabled, its sessions end in at most `batches` batches, and when none is
    /// left it goes.
    pub async fn delete_client(&self, id: &ClientId, batches: usize) -> Result<ClientDeletion, ManageError> {
        let disable = ClientPatch { disabled: Some(true), ..ClientPatch::default() };
        self.change_client(id, |old| Ok(patched(old, &disable))).await?;
        for _ in 0..batches {
            if self.end_batch_of_client(id).await? {
                tokio::task::yield_now().await;
                continue;
            }
            let writes = [
                self.ending_of_client(id),
                Write::DeleteClient(id.clone()),
                self.client_changed(id),
                self.clients_changed(),
            ];
            self.store.commit(Commit::of(writes)).await?;
            return Ok(ClientDeletion::Done);
        }
        Ok(ClientDeletion::MoreSessions)
    }

    /// Tells verifiers once more of a change of this client, as of now: for a node that learned of it late, and made
    /// tokens of the client as it was before. The record says so too, to those who renew.
    pub async fn client_changed_until_now(&self, id: &ClientId) -> Result<(), ManageError> {
        for _ in 0..ATTEMPTS {
            let takes_effect = self.effect().0;
            let mut commit = Commit::of([self.client_changed(id), self.clients_changed()]);
            if let Some(old) = self.store.client(id).await? {
                let (version, updated_at) = (old.version.wrapping_add(1), self.updated(&old, takes_effect));
                commit.push(Write::SwapClient(Box::new(Client { version, updated_at, ..old })));
            }
            match self.store.commit(commit).await {
                Err(CommitError::Conflict(Conflict::ClientChanged)) => {}
                done => return Ok(done?),
            }
        }
        Err(ManageError::Contended)
    }

    async fn change_client(
        &self,
        id: &ClientId,
        decide: impl Fn(&Client) -> Result<Client, ManageError> + Send,
    ) -> Result<Client, ManageError> {
        for _ in 0..ATTEMPTS {
            let old = self.store.client(id).await?.ok_or(ManageError::NotFound("client"))?;
            let new = decide(&old)?;
            if new == old {
                return Ok(old);
            }
            let is_told = is_narrowed(&old, &new);
            let takes_effect = if is_told { self.effect().0 } else { self.now };
            let (version, updated_at) = (old.version.wrapping_add(1), self.updated(&old, takes_effect));
            let new = Client { version, updated_at, ..new };
            let mut commit = Commit::of([Write::SwapClient(Box::new(new.clone())), self.clients_changed()]);
            if is_told {
                commit.push(self.client_changed(id));
            }
            match self.store.commit(commit).await {
                Ok(()) => return Ok(new),
                Err(CommitError::Conflict(Conflict::ClientChanged)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ManageError::Contended)
    }

    /// Checks what the types do not say.
    fn check_client(&self, client: &Client) -> Result<(), ManageError> {
        let invalid = |member, reason: &str| Err(ManageError::invalid(member, reason));
        if client.name.is_empty() || client.name.len() > 128 || client.name.chars().any(char::is_control) {
            return invalid("name", "1 to 128 characters without control characters");
        }
        if self.policies.find(&client.policy).is_none() {
            let known: Vec<&str> = self.policies.iter().map(|p| p.name.as_str()).collect();
            let reason = format!("no policy of this name is configured; there are {}", known.join(", "));
            return Err(ManageError::invalid("policy", reason));
        }
        if client.audience.len() > 16 || !client.audience.iter().all(|a| is_audience(a)) {
            return invalid("audience", "at most 16 names of 1 to 255 visible ASCII characters");
        }
        if client.origins.len() > 64 || !client.origins.iter().all(|o| is_origin(o)) {
            let reason = "at most 64 origins like https://app.example: scheme, host and port, nothing more";
            return invalid("origins", reason);
        }
        if client.claims.names().len() > 64 {
            return invalid("claims", "at most 64 claims");
        }
        for word in client.scope.words().filter(|w| w.starts_with(RESERVED)) {
            if !RESERVED_WORDS.contains(&word) {
                let reason =
                    format!("words that begin with reseal: are reserved; there are {RESERVED_WORDS:?}");
                return Err(ManageError::invalid("scope", reason));
            }
            if !client.is_confidential() {
                return invalid(
                    "scope",
                    "only a confidential client may have a scope that begins with reseal:",
                );
            }
        }
        if client.introspect && !client.is_confidential() {
            return invalid("introspect", "only a confidential client may introspect");
        }
        Ok(())
    }

    /// The event of a change of the client.
    fn client_changed(&self, id: &ClientId) -> Write {
        let kind = EventKind::ClientChanged { client_id: id.clone(), before: self.effect().1 };
        Write::Log(Event { kind, until: self.event_until })
    }

    /// When a change of a client takes effect, and which tokens are older than it (Unix seconds).
    ///
    /// Where other nodes sign tokens too, not before all of them must have learned of it: a node that knows of the
    /// change signs none for the client until then, at a whole second. Else at once; but tokens know no parts of
    /// a second, and those of this second may be older.
    fn effect(&self) -> (Timestamp, i64) {
        if is_shared(self.store) {
            let second = (self.now + KNOWN_WITHIN).secs().saturating_add(1);
            (Timestamp::from_secs(second), second)
        } else {
            (self.now, self.now.secs().saturating_add(1))
        }
    }

    /// `updated_at` of a client that changes: an earlier change may have yet to take effect.
    fn updated(&self, old: &Client, takes_effect: Timestamp) -> Timestamp {
        let is_pending = old.updated_at <= self.now + 2 * KNOWN_WITHIN;
        if is_pending { takes_effect.max(old.updated_at) } else { takes_effect }
    }

    fn random_client_id(&self) -> Result<ClientId, ManageError> {
        let id = URL_SAFE_NO_PAD.encode(self.random.bytes::<16>());
        id.parse().map_err(|_| ManageError::invalid("client_id", "could not be made"))
    }
}

/// Scope words that begin so are the authority's own.
const RESERVED: &str = "reseal:";
const RESERVED_WORDS: [&str; 2] = ["reseal:admin", "reseal:feed"];

/// The client with the patch applied.
fn patched(old: &Client, patch: &ClientPatch) -> Client {
    let ClientPatch { name, policy, audience, scope, claims, origins, algorithm, introspect, disabled } =
        patch.clone();
    let old = old.clone();
    Client {
        name: name.unwrap_or(old.name),
        policy: policy.unwrap_or(old.policy),
        audience: audience.map_or(old.audience, tidy),
        scope: scope.unwrap_or(old.scope),
        claims: claims.unwrap_or(old.claims),
        origins: origins.map_or(old.origins, tidy),
        algorithm: algorithm.map_or(old.algorithm, |a| a.as_str().to_owned()),
        introspect: introspect.unwrap_or(old.introspect),
        disabled: disabled.unwrap_or(old.disabled),
        ..old
    }
}

/// Whether a token that was good under `old` says or opens more than the client may have now, or may have
/// been got with a secret that is void now.
fn is_narrowed(old: &Client, new: &Client) -> bool {
    let claims = new.claims.names();
    (new.disabled && !old.disabled)
        || new.secret_hash != old.secret_hash
        || !old.scope.is_subset(&new.scope)
        || old.audience.iter().any(|a| !new.audience.contains(a))
        || old.claims.names().iter().any(|c| !claims.contains(c))
}

/// Without repetitions, in the order given. A list that is too long stays as it is, to be refused.
fn tidy(list: Vec<String>) -> Vec<String> {
    if list.len() > 256 {
        return list;
    }
    let mut seen = Vec::with_capacity(list.len());
    for item in list {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

/// Whether the text can name a resource server (RFC 7519 §2 StringOrURI, of visible ASCII).
fn is_audience(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reseal_core::Timestamp;

    fn client() -> Client {
        Client {
            id: "web".parse().unwrap(),
            name: "Web".into(),
            secret_hash: None,
            policy: "web".parse().unwrap(),
            audience: vec!["orders".into(), "stock".into()],
            scope: "read write".parse().unwrap(),
            claims: Projection::parse(["name", "roles"]).unwrap(),
            origins: vec!["https://app.example".into()],
            algorithm: "ES256".into(),
            introspect: false,
            disabled: false,
            version: 1,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        }
    }

    #[test]
    fn taking_something_away_narrows_and_giving_does_not() {
        let old = client();
        let narrows = |patch: ClientPatch| is_narrowed(&old, &patched(&old, &patch));
        let none = ClientPatch::default;
        assert!(narrows(ClientPatch { disabled: Some(true), ..none() }));
        assert!(narrows(ClientPatch { scope: Some("read admin".parse().unwrap()), ..none() }));
        assert!(narrows(ClientPatch { audience: Some(vec!["orders".into()]), ..none() }));
        assert!(narrows(ClientPatch { claims: Some(Projection::parse(["name"]).unwrap()), ..none() }));
        let new_secret = Client { secret_hash: Some(SecretHash::of("s")), ..old.clone() };
        assert!(is_narrowed(&old, &new_secret));

        assert!(!narrows(ClientPatch { disabled: Some(false), name: Some("W".into()), ..none() }));
        assert!(!narrows(ClientPatch { scope: Some("read write more".parse().unwrap()), ..none() }));
        assert!(!narrows(ClientPatch { origins: Some(vec![]), algorithm: Some(Algorithm::EdDsa), ..none() }));
        let reordered = vec!["stock".into(), "orders".into(), "new".into()];
        assert!(!narrows(ClientPatch { audience: Some(reordered), ..none() }));
    }

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let old = client();
        assert_eq!(patched(&old, &ClientPatch::default()), old);
        let again = vec!["a".to_owned(), "b".to_owned(), "a".to_owned()];
        let new = patched(&old, &ClientPatch { audience: Some(again), ..ClientPatch::default() });
        assert_eq!(new, Client { audience: vec!["a".into(), "b".into()], ..old });
    }

    #[test]
    fn an_audience_is_a_visible_name() {
        assert!(is_audience("orders") && is_audience("https://api.example/v1"));
        for bad in ["", "a b", "ü", "a\n", &"x".repeat(256)] {
            assert!(!is_audience(bad), "{bad}");
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        let secret = ClientSecret::new(&crate::random::Random::new());
        assert!(secret.reveal().starts_with("rsl_cs_") && secret.reveal().len() == 50);
        assert_eq!(format!("{secret:?}"), "ClientSecret(…)");
    }
}
