//! `POST /login/factor` and `POST /login/resend`: the second step of the hosted login.

use super::asked::Asked;
use super::login::{Carried, LoginPage, lead_on, without_authorization};
use super::site::{Site, error_page, page};
use super::words;
use crate::authority::{App, Authority};
use crate::challenges::{self, ChallengeText, Secret, invalid_challenge, message};
use crate::http::body::FormBody;
use crate::http::caller::Origin;
use crate::http::error::ApiError;
use crate::session::factor::{Factor, FactorRequest, ResendRequest, second_step, send_again};
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

/// The page that asks for the code.
#[derive(Template)]
#[template(path = "gateway/code.html")]
pub(super) struct CodePage<'a> {
    app: &'a str,
    carried: &'a Carried,
    /// Goes back with the code; hidden, never in a URL.
    challenge: &'a str,
    /// To which phone the code went; `None` when none could be sent.
    hint: Option<String>,
    notice: Option<&'static str>,
    error: Option<String>,
}

impl CodePage<'_> {
    /// After the password was found right. `outcome` is the answer that the API would give: the code is on
    /// its way, or why none is.
    pub(super) async fn begin(
        app: &Authority,
        of: (&Site, &Carried),
        challenge: &ChallengeText,
        outcome: ApiError,
    ) -> Response {
        if outcome.code() == "second_factor_required" {
            return Self::show(app, of, challenge, None).await;
        }
        let (site, carried) = of;
        let error = Some(words::of_error(&outcome));
        let challenge = challenge.reveal();
        let template = CodePage { app: &site.app, carried, challenge, hint: None, notice: None, error };
        error_page(outcome, &template)
    }

    async fn show(
        app: &Authority,
        (site, carried): (&Site, &Carried),
        challenge: &ChallengeText,
        notice: Option<&'static str>,
    ) -> Response {
        match hint(app, challenge).await {
            Ok(hint) => {
                let challenge = challenge.reveal();
                let hint = Some(hint);
                let template = CodePage { app: &site.app, carried, challenge, hint, notice, error: None };
                page(StatusCode::OK, &template)
            }
            Err(error) => LoginPage::after(error, (site, carried), ""),
        }
    }

    /// After something went wrong. A challenge that is over leads back to the password.
    async fn after(
        app: &Authority,
        (site, carried): (&Site, &Carried),
        challenge: &ChallengeText,
        error: ApiError,
    ) -> Response {
        let last_try = error.member("tries_left").and_then(serde_json::Value::as_u64) == Some(0);
        if last_try || error.code() == "invalid_challenge" {
            return LoginPage::after(error, (site, carried), "");
        }
        let hint = hint(app, challenge).await.ok();
        let told = Some(words::of_error(&error));
        let challenge = challenge.reveal();
        let template = CodePage { app: &site.app, carried, challenge, hint, notice: None, error: told };
        error_page(error, &template)
    }
}

/// The end of the number that the code went to.
async fn hint(app: &Authority, challenge: &ChallengeText) -> Result<String, ApiError> {
    challenges::read(app, challenge).await.map(|challenge| message::hint(&challenge.phone_number))
}

/// The forms of the page that asks for the code.
#[derive(Deserialize)]
pub(super) struct CodeForm {
    challenge: ChallengeText,
    /// Of the message.
    code: Option<Secret>,
    /// Instead of it.
    recovery_code: Option<Secret>,
    return_to: Option<String>,
    acr: Option<String>,
    max_age: Option<String>,
}

/// `POST /login/factor`.
pub(super) async fn submit(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    form: Result<FormBody<CodeForm>, ApiError>,
) -> Result<Response, Response> {
    let (site, carried, form) = open(&app, &headers, form).await?;
    let answer = match (form.code, form.recovery_code) {
        (Some(code), _) if !code.reveal().trim().is_empty() => (Factor::Phone, code),
        (_, Some(code)) if !code.reveal().trim().is_empty() => (Factor::RecoveryCode, code),
        _ => {
            // Nothing typed costs no try.
            let error = ApiError::invalid_request("The code is missing.");
            return Err(CodePage::after(&app, (&site, &carried), &form.challenge, error).await);
        }
    };
    let body = FactorRequest::of_page(&site.client.id, form.challenge.clone(), answer);
    match second_step(&app, &body, (&origin, &without_authorization(headers))).await {
        Ok(answer) => Ok(lead_on(&carried, answer)),
        Err(error) => Err(CodePage::after(&app, (&site, &carried), &form.challenge, error).await),
    }
}

/// `POST /login/resend`.
pub(super) async fn resend(
    State(app): State<App>,
    headers: HeaderMap,
    form: Result<FormBody<CodeForm>, ApiError>,
) -> Result<Response, Response> {
    let (site, carried, form) = open(&app, &headers, form).await?;
    let body = ResendRequest::of_page(&site.client.id, form.challenge.clone());
    match send_again(&app, &body, &without_authorization(headers)).await {
        Ok(_) => {
            let notice = Some("A new code is on its way. Older ones are good no more.");
            Ok(CodePage::show(&app, (&site, &carried), &form.challenge, notice).await)
        }
        Err(error) => Err(CodePage::after(&app, (&site, &carried), &form.challenge, error).await),
    }
}

async fn open(
    app: &Authority,
    headers: &HeaderMap,
    form: Result<FormBody<CodeForm>, ApiError>,
) -> Result<(Site, Carried, CodeForm), Response> {
    let site = Site::open(app).await?;
    site.check_origin(app, headers).map_err(|page| *page)?;
    let Ok(FormBody(mut form)) = form else {
        let carried = Carried { return_to: None, asked: Asked::default() };
        return Err(LoginPage::after(invalid_challenge(), (&site, &carried), ""));
    };
    let asked = Asked::of_form(form.return_to.take(), form.acr.as_deref(), form.max_age.as_deref());
    let carried = Carried::check(app, &site, asked).map_err(|page| *page)?;
    Ok((site, carried, form))
}
