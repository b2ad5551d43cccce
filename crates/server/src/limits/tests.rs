use super::*;
use proptest::prelude::*;

const MINUTE: i64 = 60_000;

fn ip(n: u32) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n))
}

fn limiter() -> Memory {
    Memory(LoginLimiter::new(&LoginLimits::default()))
}

/// A limiter that counts in memory, which never has anything to wait for.
struct Memory(LoginLimiter);

impl Memory {
    fn check(&self, now: i64, account: &str, address: IpAddr) -> Result<Attempt, TooMany> {
        at_once(self.0.check(now, account, address))
    }

    fn success(&self, now: i64, attempt: Attempt) -> Result<(), TooMany> {
        at_once(self.0.success(now, attempt))
    }

    fn failure(&self, now: i64, attempt: Attempt) -> Result<(), TooMany> {
        at_once(self.0.failure(now, attempt))
    }
}

fn at_once<T>(answer: impl Future<Output = Result<T, LimitError>>) -> Result<T, TooMany> {
    let mut answer = std::pin::pin!(answer);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(answer) = answer.as_mut().poll(&mut cx) else { panic!("it waits") };
    answer.map_err(|error| match error {
        LimitError::TooMany(wait) => wait,
        LimitError::Store(error) => panic!("{error}"),
    })
}

fn fail(limiter: &Memory, now: i64, account: &str, address: IpAddr) -> Result<(), TooMany> {
    let attempt = limiter.check(now, account, address)?;
    limiter.failure(now, attempt)
}

fn succeed(limiter: &Memory, now: i64, account: &str, address: IpAddr) -> Result<(), TooMany> {
    let attempt = limiter.check(now, account, address)?;
    limiter.success(now, attempt)
}

/// Brings the account under pressure, from as many addresses as that takes.
fn press(limiter: &Memory, now: i64, account: &str) {
    for n in 0..100 {
        fail(limiter, now, account, ip(1_000_000 + n)).unwrap();
    }
}

#[test]
fn a_burst_of_failures_is_followed_by_an_exact_wait() {
    let limiter = limiter();
    for _ in 0..10 {
        fail(&limiter, 0, "ann", ip(1)).unwrap();
    }
    assert_eq!(fail(&limiter, 0, "ann", ip(1)), Err(TooMany(Duration::from_secs(90))));
    assert_eq!(fail(&limiter, 89_999, "ann", ip(1)), Err(TooMany(Duration::from_millis(1))));
    fail(&limiter, 90_000, "ann", ip(1)).unwrap();
    assert_eq!(fail(&limiter, 90_000, "ann", ip(1)), Err(TooMany(Duration::from_secs(90))));
}

#[test]
fn refused_logins_do_not_lengthen_the_wait() {
    let limiter = limiter();
    for _ in 0..10 {
        fail(&limiter, 0, "ann", ip(1)).unwrap();
    }
    for second in 0..90 {
        assert!(fail(&limiter, second * 1000, "ann", ip(1)).is_err());
    }
    succeed(&limiter, 90_000, "ann", ip(1)).unwrap();
}

#[test]
fn a_flood_from_one_address_never_stops_a_login_from_another() {
    let limiter = limiter();
    for second in 0..3600 {
        let _ = fail(&limiter, second * 1000, "ann", ip(666));
        if second % 60 == 0 {
            succeed(&limiter, second * 1000, "ann", ip(1)).unwrap();
        }
    }
    // Nor did it bring the account under pressure: a new address has its whole burst.
    for _ in 0..10 {
        fail(&limiter, 3_600_000, "ann", ip(2)).unwrap();
    }
}

#[test]
fn the_right_password_is_never_counted() {
    let limiter = limiter();
    for _ in 0..10_000 {
        succeed(&limiter, 0, "ann", ip(1)).unwrap();
    }
}

#[test]
fn logins_with_the_right_password_may_run_in_any_number_at_once() {
    let limiter = limiter();
    let attempts: Vec<_> = (0..1000).map(|_| limiter.check(0, "ann", ip(1)).unwrap()).collect();
    for attempt in attempts {
        limiter.success(0, attempt).unwrap();
    }
}

