use super::*;
use crate::token::Registered;

fn token(name: &str) -> Arc<Token> {
    Arc::new(Token {
        registered: Registered { sub: name.to_owned(), ..Registered::default() },
        kid: None,
        key: "".into(),
        payload: "{}".into(),
        session_id: None,
        user_id: None,
    })
}

fn of_set(set: u8, n: u8) -> TokenHash {
    let mut hash = [0; 32];
    (hash[0], hash[31]) = (set, n);
    hash
}

#[test]
fn keeps_what_was_put_in() {
    let cache = TokenCache::new(100);
    cache.put(hash("a"), token("a"), 7);
    let (found, generation) = cache.get(&hash("a")).unwrap();
    assert_eq!((found.subject(), generation), ("a", 7));
    assert!(cache.get(&hash("b")).is_none());
    cache.put(hash("a"), token("a"), 8);
    assert_eq!(cache.get(&hash("a")).unwrap().1, 8);
    cache.remove(&hash("a"));
    assert!(cache.get(&hash("a")).is_none());
}

#[test]
fn a_full_set_drops_its_least_recently_used() {
    let ways = u8::try_from(WAYS).unwrap();
    let cache = TokenCache::new(2 * WAYS);
    for n in 0..ways {
        cache.put(of_set(0, n), token("x"), 1);
    }
    assert!(cache.get(&of_set(0, 0)).is_some(), "used again");
    cache.put(of_set(0, ways), token("x"), 1);
    assert!(cache.get(&of_set(0, 0)).is_some());
    assert!(cache.get(&of_set(0, 1)).is_none());
    assert!((2..=ways).all(|n| cache.get(&of_set(0, n)).is_some()));
    cache.put(of_set(1, 0), token("y"), 1);
    assert!(cache.get(&of_set(0, ways)).is_some(), "another set is another set");
}

#[test]
fn a_half_full_cache_keeps_nearly_all() {
    const TOKENS: usize = 5000;
    let cache = TokenCache::new(2 * TOKENS);
    for n in 0..TOKENS {
        cache.put(hash(&n.to_string()), token("x"), 1);
    }
    let held = (0..TOKENS).filter(|n| cache.get(&hash(&n.to_string())).is_some()).count();
    assert!(held >= TOKENS - TOKENS / 500, "{held} of {TOKENS}");
}

#[test]
fn never_holds_more_than_asked_for() {
    for entries in [0, 1, 2, 7, 8, 9, 100] {
        let cache = TokenCache::new(entries);
        for n in 0..1000 {
            cache.put(hash(&n.to_string()), token("x"), 1);
        }
        let held = (0..1000).filter(|n: &i32| cache.get(&hash(&n.to_string())).is_some()).count();
        assert!(held <= entries, "{held} of {entries}");
        assert_eq!(held == 0, entries == 0);
        assert_eq!(cache.is_off(), entries == 0);
    }
}
