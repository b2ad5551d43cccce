//! `GET /logout` and `POST /logout`: a page with a button, since a link must sign nobody out.

use super::asked::Asked;
use super::login::signed_in;
use super::return_to::ReturnTo;
use super::site::{Message, Site, page, refreshed, see_other};
use super::words;
use crate::authority::App;
use crate::http::body::FormBody;
use crate::http::caller::{Caller, Origin};
use crate::http::error::{ApiError, ApiResult};
use crate::session::login::replaced_session;
use crate::session::show::{end_session, forget};
use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use reseal_core::touch::touch_due;
use reseal_store::Commit;
use serde::Deserialize;

/// The page with the button.
#[derive(Template)]
#[template(path = "gateway/logout.html")]
struct LogoutPage<'a> {
    app: &'a str,
    return_to: Option<&'a ReturnTo>,
    /// Who is signed in.
    name: &'a str,
    dial: Dial,
}

/// The session as the dial draws it (design §13); times are Unix seconds.
struct Dial {
    now: i64,
    started_at: i64,
    renewed_at: i64,
    renew_at: i64,
    idle_expires_at: i64,
    expires_at: i64,
}

impl Dial {
    fn of(caller: &Caller) -> Self {
        let deadlines = caller.session.deadlines(&caller.policy);
        Self {
            now: caller.now.secs(),
            started_at: caller.session.started_at.secs(),
            renewed_at: caller.session.renewed_at.secs(),
            renew_at: touch_due(&caller.session, &caller.policy),
            idle_expires_at: deadlines.idle.secs(),
            expires_at: deadlines.absolute.secs(),
        }
    }

    /// Whether it ends earlier when it is not used.
    fn idles(&self) -> bool {
        self.idle_expires_at < self.expires_at
    }

    /// When it ends: for people and for machines.
    fn end(&self) -> (String, String) {
        words::moment(self.idle_expires_at)
    }

    /// How long that is.
    fn left(&self) -> String {
        let left = self.idle_expires_at.saturating_sub(self.now).max(0);
        words::span(left.unsigned_abs())
    }

    /// `stroke-dasharray` of an arc of that radius: what is left of a stretch of time, then nothing.
    fn dash(&self, radius: f64, from: i64, to: i64) -> String {
        let seconds = |n: i64| i32::try_from(n.max(0)).map_or(f64::from(i32::MAX), f64::from);
        let length = 2.0 * std::f64::consts::PI * radius;
        let rest = (seconds(to - self.now) / seconds(to - from).max(1.0)).clamp(0.0, 1.0);
        format!("{:.1} {length:.1}", rest * length)
    }

    fn idle_dash(&self) -> String {
        self.dash(62.0, self.renewed_at, self.idle_expires_at)
    }

    fn absolute_dash(&self) -> String {
        self.dash(94.0, self.started_at, self.expires_at)
    }
}

/// `GET /logout`. Ends nothing.
pub(super) async fn show(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let site = Site::open(&app).await?;
    // A place that is not known is no reason to keep anybody from signing out.
    let return_to = Asked::of_query(query.as_deref()).target(&app.gateway.targets).unwrap_or(None);
    match signed_in(&app, &headers).await {
        Ok(Some(caller)) => {
            let template = LogoutPage {
                app: &site.app,
                return_to: return_to.as_ref(),
                name: caller.user.name.as_deref().unwrap_or(&caller.user.username),
                dial: Dial::of(&caller),
            };
            refreshed(&app, &caller, page(StatusCode::OK, &template)).map_err(Message::error)
        }
        Err(error) if error.status() == StatusCode::SERVICE_UNAVAILABLE => Err(Message::error(error)),
        Ok(None) | Err(_) => {
            Ok(Message::of(&site, "You are signed out.", "Nobody is signed in in this browser.")
                .link("/login", "Sign in")
                .page(StatusCode::OK))
        }
    }
}

/// The form of the page.
#[derive(Default, Deserialize)]
pub(super) struct LogoutForm {
    return_to: Option<String>,
}

/// `POST /logout`. Works without a session too.
pub(super) async fn submit(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    form: Result<FormBody<LogoutForm>, ApiError>,
) -> Result<Response, Response> {
    let site = Site::open(&app).await?;
    site.check_origin(&app, &headers).map_err(|page| *page)?;
    let form = form.map(|FormBody(form)| form).unwrap_or_default();
    let asked = Asked::of_form(form.return_to, None, None);
    let return_to = asked.target(&app.gateway.targets).unwrap_or(None);
    end(&app, &site, (&origin, &headers)).await.map_err(Message::error)?;
    // To a page of its own, so that loading it again sends no form again.
    let mut response = see_other(return_to.as_ref().map_or("/logout?done", ReturnTo::as_str));
    forget(&app, response.headers_mut());
    Ok(response)
}

/// Ends the session of the browser's cookie. Of one that was replaced while its session lives, too: whoever
/// holds it wants to be signed out.
async fn end(app: &App, site: &Site, (origin, headers): (&Origin, &HeaderMap)) -> ApiResult<()> {
    match signed_in(app, headers).await {
        Ok(Some(caller)) => end_session(app, &caller, origin).await,
        Ok(None) => Ok(()),
        Err(error) if error.status() == StatusCode::SERVICE_UNAVAILABLE => Err(error),
        Err(_) => {
            let writes = replaced_session(app, &site.client, headers, app.clock.now());
            app.store.commit(Commit::of(writes)).await.map_err(ApiError::from)
        }
    }
}
