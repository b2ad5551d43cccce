//! `kill -9` under load: nobody is logged out, and nothing that was acknowledged is undone.

use crate::server::{Ask as _, Server, rounds};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};

const CLIENTS: usize = 32;

/// What the clients share: the server, exchanged under them, and what it acknowledged.
struct Load {
    server: RwLock<Server>,
    /// While set, clients hold still so that a check sees what they saw last.
    pause: RwLock<()>,
    stop: AtomicBool,
    refreshes: AtomicU64,
}

/// A client's own state.
struct Refresher {
    token: String,
    generation: i64,
}

impl Load {
    fn refresh(&self, holder: &mut Refresher) {
        let server = self.server.read().unwrap();
        let (url, id) = (format!("{}/oauth/token", server.url), server.client_id("refresh").to_owned());
        drop(server);
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", id.as_str()),
            ("refresh_token", holder.token.as_str()),
        ];
        // No answer: it is not known whether it was done. The client keeps its token and tries again.
        let Some(reply) = client().post(url).form(&form).try_reply() else { return };
        if reply.status == 503 {
            return;
        }
        assert_eq!(reply.status, 200, "logged out at generation {}: {}", holder.generation, reply.body);
        let generation = reply.body["session"]["generation"].as_i64().unwrap();
        assert!(generation >= holder.generation, "an acknowledged rotation was undone");
        *holder = Refresher { token: reply.text("refresh_token"), generation };
        self.refreshes.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection pool per thread: a killed server must not disturb the others' calls.
fn client() -> reqwest::blocking::Client {
    thread_local! {
        static CLIENT: reqwest::blocking::Client =
            reqwest::blocking::Client::builder().timeout(std::time::Duration::from_secs(30)).no_proxy().build().unwrap();
    }
    CLIENT.with(Clone::clone)
}

#[test]
fn kill_9_under_load_loses_nobody_and_undoes_nothing() {
    let server = Server::start_on_fixed_port();
    let admin = server.service_token("reseal:admin");
    let owner = server.login("fixed");
    let sub = owner.claims()["sub"].as_str().unwrap().to_owned();
    let start = format!("/v1/admin/users/{sub}/sessions");
    let new_session = |server: &Server, kind: &str| {
        let body = json!({ "client_id": server.client_id(kind) });
        let reply = server.post(&start).bearer_auth(&admin).json(&body).try_reply()?;
        (reply.status == 201).then_some(reply)
    };
    let holders: Vec<Refresher> = (0..CLIENTS)
        .map(|_| Refresher {
            token: new_session(&server, "refresh").unwrap().text("refresh_token"),
            generation: 1,
        })
        .collect();
    let load = Load {
        server: RwLock::new(server),
        pause: RwLock::new(()),
        stop: AtomicBool::new(false),
        refreshes: AtomicU64::new(0),
    };
    let named = AtomicU64::new(0);
    let logged_out: Mutex<Vec<String>> = Mutex::default();

    std::thread::scope(|s| {
        for mut holder in holders {
            let load = &load;
            s.spawn(move || {
                while !load.stop.load(Ordering::Relaxed) {
                    let going = load.pause.read().unwrap();
                    load.refresh(&mut holder);
                    drop(going);
                }
            });
        }
        // One changes the record, again and again.
        s.spawn(|| {
            let mut n = 0;
            while !load.stop.load(Ordering::Relaxed) {
                let going = load.pause.read().unwrap();
                n += 1;
                let url = format!("{}/v1/admin/users/{sub}", load.server.read().unwrap().url);
                let body = json!({ "attributes": { "n": n } });
                let reply = client().patch(url).bearer_auth(&admin).json(&body).try_reply();
                if reply.is_some_and(|r| r.status == 200) {
                    named.store(n, Ordering::SeqCst);
                }
                drop(going);
            }
        });
        // One logs in and out.
        s.spawn(|| {
            while !load.stop.load(Ordering::Relaxed) {
                let going = load.pause.read().unwrap();
                let url = load.server.read().unwrap().url.clone();
                let body = json!({ "client_id": load.server.read().unwrap().client_id("fixed") });
                let login =
                    client().post(format!("{url}{start}")).bearer_auth(&admin).json(&body).try_reply();
                if let Some(token) = login.filter(|r| r.status == 201).map(|r| r.text("access_token")) {
                    let reply = client().delete(format!("{url}/v1/session")).bearer_auth(&token).try_reply();
                    if reply.is_some_and(|r| r.status == 204) {
                        logged_out.lock().unwrap().push(token);
                    }
                }
                drop(going);
            }
        });

        for round in 0..rounds(6, 50) {
            // Until there was enough load since the last crash; the bound keeps a dead server from hanging us.
            let goal = load.refreshes.load(Ordering::Relaxed) + 40 + 37 * (round as u64 % 5);
            for _ in 0..4000 {
                if load.refreshes.load(Ordering::Relaxed) >= goal {
                    break;
                }
                load.server.read().unwrap().get("/health/live").try_reply();
            }
            // In the midst of it, whatever is under way.
            let mut server = load.server.write().unwrap();
            server.crash_and_restart();
            drop(server);
            let still = load.pause.write().unwrap();
            let server = load.server.read().unwrap();
            let user = server.get(&format!("/v1/admin/users/{sub}")).bearer_auth(&admin).reply();
            let n = user.body["attributes"]["n"].as_u64().unwrap_or(0);
            assert!(n >= named.load(Ordering::SeqCst), "round {round}: an acknowledged update was undone");
            for token in logged_out.lock().unwrap().drain(..) {
                server.session(&token).refused(401, "invalid_token", Some("signed_out"));
            }
            drop(still);
        }
        load.stop.store(true, Ordering::Relaxed);
    });
    assert!(load.refreshes.load(Ordering::Relaxed) > 100, "there was load");
}
