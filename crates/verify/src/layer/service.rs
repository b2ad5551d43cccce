//! The service that the layer makes.

use super::admit::Admission;
use crate::renew::TokenText;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_service::Service;

/// The response header that carries a newer access token back.
pub const RENEWED_ACCESS_TOKEN: HeaderName = HeaderName::from_static("renewed-access-token");

/// See [`VerifyLayer`](crate::VerifyLayer).
#[derive(Clone, Debug)]
pub struct VerifyService<S> {
    inner: S,
    admission: Admission,
}

impl<S> VerifyService<S> {
    pub(super) const fn new(inner: S, admission: Admission) -> Self {
        Self { inner, admission }
    }
}

impl<S, B, R> Service<Request<B>> for VerifyService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<Bytes>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone is not ready, the service that was polled is.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let admission = self.admission.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let (admitted, renewed) = admission.admit(&mut parts).await;
            let mut response = match admitted {
                Ok(()) => inner.call(Request::from_parts(parts, body)).await?,
                Err(refusal) => refusal.answer().into_response(),
            };
            if let Some(token) = renewed {
                send_back(&token, response.headers_mut());
            }
            Ok(response)
        })
    }
}

/// Where these are known, they go before `Cache-Control` (the Edge Architecture, nginx), as does every targeted
/// field, whose name ends like it (RFC 9213 §2).
fn is_stronger(name: &HeaderName) -> bool {
    matches!(name.as_str(), "surrogate-control" | "x-accel-expires")
        || name.as_str().ends_with("-cache-control")
}

/// Adds a newer token to an answer. One that the service has put there itself is newer still.
fn send_back(token: &TokenText, headers: &mut HeaderMap) {
    let Ok(mut value) = HeaderValue::from_str(token.reveal()) else { return };
    value.set_sensitive(true);
    headers.entry(RENEWED_ACCESS_TOKEN).or_insert(value);
    // An answer with a credential is for its caller alone, whatever the service says of its own part.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let stronger: Vec<HeaderName> = headers.keys().filter(|name| is_stronger(name)).cloned().collect();
    for name in stronger {
        headers.remove(name);
    }
    let exposed = HeaderValue::from_static("Renewed-Access-Token");
    headers.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_exposed_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("ETag"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
        // These go before Cache-Control where they are known.
        for stronger in
            ["cdn-cache-control", "cloudflare-cdn-cache-control", "surrogate-control", "x-accel-expires"]
        {
            headers.append(stronger, HeaderValue::from_static("max-age=60"));
        }
        send_back(&TokenText::new("a.b.c".to_owned()), &mut headers);
        let exposed: Vec<_> = headers.get_all(header::ACCESS_CONTROL_EXPOSE_HEADERS).iter().collect();
        assert_eq!(exposed, ["ETag", "Renewed-Access-Token"]);
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        let others =
            ["cdn-cache-control", "cloudflare-cdn-cache-control", "surrogate-control", "x-accel-expires"];
        assert!(others.iter().all(|name| !headers.contains_key(*name)), "{headers:?}");
        assert_eq!(headers[RENEWED_ACCESS_TOKEN], "a.b.c");
        assert!(headers[RENEWED_ACCESS_TOKEN].is_sensitive());
    }

    #[test]
    fn a_token_of_the_service_is_newer() {
        let mut headers = HeaderMap::new();
        headers.insert(RENEWED_ACCESS_TOKEN, HeaderValue::from_static("newest"));
        send_back(&TokenText::new("newer".to_owned()), &mut headers);
        assert_eq!(headers[RENEWED_ACCESS_TOKEN], "newest");
    }
}
