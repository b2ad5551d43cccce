use super::*;
use crate::http::error::ApiError;
use crate::tokens::{Minted, SessionToken};
use reseal_core::auth::Amr;
use reseal_core::session::NewSession;
use reseal_core::{Acr, KeyId, Policy, Session, User, UserId};
use std::cell::Cell;
use std::time::Duration;

const NOW: i64 = 1_800_000_000;

/// All that a token is made of.
struct World {
    cache: TokenCache,
    session: Session,
    user: User,
    client: Client,
    policy: Policy,
    signed: Cell<u32>,
}

impl World {
    fn new(bytes: usize) -> Self {
        let policies = reseal_core::policy::Policies::new(&std::collections::BTreeMap::new()).unwrap();
        let policy = policies.find(&"browser".parse().unwrap()).unwrap().clone();
        let at = Timestamp::from_secs(NOW);
        let user_id = UserId::new(at, [7; 10]);
        let new = NewSession {
            id: SessionId::from_bytes([1; 16]),
            nonce: [0; 16],
            user_id,
            client_id: "web".parse().unwrap(),
            scope: "read write".parse().unwrap(),
            key_id: KeyId(1),
            strength: Strength { acr: Acr::Aal1, amr: Amr::PWD, authenticated_at: at },
            user_agent: None,
            ip: None,
        };
        let (session, _) = Session::start(new, &policy, at);
        let user = User {
            id: user_id,
            username: "alice".to_owned(),
            name: Some("Alice".to_owned()),
            email: None,
            phone_number: None,
            phone_number_verified: false,
            roles: vec!["a".to_owned(), "b,c".to_owned()],
            attributes: Default::default(),
            disabled: false,
            revision: 1,
            auth_epoch: 1,
            version: 1,
            created_at: at,
            updated_at: at,
        };
        let client = Client {
            id: "web".parse().unwrap(),
            name: "Web".to_owned(),
            secret_hash: None,
            policy: "browser".parse().unwrap(),
            audience: Vec::new(),
            scope: "read write".parse().unwrap(),
            claims: reseal_core::claims::Projection::parse(["name", "roles"]).unwrap(),
            origins: Vec::new(),
            algorithm: "ES256".to_owned(),
            introspect: false,
            disabled: false,
            version: 1,
            created_at: at,
            updated_at: at,
        };
        Self { cache: TokenCache::new(bytes), session, user, client, policy, signed: Cell::new(0) }
    }

