//! The two files: read whole, bounded, and used only if they are a pair.

use crate::config::TlsConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why a certificate and its key cannot be used. Says which file, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("server.tls: {path}: {error}{}", advice(error), path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is no file, or too large.
    #[error("server.tls: {path}: larger than 1 MiB; this is not a file in PEM", path = .0.display())]
    TooLarge(PathBuf),
    /// There is no certificate in it.
    #[error("server.tls.certificate: {path}: there is no certificate in it. It must be in PEM (-----BEGIN CERTIFICATE-----), the server's own first", path = .0.display())]
    NoCertificate(PathBuf),
    /// There are too many.
    #[error("server.tls.certificate: {path}: more than {CHAIN_MAX} certificates; put the server's own into it and those between it and the root, nothing else", path = .0.display())]
    LongChain(PathBuf),
    /// It does not parse.
    #[error("server.tls.certificate: {path}: not a certificate that can be used ({error})", path = path.display())]
    BadCertificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// There is no key in it.
    #[error("server.tls.key: {path}: there is no private key in it. It must be in PEM (-----BEGIN PRIVATE KEY-----)", path = .0.display())]
    NoKey(PathBuf),
    /// The key is encrypted.
    #[error("server.tls.key: {path}: the key is encrypted. Take the passphrase off (openssl pkey -in OLD -out NEW) and protect the file by its mode", path = .0.display())]
    Encrypted(PathBuf),
    /// The key is of a kind that is not used here.
    #[error("server.tls.key: {path}: this kind of key cannot be used; make one of ECDSA (P-256) or RSA (2048 bits or more)", path = .0.display())]
    UnusableKey(PathBuf),
    /// They are no pair.
    #[error("server.tls: {key} is not the key of {certificate}: they are of different pairs. Write both anew", key = key.display(), certificate = certificate.display())]
    NoPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ". The authority's user must be able to read it",
        io::ErrorKind::NotFound => ". Paths are relative to the working folder",
        _ => "",
    }
}

const FILE_MAX: u64 = 1024 * 1024;
const CHAIN_MAX: usize = 16;

/// What the files look like from outside: another one after every change, a moved symbolic link included.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature([Facts; 2]);

/// Device, inode, size, and the times of the last changes of content and of the entry.
type Facts = (u64, u64, u64, [i64; 4]);

impl Signature {
    pub(super) fn of(files: &TlsConfig) -> Result<Self, TlsError> {
        let facts = |path: &Path| {
            let meta =
                std::fs::metadata(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })?;
            let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
            Ok((meta.dev(), meta.ino(), meta.size(), times))
        };
        Ok(Self([facts(&files.certificate)?, facts(&files.key)?]))
    }
}

/// The pair in the files.
pub(super) fn read(files: &TlsConfig) -> Result<CertifiedKey, TlsError> {
    let chain = chain(&files.certificate)?;
    let key = key(&files.key)?;
    let provider = aws_lc_rs::default_provider();
    let signing = provider.key_provider.load_private_key(key);
    let signing = signing.map_err(|_| TlsError::UnusableKey(files.key.clone()))?;
    let pair = CertifiedKey::new(chain, signing);
    match pair.keys_match() {
        Ok(()) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::NoPair { certificate: files.certificate.clone(), key: files.key.clone() })
        }
        Err(error) => {
            Err(TlsError::BadCertificate { path: files.certificate.clone(), error: error.to_string() })
        }
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = whole(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).take(CHAIN_MAX + 1).collect();
    let bad = |error: &dyn std::fmt::Display| TlsError::BadCertificate {
        path: path.to_owned(),
        error: error.to_string(),
    };
    let chain = chain.map_err(|error| bad(&error))?;
    match chain.len() {
        0 => Err(TlsError::NoCertificate(path.to_owned())),
        1..=CHAIN_MAX => Ok(chain),
        _ => Err(TlsError::LongChain(path.to_owned())),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = whole(path)?;
    let has = |words: &[u8]| text.windows(words.len()).any(|window| window == words);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::Encrypted(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::NoKey(path.to_owned()))
}

fn whole(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let read = |error| TlsError::Read { path: path.to_owned(), error };
    // What would not end, such as a pipe, is not opened.
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err(read(io::Error::other("not a file")));
    }
    let file = std::fs::File::open(path).map_err(read)?;
    // Room for all of it: a buffer that grew would leave copies of the key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(64 * 1024));
    file.take(FILE_MAX + 1).read_to_end(&mut text).map_err(read)?;
    if text.len() as u64 > FILE_MAX {
        return Err(TlsError::TooLarge(path.to_owned()));
    }
    Ok(text)
}

/// Whether others than its owner and group may read the file.
pub(super) fn is_exposed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o004 != 0)
}