#[test]
fn parallel_guesses_learn_no_more_than_those_one_after_the_other() {
    for right in [0, 9, 10, 500, 999] {
        let limiter = limiter();
        let attempts: Vec<_> = (0..1000).map(|_| limiter.check(0, "ann", ip(1)).unwrap()).collect();
        let mut told = Vec::new();
        for (n, attempt) in attempts.into_iter().enumerate() {
            let answer = if n == right { limiter.success(0, attempt) } else { limiter.failure(0, attempt) };
            if answer.is_ok() {
                told.push(n);
            }
        }
        let found = told.contains(&right);
        assert_eq!(found, right < 10, "{right}");
        if !found {
            assert_eq!(told, (0..10).collect::<Vec<_>>(), "{right}");
        }
    }
}

#[test]
fn an_attempt_without_an_outcome_counts_nothing() {
    let limiter = limiter();
    for _ in 0..100 {
        drop(limiter.check(0, "ann", ip(1)).unwrap());
    }
    succeed(&limiter, 0, "ann", ip(1)).unwrap();
}

#[test]
fn a_success_empties_the_counter_of_account_and_address() {
    let limiter = limiter();
    for _ in 0..100 {
        for _ in 0..9 {
            fail(&limiter, 0, "ann", ip(1)).unwrap();
        }
        succeed(&limiter, 0, "ann", ip(1)).unwrap();
    }
}

#[test]
fn a_guesser_behind_the_same_address_locks_out_nobody_who_is_known_there() {
    let limiter = limiter();
    succeed(&limiter, 0, "ann", ip(1)).unwrap();
    for n in 0..100 {
        fail(&limiter, 0, &format!("user{n}"), ip(1)).unwrap();
    }
    assert!(succeed(&limiter, 0, "bob", ip(1)).is_err());
    succeed(&limiter, 0, "ann", ip(1)).unwrap();
    for _ in 0..10 {
        fail(&limiter, 0, "ann", ip(1)).unwrap();
    }
    assert!(fail(&limiter, 0, "ann", ip(1)).is_err(), "known or not, guessing one account ends");
}

#[test]
fn one_password_for_many_accounts_is_stopped_at_the_address() {
    let limiter = limiter();
    for n in 0..100 {
        fail(&limiter, 0, &format!("user{n}"), ip(1)).unwrap();
    }
    assert_eq!(fail(&limiter, 0, "user100", ip(1)), Err(TooMany(Duration::from_secs(9))));
    fail(&limiter, 0, "user100", ip(2)).unwrap();
    fail(&limiter, 9000, "user100", ip(1)).unwrap();
}

#[test]
fn a_guesser_cannot_wash_the_address_with_an_account_of_his_own() {
    let limiter = limiter();
    for n in 0..100 {
        fail(&limiter, 0, &format!("user{n}"), ip(1)).unwrap();
        if n < 99 {
            succeed(&limiter, 0, "mallory", ip(1)).unwrap();
        }
    }
    assert!(fail(&limiter, 0, "user100", ip(1)).is_err());
}

#[test]
fn under_pressure_strange_addresses_have_fewer_tries_but_never_none() {
    let limiter = limiter();
    press(&limiter, 0, "ann");
    for n in 0..50 {
        fail(&limiter, 0, "ann", ip(n)).unwrap();
        fail(&limiter, 0, "ann", ip(n)).unwrap();
        assert_eq!(fail(&limiter, 0, "ann", ip(n)), Err(TooMany(Duration::from_secs(90))));
    }
    succeed(&limiter, 0, "ann", ip(999)).unwrap();
    for _ in 0..10 {
        fail(&limiter, 0, "bob", ip(998)).unwrap();
    }
}

#[test]
fn under_pressure_the_users_own_addresses_keep_their_burst() {
    let limiter = limiter();
    succeed(&limiter, 0, "ann", ip(1)).unwrap();
    let later = 29 * 24 * 60 * MINUTE;
    press(&limiter, later, "ann");
    for _ in 0..10 {
        fail(&limiter, later, "ann", ip(1)).unwrap();
    }
    let forgotten = 30 * 24 * 60 * MINUTE;
    press(&limiter, forgotten, "ann");
    for _ in 0..2 {
        fail(&limiter, forgotten, "ann", ip(1)).unwrap();
    }
    assert!(fail(&limiter, forgotten, "ann", ip(1)).is_err());
}

