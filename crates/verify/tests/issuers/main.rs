//! Tokens of another issuer, the npm package `oidc-provider`, are accepted with nothing but its URL.
//!
//! Needs Node and the packages of `tests/issuers`: `cargo xtask test --only issuers` installs them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use reseal_jose::Algorithm;
use reseal_verify::{Verifier, VerifyError};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const SECRET: &str = "secret of the tests";
const RESOURCES: [(&str, &str, Algorithm); 3] = [
    ("urn:orders", "orders", Algorithm::Es256),
    ("urn:stock", "stock", Algorithm::Rs256),
    ("urn:mail", "mail", Algorithm::EdDsa),
];

/// The running issuer; it ends with its standard input.
struct Issuer {
    url: String,
    http: reqwest::Client,
    _process: Child,
    /// Held open: a write to a closed pipe would end it.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Issuer {
    async fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/issuers");
        assert!(
            folder.join("node_modules").exists(),
            "run `cargo xtask test --only issuers`, which installs its packages"
        );
        let mut process = Command::new("node")
            .arg("server.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Node is there");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(120), lines.next_line()).await;
        let url = line.expect("it starts").unwrap().expect("it says where it is");
        Self { url, http: reqwest::Client::new(), _process: process, _output: lines }
    }

    /// A client's own token.
    async fn client_token(&self, resource: &str) -> String {
        let basic = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            format!("tester:{}", SECRET.replace(' ', "+")),
        );
        let request = self
            .http
            .post(format!("{}/token", self.url))
            .header("authorization", format!("Basic {basic}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("grant_type=client_credentials&scope=read+write&resource={resource}"));
        token_of(request).await
    }

    /// A user's.
    async fn user_token(&self, resource: &str) -> String {
        token_of(self.http.get(format!("{}/user-token?resource={resource}", self.url))).await
    }
}

async fn token_of(request: reqwest::RequestBuilder) -> String {
    let answer = request.send().await.unwrap().text().await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[derive(Debug, PartialEq, Deserialize)]
struct Extra<'a> {
    tenant: &'a str,
    limits: Limits,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Limits {
    orders: u32,
}

#[tokio::test]
#[ignore = "needs npm packages: cargo xtask test --only issuers"]
async fn tokens_of_oidc_provider_are_accepted_for_their_audience_only() {
    let issuer = Issuer::start().await;
    for (resource, audience, algorithm) in RESOURCES {
        let builder = || Verifier::builder(&issuer.url).audience(audience);
        let verifier = builder().build().await.unwrap();
        let client = verifier.verify(&issuer.client_token(resource).await).await.unwrap();
        assert_eq!((client.subject(), client.client_id()), ("tester", Some("tester")), "{algorithm}");
        assert_eq!((client.audience(), client.session_id()), (&[audience.to_owned()][..], None));
        assert!(client.has_scope("read") && client.has_scope("write"));

        let text = issuer.user_token(resource).await;
        let user = verifier.verify(&text).await.unwrap();
        assert_eq!((user.subject(), user.revision()), ("alice@example.org", None));
        assert_eq!(user.expires_at() - user.issued_at().unwrap(), 300);
        let extra = Extra { tenant: "acme", limits: Limits { orders: 10 } };
        assert_eq!(user.claims::<Extra<'_>>().unwrap(), extra);

        let only = builder().algorithms([algorithm]).build().await.unwrap();
        assert!(only.verify(&text).await.is_ok());
        let others: Vec<Algorithm> = Algorithm::ALL.into_iter().filter(|other| *other != algorithm).collect();
        let none = builder().algorithms(others).build().await.unwrap();
        assert_eq!(none.verify(&text).await.err(), Some(VerifyError::Algorithm(algorithm)));
        let elsewhere = Verifier::builder(&issuer.url).audience("elsewhere").build().await.unwrap();
        assert_eq!(elsewhere.verify(&text).await.err(), Some(VerifyError::Audience));
    }
}
