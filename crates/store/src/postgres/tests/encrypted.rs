//! TLS to a real server: what each `sslmode` demands of it.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use reseal_test_servers::PgOptions;
use std::path::PathBuf;

/// An authority that signs certificates.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key.
    fn sign(&self, name: &str, host: &str) -> (String, String) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn server(ca: &Ca, host: &str) -> Postgres {
    let (cert, key) = ca.sign("server", host);
    let hba = "hostssl all certified 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 trust\n";
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Postgres::start(PgOptions {
        fsync: false,
        settings: vec![
            setting("ssl", "on"),
            setting("ssl_cert_file", "server.crt"),
            setting("ssl_key_file", "server.key"),
            setting("ssl_ca_file", "ca.crt"),
        ],
        files: vec![
            setting("server.crt", &cert),
            setting("server.key", &key),
            setting("ca.crt", &ca.pem),
            setting("pg_hba.conf", hba),
        ],
        ..PgOptions::default()
    })
}

async fn open(url: &str, parameters: &str) -> std::result::Result<Option<bool>, OpenError> {
    let options = PostgresOptions::new(format!("{url}?{parameters}").parse().unwrap());
    let store = PostgresStore::open(PostgresOptions { timeout: Duration::from_secs(60), ..options }).await?;
    store.check().await.unwrap();
    Ok(store.server_info().await.unwrap().encrypted)
}

fn is_refused(opened: &std::result::Result<Option<bool>, OpenError>) -> bool {
    matches!(opened, Err(OpenError::Tls { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_demands_what_libpq_demands() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path: PathBuf = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ca, stranger) = (Ca::new("ours"), Ca::new("somebody"));
    let (ours, strangers) = (file("ca.pem", &ca.pem), file("stranger.pem", &stranger.pem));

    let right = server(&ca, "127.0.0.1");
    let url = right.database();
    let url = url.url();
    let mode = |mode: &str, root: &str| format!("sslmode={mode}&sslrootcert={root}");
    assert_eq!(open(&url, "sslmode=disable").await.unwrap(), Some(false));
    assert_eq!(open(&url, "").await.unwrap(), Some(true), "offered, so taken");
    assert_eq!(open(&url, "sslmode=require").await.unwrap(), Some(true));
    for proved in ["verify-full", "verify-ca", "require"] {
        assert_eq!(open(&url, &mode(proved, &ours)).await.unwrap(), Some(true), "{proved}");
        let strange = open(&url, &mode(proved, &strangers)).await;
        assert!(is_refused(&strange), "{proved}: {strange:?}");
    }
    let without = open(&url, &mode("verify-full", "/nowhere/ca.pem")).await;
    assert!(is_refused(&without), "{without:?}");

    // A number alone is a name, too.
    let by_number = url.replacen(&format!("127.0.0.1:{}", right.port()), "", 1);
    let place = format!("hostaddr=127.0.0.1&port={}&{}", right.port(), mode("verify-full", &ours));
    assert_eq!(open(&by_number, &place).await.unwrap(), Some(true));

    // A certificate of ours for the user.
    let (cert, key) = ca.sign("certified", "client.example");
    let (cert, key) = (file("client.crt", &cert), file("client.key", &key));
    right.sql("postgres", "CREATE ROLE certified SUPERUSER LOGIN");
    let certified = url.replace("//reseal@", "//certified@");
    let shown = format!("{}&sslcert={cert}&sslkey={key}", mode("verify-full", &ours));
    assert_eq!(open(&certified, &shown).await.unwrap(), Some(true));
    let hidden = open(&certified, &mode("verify-full", &ours)).await;
    assert!(matches!(hidden, Err(OpenError::Login { .. })), "{hidden:?}");

    let elsewhere = server(&ca, "db.example");
    let url = elsewhere.database();
    let url = url.url();
    assert_eq!(open(&url, &mode("verify-ca", &ours)).await.unwrap(), Some(true));
    let misnamed = open(&url, &mode("verify-full", &ours)).await;
    assert!(is_refused(&misnamed), "{misnamed:?}");
}