#[test]
fn pressure_passes() {
    // However many guessed: a full counter stays as it is.
    let limiter = limiter();
    for n in 0..1000 {
        fail(&limiter, 0, "ann", ip(1_000_000 + n)).unwrap();
    }
    for _ in 0..10 {
        fail(&limiter, 15 * MINUTE, "ann", ip(1)).unwrap();
    }
}

#[test]
fn an_ipv6_subscriber_is_one_address() {
    let limiter = limiter();
    for n in 0..10 {
        fail(&limiter, 0, "ann", format!("2001:db8:1:2::{n:x}").parse().unwrap()).unwrap();
    }
    assert!(fail(&limiter, 0, "ann", "2001:db8:1:2:ffff::1".parse().unwrap()).is_err());
    fail(&limiter, 0, "ann", "2001:db8:1:3::1".parse().unwrap()).unwrap();
    assert_eq!(network("::ffff:192.0.2.7".parse().unwrap()), network("192.0.2.7".parse().unwrap()));
}

#[test]
fn a_full_table_keeps_the_guessers_counter() {
    let limiter = Memory(LoginLimiter::with_capacity(&LoginLimits::default(), 64));
    for _ in 0..10 {
        fail(&limiter, 0, "ann", ip(1)).unwrap();
    }
    // A thousand fresh counters of one failure each do not push it out.
    for n in 0..1000 {
        fail(&limiter, 1000, &format!("user{n}"), ip(100 + n)).unwrap();
    }
    assert!(fail(&limiter, 1000, "ann", ip(1)).is_err());
}

#[test]
fn threads_that_guess_at_once_share_one_allowance() {
    let limiter = limiter();
    let told: usize = std::thread::scope(|scope| {
        let guess = || (0..50).filter(|_| fail(&limiter, 0, "ann", ip(1)).is_ok()).count();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(guess)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(told, 10);
}

#[test]
fn limits_are_read_from_their_table_and_zero_is_refused() {
    let limits: LoginLimits = toml::from_str("burst = 5\nwindow = \"1m\"").unwrap();
    assert_eq!((limits.burst.get(), limits.window.0), (5, Duration::from_secs(60)));
    assert_eq!(toml::from_str::<LoginLimits>("").unwrap(), LoginLimits::default());
    assert!(toml::from_str::<LoginLimits>("burst = 0").is_err());
    assert!(toml::from_str::<LoginLimits>("bursts = 1").is_err());
}

/// One login of a random history.
#[derive(Clone, Debug)]
struct Login {
    step: i64,
    account: u8,
    address: u8,
    right: bool,
}

fn history() -> impl Strategy<Value = Vec<Login>> {
    let login = (0i64..120_000, 0u8..3, 0u8..6, proptest::bool::weighted(0.1))
        .prop_map(|(step, account, address, right)| Login { step, account, address, right });
    proptest::collection::vec(login, 1..300)
}

proptest! {
    #[test]
    fn waits_are_bounded_exact_and_only_for_addresses_that_failed(logins in history()) {
        let limiter = limiter();
        let mut now = 0;
        let mut failed: Vec<(i64, u8, u8)> = Vec::new();
        for login in logins {
            now += login.step;
            let account = format!("user{}", login.account);
            let address = ip(u32::from(login.address));
            match limiter.check(now, &account, address) {
                Ok(attempt) if login.right => prop_assert!(limiter.success(now, attempt).is_ok()),
                Ok(attempt) => {
                    prop_assert!(limiter.failure(now, attempt).is_ok());
                    failed.push((now, login.account, login.address));
                }
                Err(TooMany(wait)) => {
                    let wait = i64::try_from(wait.as_millis()).unwrap();
                    prop_assert!(wait <= 15 * MINUTE);
                    prop_assert!(limiter.check(now + wait, &account, address).is_ok());
                    let recent = failed.iter().filter(|(at, _, a)| now - at < 15 * MINUTE && *a == login.address);
                    prop_assert!(recent.count() >= 2, "an address is refused for its own failures only");
                }
            }
        }
    }
}
