//! More requirements for some routes, inside of a [`VerifyLayer`](crate::VerifyLayer).

use crate::refusal::{InRealm, MissingToken, Refusal};
use crate::requirements::Requirements;
use crate::verified::Verified;
use bytes::Bytes;
use http::{Request, Response};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Asks more of the token on some routes. It verifies nothing: a [`VerifyLayer`](crate::VerifyLayer) belongs around
/// it, and where there is none, every request is refused with 401.
///
/// ```
/// use reseal_verify::{RequireLayer, Requirements};
///
/// let to_write = RequireLayer::new(Requirements::new().scope("notes:write"));
/// # let _ = to_write;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RequireLayer(Requirements);

impl RequireLayer {
    /// Asks for this.
    pub const fn new(requirements: Requirements) -> Self {
        Self(requirements)
    }
}

impl<S> Layer<S> for RequireLayer {
    type Service = RequireService<S>;

    fn layer(&self, inner: S) -> RequireService<S> {
        RequireService { inner, requirements: self.0.clone() }
    }
}

/// See [`RequireLayer`].
#[derive(Clone, Debug)]
pub struct RequireService<S> {
    inner: S,
    requirements: Requirements,
}

impl<S, B, R> Service<Request<B>> for RequireService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: From<Bytes> + Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let checked = match request.extensions().get::<Verified>() {
            Some(verified) => verified.require(&self.requirements),
            None => Err(Refusal::from(MissingToken::default()).in_realm(&InRealm::of(request.extensions()))),
        };
        match checked {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(refusal) => {
                let response = refusal.answer().into_response();
                Box::pin(std::future::ready(Ok(response)))
            }
        }
    }
}
