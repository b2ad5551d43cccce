use super::*;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use std::fs;
use tempfile::TempDir;

struct Made {
    certificate: String,
    key: String,
}

fn make(host: &str) -> Made {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    Made { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

struct Folder(TempDir);

impl Folder {
    fn with(made: &Made) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.certificate(&made.certificate);
        folder.key(&made.key);
        folder
    }

    fn certificate(&self, text: &str) {
        fs::write(self.0.path().join("cert.pem"), text).unwrap();
    }

    fn key(&self, text: &str) {
        fs::write(self.0.path().join("key.pem"), text).unwrap();
    }

    fn files(&self) -> TlsConfig {
        TlsConfig {
            certificate: self.0.path().join("cert.pem"),
            key: self.0.path().join("key.pem"),
            reload_every: "10s".parse().unwrap(),
        }
    }

    fn open(&self) -> Result<Tls, TlsError> {
        Tls::open(&self.files())
    }
}

#[test]
fn a_pair_is_used_and_every_fault_names_its_file() {
    let (made, other) = (make("a.example"), make("b.example"));
    let folder = Folder::with(&made);
    let tls = folder.open().unwrap();
    assert!(tls.is_for("a.example") && !tls.is_for("b.example") && !tls.is_for("127.0.0.1"));
    assert!(tls.expires_at().is_some());

    folder.key(&other.key);
    let error = folder.open().unwrap_err();
    assert!(matches!(error, TlsError::NoPair { .. }), "{error}");
    let told = |error: TlsError, file: &str, words: &str| {
        let text = error.to_string();
        assert!(text.contains(file) && text.contains(words), "{text}");
        assert!(!text.contains("BEGIN PRIVATE KEY-----\nM"), "no key is in an error");
    };
    told(error, "key.pem", "cert.pem");
    folder.key("");
    told(folder.open().unwrap_err(), "key.pem", "no private key");
    folder.key(&made.key[..made.key.len() / 2]);
    told(folder.open().unwrap_err(), "key.pem", "no private key");
    folder.key("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    told(folder.open().unwrap_err(), "key.pem", "encrypted");
    folder.key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    told(folder.open().unwrap_err(), "key.pem", "this kind of key");
    folder.key(&made.key);
    folder.certificate(&made.key);
    told(folder.open().unwrap_err(), "cert.pem", "no certificate");
    folder.certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    told(folder.open().unwrap_err(), "cert.pem", "not a certificate");
    folder.certificate(&made.certificate.repeat(17));
    told(folder.open().unwrap_err(), "cert.pem", "more than 16");
    folder.certificate(&" ".repeat(1024 * 1024 + 1));
    told(folder.open().unwrap_err(), "cert.pem", "1 MiB");
    fs::remove_file(folder.files().certificate).unwrap();
    told(folder.open().unwrap_err(), "cert.pem", "relative to the working folder");
}

#[test]
fn a_half_written_pair_changes_nothing_and_a_whole_one_is_taken_over() {
    let (old, new) = (make("old.example"), make("new.example"));
    let folder = Folder::with(&old);
    let tls = folder.open().unwrap();
    assert_eq!(tls.reload(false).unwrap(), Reloaded::Same);
    // The certificate first, the key later.
    folder.certificate(&new.certificate);
    for _ in 0..2 {
        assert!(matches!(tls.reload(false).unwrap_err(), TlsError::NoPair { .. }));
        assert!(tls.is_for("old.example"));
    }
    folder.key(&new.key[..40]);
    assert!(matches!(tls.reload(false).unwrap_err(), TlsError::NoKey(_)));
    folder.key(&new.key);
    assert_eq!(tls.reload(false).unwrap(), Reloaded::New);
    assert!(tls.is_for("new.example") && !tls.is_for("old.example"));
    // Written again with the same content: nothing new.
    folder.key(&new.key);
    assert_eq!(tls.reload(true).unwrap(), Reloaded::Same);
    fs::remove_file(folder.files().key).unwrap();
    assert!(matches!(tls.reload(false).unwrap_err(), TlsError::Read { .. }));
    assert!(tls.is_for("new.example"));
    folder.key(&new.key);
    assert_eq!(tls.reload(false).unwrap(), Reloaded::Same);
}

#[test]
fn a_moved_link_is_a_change() {
    let (old, new) = (make("old.example"), make("new.example"));
    let (first, second) = (Folder::with(&old), Folder::with(&new));
    let links = tempfile::tempdir().unwrap();
    let data = links.path().join("data");
    std::os::unix::fs::symlink(first.0.path(), &data).unwrap();
    let files = TlsConfig {
        certificate: data.join("cert.pem"),
        key: data.join("key.pem"),
        reload_every: "10s".parse().unwrap(),
    };
    let tls = Tls::open(&files).unwrap();
    // As Kubernetes does it: another link, moved over the old one.
    std::os::unix::fs::symlink(second.0.path(), links.path().join("next")).unwrap();
    fs::rename(links.path().join("next"), &data).unwrap();
    assert_eq!(tls.reload(false).unwrap(), Reloaded::New);
    assert!(tls.is_for("new.example"));
}

#[test]
fn other_kinds_of_keys_are_used_too() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let made = Made { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() };
    Folder::with(&made).open().unwrap();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "::1".to_owned()]).unwrap();
    let made =
        Made { certificate: params.self_signed(&ed25519).unwrap().pem(), key: ed25519.serialize_pem() };
    let tls = Folder::with(&made).open().unwrap();
    assert!(tls.is_for("127.0.0.1") && tls.is_for("[::1]") && !tls.is_for("127.0.0.2"));
}

#[test]
fn a_key_that_others_may_read_is_noticed() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::with(&make("a.example"));
    let tls = folder.open().unwrap();
    for (mode, exposed) in [(0o600, false), (0o640, false), (0o644, true)] {
        fs::set_permissions(folder.files().key, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(tls.key_is_exposed(), exposed, "{mode:o}");
    }
}