    /// Asks `after` seconds later with what `change` makes of the question; whether it was at hand.
    fn ask(&self, after: i64, change: impl FnOnce(&mut Wanted<'_>)) -> Found {
        self.ask_for(self.session.id, after, change).1
    }

    fn ask_for(&self, sid: SessionId, after: i64, change: impl FnOnce(&mut Wanted<'_>)) -> (String, Found) {
        let life = self.session.access_life(&self.policy, Timestamp::from_secs(NOW + after));
        let mut wanted = Wanted {
            rev: 1,
            strength: self.session.strength,
            scope: &self.session.scope,
            client: &self.client,
            kid: "k1",
            life,
        };
        change(&mut wanted);
        let sign = || {
            self.signed.set(self.signed.get() + 1);
            Ok(self.identity(self.signed.get(), wanted.life))
        };
        let bearer = |identity: &Identity| {
            let mut headers = http::HeaderMap::new();
            identity.write(&mut headers);
            headers["authorization"].to_str().unwrap().to_owned()
        };
        self.cache.with(sid, &wanted, sign, bearer).unwrap()
    }

    fn identity(&self, number: u32, life: AccessLife) -> Identity {
        let minted = Minted { token: format!("{number}.{}", "x".repeat(600)), life };
        let Self { session, user, client, .. } = self;
        let token =
            SessionToken { session, user, client, strength: session.strength, scope: &session.scope, life };
        Identity::new(&minted, &token).unwrap()
    }

    fn bytes(&self) -> usize {
        self.sum(|generation| generation.bytes)
    }

    fn places(&self) -> usize {
        self.sum(|generation| generation.places.len())
    }

    fn sum(&self, of: impl Fn(&Generation) -> usize) -> usize {
        let both = |shard: &Mutex<Shard>| {
            let shard = locked(shard);
            of(&shard.young) + of(&shard.old)
        };
        self.cache.shards.iter().map(both).sum()
    }
}

#[test]
fn one_signature_for_half_a_tokens_life() {
    let world = World::new(1 << 20);
    assert_eq!(world.ask(0, |_| {}), Found::Miss);
    for after in [0, 1, 149] {
        assert_eq!(world.ask(after, |_| {}), Found::Hit, "{after}");
    }
    assert_eq!(world.ask(150, |_| {}), Found::Miss, "half of 300 seconds");
    assert_eq!(world.ask(299, |_| {}), Found::Hit);
    assert_eq!(world.ask(300, |_| {}), Found::Miss);
    assert_eq!(world.signed.get(), 3);
}

#[test]
fn near_its_end_a_session_needs_no_more_signatures() {
    let mut world = World::new(1 << 20);
    world.session.idle_expires_at = Timestamp::from_secs(NOW + 200);
    assert_eq!(world.ask(0, |_| {}), Found::Miss);
    assert_eq!(world.ask(199, |_| {}), Found::Hit, "a new one would end at the same second");
    let world = World { cache: TokenCache::new(1 << 20), ..world };
    assert_eq!(world.ask(200, |_| {}), Found::Miss);
    assert_eq!(world.ask(200, |_| {}), Found::Miss, "a token of no life serves nobody");
}

#[test]
fn whatever_the_token_says_must_still_be_so() {
    let stronger = Strength { acr: Acr::Aal2, ..World::new(1).session.strength };
    let later =
        Strength { authenticated_at: Timestamp::from_secs(NOW + 1), ..World::new(1).session.strength };
    let narrow: Scope = "read".parse().unwrap();
    let other = World::new(1 << 20);
    let next_version = Client { version: 2, ..other.client.clone() };
    let made_again = Client { updated_at: Timestamp::from_secs(NOW + 5), ..other.client.clone() };
    type ChangeOf<'a> = Box<dyn Fn(&mut Wanted<'a>) + 'a>;
    let changes: Vec<(&str, ChangeOf<'_>)> = vec![
        ("revision", Box::new(|w| w.rev = 2)),
        ("an older revision", Box::new(|w| w.rev = 0)),
        ("level", Box::new(move |w| w.strength = stronger)),
        ("time of authentication", Box::new(move |w| w.strength = later)),
        ("scope", Box::new(|w| w.scope = &narrow)),
        ("key", Box::new(|w| w.kid = "k2")),
        ("client", Box::new(|w| w.client = &next_version)),
        ("another client of its name", Box::new(|w| w.client = &made_again)),
    ];
    for (what, change) in &changes {
        let world = World::new(1 << 20);
        assert_eq!(world.ask(0, |_| {}), Found::Miss);
        // Not `ask`: the changed parts outlive this world.
        let life = world.session.access_life(&world.policy, Timestamp::from_secs(NOW));
        let mut wanted = Wanted {
            rev: 1,
            strength: other.session.strength,
            scope: &other.session.scope,
            client: &other.client,
            kid: "k1",
            life,
        };
        let sign = || Ok(world.identity(2, life));
        assert_eq!(world.cache.with(world.session.id, &wanted, sign, |_| {}).unwrap().1, Found::Hit);
        change(&mut wanted);
        let found = world.cache.with(world.session.id, &wanted, sign, |_| {}).unwrap().1;
        assert_eq!(found, Found::Miss, "{what}");
    }
}

#[test]
fn a_token_of_the_second_of_a_change_serves_no_longer_than_that_second() {
    let mut world = World::new(1 << 20);
    world.client.updated_at = world.client.created_at + Duration::from_millis(500);
    assert_eq!(world.ask(0, |_| {}), Found::Miss);
    assert_eq!(world.ask(0, |_| {}), Found::Hit);
    assert_eq!(world.ask(1, |_| {}), Found::Miss);
    assert_eq!(world.ask(2, |_| {}), Found::Hit);
}

#[test]
fn sessions_never_get_each_others_tokens() {
    let world = World::new(1 << 20);
    let (first, _) = world.ask_for(SessionId::from_bytes([1; 16]), 0, |_| {});
    let (second, _) = world.ask_for(SessionId::from_bytes([2; 16]), 0, |_| {});
    assert_ne!(first, second);
    assert_eq!(world.ask_for(SessionId::from_bytes([1; 16]), 0, |_| {}), (first, Found::Hit));
    assert_eq!(world.ask_for(SessionId::from_bytes([2; 16]), 0, |_| {}), (second, Found::Hit));
}

#[test]
fn memory_is_bounded_and_what_is_used_stays() {
    let most = 256 * 1024;
    let world = World::new(most);
    let id = |n: u32| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_le_bytes());
        bytes[4..8].copy_from_slice(&n.to_le_bytes());
        SessionId::from_bytes(bytes)
    };
    for n in 0..5000 {
        world.ask_for(id(n), 0, |_| {});
        assert_eq!(world.ask_for(id(0), 0, |_| {}).1, Found::Hit, "the one that is used stays");
        assert!(world.bytes() <= most);
    }
    assert!(world.places() < 400, "{}", world.places());
    world.cache.sweep(Timestamp::from_secs(NOW + 299));
    assert_eq!(world.cache.bytes(), world.bytes());
    assert!(world.places() > 0);
    world.cache.sweep(Timestamp::from_secs(NOW + 300));
    assert_eq!((world.bytes(), world.places(), world.cache.bytes()), (0, 0, 0));
}

#[test]
fn a_token_larger_than_its_share_is_signed_each_time() {
    let world = World::new(1000);
    assert_eq!(world.ask(0, |_| {}), Found::Miss);
    assert_eq!(world.ask(0, |_| {}), Found::Miss);
    assert_eq!(world.bytes(), 0);
}

#[test]
fn what_could_not_be_signed_is_tried_again() {
    let world = World::new(1 << 20);
    let life = world.session.access_life(&world.policy, Timestamp::from_secs(NOW));
    let wanted = Wanted {
        rev: 1,
        strength: world.session.strength,
        scope: &world.session.scope,
        client: &world.client,
        kid: "k1",
        life,
    };
    let failing = || Err(ApiError::unavailable(Duration::from_secs(1)));
    assert!(world.cache.with(world.session.id, &wanted, failing, |_| {}).is_err());
    assert_eq!(world.ask(0, |_| {}), Found::Miss);
    assert_eq!(world.ask(0, |_| {}), Found::Hit);
}

#[test]
fn many_at_once_wait_for_one_signature() {
    let world = World::new(1 << 20);
    let life = world.session.access_life(&world.policy, Timestamp::from_secs(NOW));
    let World { cache, session, client, .. } = &world;
    let identity = world.identity(1, life);
    let signatures = AtomicUsize::new(0);
    let barrier = std::sync::Barrier::new(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let wanted = Wanted {
                    rev: 1,
                    strength: session.strength,
                    scope: &session.scope,
                    client,
                    kid: "k1",
                    life,
                };
                barrier.wait();
                let sign = || {
                    signatures.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                    Ok(identity.clone())
                };
                cache.with(session.id, &wanted, sign, |_| {}).unwrap();
            });
        }
    });
    assert_eq!(signatures.load(Ordering::Relaxed), 1);
}
