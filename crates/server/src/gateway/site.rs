//! What the hosted pages have in common: for which app they are, and how they answer.

use crate::authority::Authority;
use crate::http::asset::HTML;
use crate::http::caller::{Caller, Presented};
use crate::http::error::{ApiError, ApiResult};
use crate::http::origin::check_cookie_request;
use askama::Template;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reseal_core::policy::Policies;
use reseal_core::{Client, ClientId, PolicyKind};
use reseal_store::StoreError;
use std::sync::Arc;
use std::time::Duration;

/// The app that the pages are for.
pub(super) struct Site {
    /// Its client.
    pub(super) client: Arc<Client>,
    /// What people call it.
    pub(super) app: String,
}

impl Site {
    /// The app of `[gateway]`, or the page that says what is missing.
    pub(super) async fn open(authority: &Authority) -> Result<Self, Response> {
        let Some(id) = &authority.gateway.client_id else {
            let words = "This authority has no sign-in page yet. Whoever runs it names the app's client in the \
                         configuration: client_id in the section [gateway].";
            return Err(Message::new("No sign-in page", words).page(StatusCode::NOT_FOUND));
        };
        let usable = match usable(authority, id).await {
            Ok(usable) => usable,
            Err(error) => return Err(Message::error(ApiError::from(error))),
        };
        match usable {
            Ok(client) => {
                let app = authority.gateway.title.clone().unwrap_or_else(|| client.name.clone());
                Ok(Self { client, app })
            }
            Err(why) => {
                tracing::error!(client_id = %id, "the client of [gateway] {why}");
                let words = format!("The client {id}, which the section [gateway] names, {why}.");
                Err(Message::new("The sign-in page is not set up", words)
                    .page(StatusCode::SERVICE_UNAVAILABLE))
            }
        }
    }

    /// Refuses a form that was not sent from a page of the app or of the authority: nobody is signed in, or
    /// out, by another site.
    pub(super) fn check_origin(
        &self,
        authority: &Authority,
        headers: &HeaderMap,
    ) -> Result<(), Box<Response>> {
        let origins = (&*authority.issuer, self.client.origins.as_slice());
        check_cookie_request(&Method::POST, headers, origins).map_err(|error| {
            let words = "This form was not sent from this site, so nothing was done. Open the page again and \
                         use the form there.";
            let message = Message::new("From another site", words).link("/login", "To the sign-in page");
            message.answer(error).into()
        })
    }
}

/// The client of that name, or why the pages cannot use it.
pub(super) async fn usable(
    authority: &Authority,
    id: &ClientId,
) -> Result<Result<Arc<Client>, &'static str>, StoreError> {
    let found = authority.client(id).await?;
    Ok(match unusable(found.as_deref(), &authority.policies) {
        Some(why) => Err(why),
        None => found.ok_or("is not registered, or disabled"),
    })
}

/// Why the pages cannot use the client.
pub(super) fn unusable(client: Option<&Client>, policies: &Policies) -> Option<&'static str> {
    let Some(client) = client.filter(|client| !client.disabled) else {
        return Some("is not registered, or disabled");
    };
    match policies.find(&client.policy).map(|policy| policy.kind) {
        _ if client.is_confidential() => Some("has a secret, and the page is for a public client"),
        Some(PolicyKind::Cookie) => None,
        _ => Some("has a policy that is not of kind cookie"),
    }
}

/// A page that says something, and perhaps leads on.
#[derive(Template)]
#[template(path = "gateway/message.html")]
pub(super) struct Message {
    app: String,
    heading: &'static str,
    words: String,
    links: Vec<(String, &'static str)>,
}

impl Message {
    pub(super) fn new(heading: &'static str, words: impl Into<String>) -> Self {
        Self { app: "Reseal".to_owned(), heading, words: words.into(), links: Vec::new() }
    }

    /// On the page of an app.
    pub(super) fn of(site: &Site, heading: &'static str, words: impl Into<String>) -> Self {
        Self { app: site.app.clone(), ..Self::new(heading, words) }
    }

    /// With a link.
    pub(super) fn link(mut self, to: impl Into<String>, text: &'static str) -> Self {
        self.links.push((to.into(), text));
        self
    }

    /// As the answer.
    pub(super) fn page(&self, status: StatusCode) -> Response {
        page(status, self)
    }

    /// As the answer to what failed.
    pub(super) fn answer(&self, error: ApiError) -> Response {
        error_page(error, self)
    }

    /// What failed for no fault of the visitor's.
    pub(super) fn error(error: ApiError) -> Response {
        let words = super::words::of_error(&error);
        Self::new("That did not work", words).answer(error)
    }
}

/// A page.
pub(super) fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => with_html(status.into_response(), html),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            ApiError::unavailable(Duration::from_secs(5)).into_response()
        }
    }
}

/// A page that shows an error, with the error's status and headers; the log tells of it as of any other.
pub(super) fn error_page(error: ApiError, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => with_html(error.into_response(), html),
        Err(_) => error.into_response(),
    }
}

/// Nothing inline, nothing foreign, in no frame.
///
/// Browsers hold every redirect after a form to `form-action`, those of the app included, and it may send
/// the browser wherever it wants: only the scheme can be fixed. (Plain HTTP is for this machine.)
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; \
                      form-action 'self' https: http://localhost:* http://127.0.0.1:*; frame-ancestors 'none'";

fn with_html(mut response: Response, html: String) -> Response {
    *response.body_mut() = Body::from(html);
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(HTML));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // "no-referrer" would also take `Origin` off the forms, by which older browsers show where they come from.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// Leads the browser on, by GET.
pub(super) fn see_other(location: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The answer with the caller's newest cookie, where he is to get it.
pub(super) fn refreshed(
    authority: &Authority,
    caller: &Caller,
    mut response: Response,
) -> ApiResult<Response> {
    if let Presented::Cookie { send: true, .. } = caller.presented {
        let cookie = authority.set_cookie(&caller.session, &caller.policy, caller.now)?;
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}
