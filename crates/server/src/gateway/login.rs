//! `GET /login` and `POST /login`: the hosted sign-in page. The login itself is that of `POST /v1/session`.

use super::asked::Asked;
use super::code::CodePage;
use super::demand::Demand;
use super::return_to::ReturnTo;
use super::site::{Message, Site, error_page, page, refreshed, see_other};
use super::{sign_in, words};
use crate::authority::{App, Authority};
use crate::challenges::ChallengeText;
use crate::http::answer::CredentialAnswer;
use crate::http::body::FormBody;
use crate::http::caller::{self, Caller, Origin};
use crate::http::error::{ApiError, ApiResult};
use crate::password::Password;
use crate::session::login::{first_step, session_scope};
use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode, header};
use reseal_core::Acr;
use serde::Deserialize;

/// The sign-in page.
#[derive(Template)]
#[template(path = "gateway/login.html")]
pub(super) struct LoginPage<'a> {
    app: &'a str,
    carried: &'a Carried,
    username: &'a str,
    /// Why the visitor is here.
    notice: Option<&'static str>,
    /// What was wrong.
    error: Option<String>,
}

impl<'a> LoginPage<'a> {
    /// After something went wrong; what was typed stays, other than the password.
    pub(super) fn after(
        error: ApiError,
        (site, carried): (&'a Site, &'a Carried),
        username: &'a str,
    ) -> Response {
        let told = Some(words::of_error(&error));
        let template = LoginPage { app: &site.app, carried, username, notice: None, error: told };
        error_page(error, &template)
    }
}

/// What the pages carry along from the link to the end of the login.
pub(super) struct Carried {
    pub(super) return_to: Option<ReturnTo>,
    pub(super) asked: Asked,
}

impl Carried {
    /// Checks where the link leads; a page that says so when the pages may not send anybody there.
    pub(super) fn check(authority: &Authority, site: &Site, asked: Asked) -> Result<Self, Box<Response>> {
        match asked.target(&authority.gateway.targets) {
            Ok(return_to) => Ok(Self { return_to, asked }),
            Err(refused) => {
                tracing::info!("a link to the sign-in page was refused: return_to is {refused}");
                let words = "The link that brought you here leads to a place that this site does not know. \
                             Nothing was done.";
                let message =
                    Message::of(site, "An unknown place", words).link("/login", "Sign in without it");
                Err(message.page(StatusCode::BAD_REQUEST).into())
            }
        }
    }

    /// Where to go at the end.
    pub(super) fn target(&self) -> ReturnTo {
        self.return_to.clone().unwrap_or_else(ReturnTo::home)
    }

    fn link(&self) -> String {
        sign_in::link(self.return_to.as_ref(), self.asked.demand())
    }
}

/// `GET /login`.
pub(super) async fn show(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let site = Site::open(&app).await?;
    let carried = Carried::check(&app, &site, Asked::of_query(query.as_deref())).map_err(|page| *page)?;
    let demand = carried.asked.demand();
    let found = signed_in(&app, &headers).await;
    let (mut username, mut notice) = (String::new(), None);
    match &found {
        Ok(Some(caller)) if caller.session.client_id == site.client.id => {
            if demand.is_met(caller.strength, caller.now) && !carried.asked.again {
                let answer = see_other(carried.target().as_str());
                return refreshed(&app, caller, answer).map_err(Message::error);
            }
            if demand.acr > Some(Acr::Aal1) && !caller.user.has_second_factor() {
                let answer = no_second_factor(&site, &carried);
                return refreshed(&app, caller, answer).map_err(Message::error);
            }
            username.clone_from(&caller.user.username);
            notice = Some(why_again(demand, caller));
        }
        Ok(_) => {}
        Err(error) if error.status() == StatusCode::SERVICE_UNAVAILABLE => {}
        Err(error) => notice = error.told_reason().and_then(words::why_over),
    }
    let template = LoginPage { app: &site.app, carried: &carried, username: &username, notice, error: None };
    match found {
        Ok(Some(caller)) => refreshed(&app, &caller, page(StatusCode::OK, &template)).map_err(Message::error),
        Err(error) if error.status() == StatusCode::SERVICE_UNAVAILABLE => Err(Message::error(error)),
        _ => Ok(page(StatusCode::OK, &template)),
    }
}

