//! Client authentication: client_secret_basic and client_secret_post (RFC 6749 §2.3.1), or the id of a
//! public client.

use crate::authority::Authority;
use crate::http::error::{ApiError, ApiResult};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode, header};
use reseal_core::client::SecretHash;
use reseal_core::{Client, ClientId};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What a request says of its client.
#[derive(Default)]
pub struct ClientCredentials {
    id: Option<String>,
    secret: Option<Zeroizing<String>>,
    basic: bool,
}

impl ClientCredentials {
    /// Longest id or secret looked at.
    const MAX: usize = 512;

    /// From the `Authorization: Basic` header and the parameters of the body. Both at once is an error
    /// (RFC 6749 §2.3: one method per request), unless they name the same client without a secret.
    pub fn read(headers: &HeaderMap, id: Option<&str>, secret: Option<&str>) -> ApiResult<Self> {
        let of_body =
            Self { id: id.map(str::to_owned), secret: secret.map(|s| s.to_owned().into()), basic: false };
        let Some(mut of_header) = basic(headers)? else { return Ok(of_body) };
        if of_body.secret.is_some() || of_body.id.as_ref().is_some_and(|id| Some(id) != of_header.id.as_ref())
        {
            return Err(ApiError::invalid_request(
                "The client authenticates twice, in the header and in the body. Use one of them.",
            ));
        }
        of_header.basic = true;
        Ok(of_header)
    }
}

fn basic(headers: &HeaderMap) -> ApiResult<Option<ClientCredentials>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let malformed = || invalid_client(true);
    let value = value.to_str().map_err(|_| malformed())?;
    let Some((scheme, encoded)) = value.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    if encoded.len() > 4 * ClientCredentials::MAX {
        return Err(malformed());
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).map_err(|_| malformed())?);
    let text = std::str::from_utf8(&decoded).map_err(|_| malformed())?;
    let (id, secret) = text.split_once(':').ok_or_else(malformed)?;
    Ok(Some(ClientCredentials {
        id: Some(form_decoded(id).ok_or_else(malformed)?),
        secret: Some(form_decoded(secret).ok_or_else(malformed)?.into()),
        basic: true,
    }))
}

/// RFC 6749 §2.3.1 has id and secret form-encoded inside the Basic value.
fn form_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        bytes.push(match b {
            b'+' => b' ',
            b'%' => {
                let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                hex(rest.next()?)? * 16 + hex(rest.next()?)?
            }
            b => b,
        });
    }
    String::from_utf8(bytes).ok()
}

/// 401 `invalid_client` (RFC 6749 §5.2). Only who used Basic is asked for it: a browser would ask its user.
pub fn invalid_client(basic: bool) -> ApiError {
    let error = ApiError::new(
        StatusCode::UNAUTHORIZED,
        "invalid_client",
        "The client is unknown, or did not authenticate as it must.",
    );
    error.header(header::WWW_AUTHENTICATE, if basic { "Basic realm=\"reseal\"" } else { "Bearer" })
}

impl Authority {
    /// The client of a request: with its secret if it has one.
    pub async fn authenticate_client(&self, given: &ClientCredentials) -> ApiResult<Arc<Client>> {
        let refused = || invalid_client(given.basic);
        let Some(id) = &given.id else {
            return Err(ApiError::invalid_request("client_id is missing."));
        };
        let id: ClientId = id.parse().map_err(|_| refused())?;
        let client = self.client(&id).await?.ok_or_else(refused)?;
        crate::ops::access::note_client(&client.id);
        match (&client.secret_hash, &given.secret) {
            (None, None) => Ok(client),
            (Some(hash), Some(secret))
                if secret.len() <= ClientCredentials::MAX && SecretHash::of(secret) == *hash =>
            {
                Ok(client)
            }
            // A public client that sends an empty secret, as some libraries do, is still public.
            (None, Some(secret)) if secret.is_empty() => Ok(client),
            _ => {
                tracing::warn!(client_id = %client.id, "client authentication failed");
                Err(refused())
            }
        }
    }

    /// As [`Self::authenticate_client`], for calls that only confidential clients may make.
    pub async fn authenticate_confidential_client(
        &self,
        given: &ClientCredentials,
    ) -> ApiResult<Arc<Client>> {
        let client = self.authenticate_client(given).await?;
        if client.is_confidential() { Ok(client) } else { Err(invalid_client(given.basic)) }
    }
}
