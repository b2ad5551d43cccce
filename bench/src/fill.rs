//! Fills a store with sessions, through the store itself: users with ten sessions each.

use crate::place::Place;
use anyhow::{Context, Result};
use reseal_core::auth::{Acr, Amr, Strength};
use reseal_core::keys::KeyUse;
use reseal_core::session::NewSession;
use reseal_core::user::UserSecrets;
use reseal_core::{ClientId, Policy, Scope, Session, SessionId, Timestamp, User, UserId};
use reseal_store::{Commit, StartSession, Store as _, Write};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const SESSIONS_PER_USER: u64 = 10;
const SESSIONS_PER_COMMIT: u64 = 2000;

/// When the sessions were started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// Just now.
    Live,
    /// So long ago that the sweep takes them: idle for 14 days, kept for 31 more.
    Outdated,
}

/// Adds so many sessions of the development mode's refresh client.
pub(crate) async fn fill(place: &Place, sessions: u64, age: Age) -> Result<()> {
    let store = place.open().await?;
    let client = refresh_client(&place.data)?;
    let client = store.client(&client).await?.context("no such client")?;
    let policies = reseal_core::policy::Policies::new([])?;
    let policy = policies.find(&client.policy).context("no such policy")?;
    let key_id = store.keys().await?.iter().find_map(|k| match k.key_use {
        KeyUse::Ring { id } => Some(id),
        KeyUse::Signing { .. } => None,
    });
    let key_id = key_id.context("no ring key")?;
    let now = match age {
        Age::Live => wall_clock(),
        Age::Outdated => wall_clock() - Duration::from_secs(60 * 86_400),
    };
    // Another sequence, or the two would be the same sessions.
    let mut random = Sequence(if age == Age::Live { 1 } else { 1 << 40 });
    let mut done = 0;
    while done < sessions {
        let mut commit = Commit::default();
        let mut in_commit = 0;
        while in_commit < SESSIONS_PER_COMMIT && done < sessions {
            let user = user(&mut random, now);
            commit.push(Write::CreateUser(Box::new(user.clone()), UserSecrets::default()));
            for _ in 0..SESSIONS_PER_USER.min(sessions - done) {
                let new = new_session(&mut random, &user, (client.id.clone(), client.scope.clone(), key_id));
                start(&mut commit, new, policy, now);
                done += 1;
                in_commit += 1;
            }
        }
        store.commit(commit).await?;
        if done.is_multiple_of(100_000) {
            eprintln!("filled {done} of {sessions}");
        }
    }
    store.close().await;
    Ok(())
}

fn start(commit: &mut Commit, new: NewSession, policy: &Policy, now: Timestamp) {
    let (session, change) = Session::start(new, policy, now);
    let start = StartSession { session, auth_epoch: 0, max_sessions: 0, event_until: now };
    commit.push(Write::StartSession(Box::new(start)));
    commit.writes.extend(change.timeline.into_iter().map(Write::Timeline));
}

fn new_session(
    random: &mut Sequence,
    user: &User,
    (client_id, scope, key_id): (ClientId, Scope, reseal_core::KeyId),
) -> NewSession {
    let agent = random.next() % 500;
    let octets = random.next().to_be_bytes();
    NewSession {
        id: SessionId::from_bytes(random.bytes()),
        nonce: random.bytes(),
        user_id: user.id,
        client_id,
        scope,
        key_id,
        strength: Strength { acr: Acr::Aal1, amr: Amr::PWD, authenticated_at: user.created_at },
        user_agent: Some(format!(
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{agent}.0.0.0 Safari/537.36"
        )),
        ip: Some(std::net::IpAddr::from([10, octets[0], octets[1], octets[2]])),
    }
}

fn user(random: &mut Sequence, now: Timestamp) -> User {
    let mut tail = [0; 10];
    tail.copy_from_slice(&random.bytes()[..10]);
    User {
        id: UserId::new(now, tail),
        username: format!("user{}", random.next()),
        name: Some("A user of the fill".to_owned()),
        email: Some("user@example.org".to_owned()),
        phone_number: None,
        phone_number_verified: false,
        roles: vec!["reader".to_owned()],
        attributes: BTreeMap::new(),
        disabled: false,
        revision: 1,
        auth_epoch: 0,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

fn refresh_client(data: &Path) -> Result<ClientId> {
    let dev: serde_json::Value = serde_json::from_slice(&std::fs::read(data.join("dev.json"))?)?;
    let id = dev["clients"]["refresh"]["client_id"].as_str().context("no client")?;
    id.parse().context("not a client id")
}

/// SplitMix64: evenly spread, repeatable, and no secret.
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes
    }
}

#[expect(clippy::disallowed_methods, reason = "sessions that live now need the time")]
fn wall_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(0))
}
