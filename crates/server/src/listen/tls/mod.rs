//! TLS 1.2 and 1.3 (RFC 9325) with the certificate of the configuration, taken over anew when its files
//! change.
//!
//! A certificate and key are used together or not at all: while one of the two is replaced, half written, or
//! does not fit, the pair that was in use stays.

mod certificate;
mod files;

pub use files::TlsError;

use crate::config::TlsConfig;
use arc_swap::ArcSwap;
use certificate::Validity;
use files::Signature;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_rustls::TlsAcceptor;

/// TLS with the newest certificate.
pub struct Tls {
    files: TlsConfig,
    /// One configuration per pair: its session tickets die with it.
    inner: ArcSwap<Inner>,
    /// What the files looked like when they were last read, whether or not they could be used.
    seen: Mutex<Option<Signature>>,
}

struct Inner {
    acceptor: TlsAcceptor,
    pair: Arc<CertifiedKey>,
    validity: Option<Validity>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// What came of a look at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// They hold what is in use.
    Same,
    /// They held something new, which is in use now.
    New,
}

/// How long a certificate still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Long enough.
    Far,
    /// It is time to have another one: this many seconds are left.
    Soon(i64),
    /// It has expired.
    Over,
    /// It does not hold yet.
    Early,
}

impl Tls {
    /// Reads the files.
    pub fn open(files: &TlsConfig) -> Result<Self, TlsError> {
        let signature = Signature::of(files);
        let inner = Inner::new(files::read(files)?)?;
        Ok(Self {
            files: files.clone(),
            inner: ArcSwap::from_pointee(inner),
            seen: Mutex::new(signature.ok()),
        })
    }

    /// Reads the files again if they look different than at the last reading that could be used, or in any
    /// case. Whatever is wrong with them, what was in use stays so. Reads files: call it where that may block.
    pub fn reload(&self, in_any_case: bool) -> Result<Reloaded, TlsError> {
        // One at a time.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the files: what changes while they are read is seen the next time.
        let signature = Signature::of(&self.files)?;
        if !in_any_case && seen.as_ref() == Some(&signature) {
            return Ok(Reloaded::Same);
        }
        // What cannot be used is looked at again each time: within the clock tick of a half-written file its
        // rest looks the same.
        *seen = None;
        let pair = files::read(&self.files)?;
        let is_same = pair.cert == self.inner.load().pair.cert;
        if !is_same {
            self.inner.store(Arc::new(Inner::new(pair)?));
        }
        *seen = Some(signature);
        Ok(if is_same { Reloaded::Same } else { Reloaded::New })
    }

    /// For the next handshake.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.inner.load().acceptor.clone()
    }

    /// When the certificate expires (Unix seconds), as far as it can be read.
    pub fn expires_at(&self) -> Option<i64> {
        self.inner.load().validity.map(|validity| validity.not_after)
    }

    /// How long it still holds, at `now` (Unix seconds).
    pub fn expiry(&self, now: i64) -> Expiry {
        self.inner.load().validity.map_or(Expiry::Far, |validity| validity.at(now))
    }

    /// Whether the certificate is for this host.
    pub fn is_for(&self, host: &str) -> bool {
        certificate::is_for(&self.inner.load().pair, host)
    }

    /// The host of this URL, if the certificate is for others.
    pub fn refused_host(&self, url: &str) -> Option<String> {
        let url: http::Uri = url.parse().ok()?;
        url.host().filter(|host| !self.is_for(host)).map(str::to_owned)
    }

    /// Whether others than the key's owner and group may read its file.
    pub fn key_is_exposed(&self) -> bool {
        files::is_exposed(&self.files.key)
    }
}

impl Inner {
    fn new(pair: CertifiedKey) -> Result<Self, TlsError> {
        let pair = Arc::new(pair);
        let validity = pair.cert.first().and_then(|leaf| Validity::of(leaf));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(&pair))));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Setup)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), pair, validity })
    }
}

#[cfg(test)]
mod tests;