/// Who is signed in by the browser's cookie, as for a page that is only looked at.
pub(super) async fn signed_in(app: &Authority, headers: &HeaderMap) -> ApiResult<Option<Caller>> {
    let Some(cookie) = caller::session_cookie(headers, app.cookie_name()) else { return Ok(None) };
    let now = app.clock.now();
    caller::from_cookie(app, &cookie, (&Method::GET, headers), (false, now)).await.map(Some)
}

fn why_again(demand: Demand, caller: &Caller) -> &'static str {
    if demand.acr > Some(caller.strength.acr) {
        "This needs your second factor. Sign in again to go on."
    } else if demand.is_met(caller.strength, caller.now) {
        "You are signed in. Sign in again to change to another account or to confirm that it is you."
    } else {
        "Please confirm that it is you: sign in again to go on."
    }
}

/// Nobody is sent round in circles: without a factor, signing in again cannot help.
fn no_second_factor(site: &Site, carried: &Carried) -> Response {
    let words = "This place needs a second factor, a phone for codes, and your account has none. Turn one on in \
                 your account, then come back.";
    let mut message = Message::of(site, "A second factor is needed", words).link("/", "Back to the start");
    if carried.return_to.is_some() {
        message = message.link(carried.link(), "I have turned it on");
    }
    message.link("/logout", "Sign out").page(StatusCode::FORBIDDEN)
}

/// The form of the sign-in page.
#[derive(Deserialize)]
pub(super) struct LoginForm {
    #[serde(default)]
    username: String,
    password: Password,
    return_to: Option<String>,
    acr: Option<String>,
    max_age: Option<String>,
}

/// `POST /login`.
pub(super) async fn submit(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    form: Result<FormBody<LoginForm>, ApiError>,
) -> Result<Response, Response> {
    let site = Site::open(&app).await?;
    site.check_origin(&app, &headers).map_err(|page| *page)?;
    let FormBody(form) = match form {
        Ok(form) => form,
        Err(error) => {
            let carried = Carried { return_to: None, asked: Asked::default() };
            return Err(LoginPage::after(error, (&site, &carried), ""));
        }
    };
    let LoginForm { username, password, return_to, acr, max_age } = form;
    let asked = Asked::of_form(return_to, acr.as_deref(), max_age.as_deref());
    let carried = Carried::check(&app, &site, asked).map_err(|page| *page)?;
    let failed = |error| LoginPage::after(error, (&site, &carried), &username);
    let scope = session_scope(&site.client, None).map_err(failed)?;
    let headers = without_authorization(headers);
    let step = first_step(&app, (&site.client, scope), (&username, password), (&origin, &headers)).await;
    match step {
        Ok(answer) => Ok(lead_on(&carried, answer)),
        Err(error) => match challenge_of(&error) {
            Some(challenge) => Ok(CodePage::begin(&app, (&site, &carried), &challenge, error).await),
            None => Err(failed(error)),
        },
    }
}

/// The pages are for a public client: an `Authorization` of whatever stands before them is not about it.
pub(super) fn without_authorization(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(header::AUTHORIZATION);
    headers
}

fn challenge_of(error: &ApiError) -> Option<ChallengeText> {
    error.member("challenge").and_then(|text| serde_json::from_value(text.clone()).ok())
}

/// The end of a login: the new cookie, and the way to where the visitor was going. Whose login is not as
/// strong as asked is told so, before he is sent to a place that would send him back.
pub(super) fn lead_on(carried: &Carried, answer: CredentialAnswer) -> Response {
    let reached = answer.body.session.as_ref().and_then(|session| session.acr.parse::<Acr>().ok());
    let enough = carried.asked.demand().acr <= reached.or(Some(Acr::Aal1));
    let mut response = see_other(if enough { carried.target().to_string() } else { carried.link() }.as_str());
    if let Some(cookie) = answer.cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
