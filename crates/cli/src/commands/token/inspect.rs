//! `reseal token inspect`.

use super::claims::{self, Claims, Expected};
use super::{credential, key_file};
use crate::folder::{Folder, FolderArgs, StoreUrlParser};
use crate::input;
use crate::output::{Out, shown};
use crate::words;
use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reseal_core::Timestamp;
use reseal_core::session::Status;
use reseal_jose::{Jws, MAX_TOKEN_LEN};
use reseal_server::clock::Clock;
use reseal_store::{Store as _, StoreUrl};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;

/// Decode a token and say in words why it is valid or not.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Decodes a token and says in words why it is valid or not.\n\n\
        Without --jwks and --data nothing proves who made the token, and it says so. With --data (or \
        --config, --store) it is checked like the authority checks it: signature, session, user and client as \
        they are now. Refresh tokens and session cookies are recognised too; only the authority's own \
        data folder can tell whether they are good.\n\n\
        Exit code 0 if it could be decoded, valid or not; to decide by a token use `reseal token verify`.",
    after_help = "\
Examples:
  reseal token inspect TOKEN
  reseal token inspect --jwks jwks.json TOKEN
  pbpaste | reseal token inspect --data reseal-data -"
)]
pub(crate) struct InspectArgs {
    /// The token, or - for standard input
    token: OsString,
    /// File with a JSON Web Key Set or one JSON Web Key to check the signature with
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "config", "store"])]
    jwks: Option<PathBuf>,
    /// Configuration file of the authority to check with
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder of the authority to check with
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the store of the authority to check with (a password belongs in `store.password_file`)
    #[arg(long, value_name = "URL", value_parser = StoreUrlParser)]
    store: Option<StoreUrl>,
    /// Decide as of this Unix second instead of now
    #[arg(long, value_name = "SECOND", allow_negative_numbers = true)]
    now: Option<i64>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What was found out about a token.
#[derive(Default)]
pub(super) struct Report {
    /// What kind of token it is.
    pub(super) kind: String,
    /// The decoded parts, for a JWS.
    pub(super) parts: Option<(Value, Value)>,
    /// What it says, in words: a name and a sentence each.
    pub(super) facts: Vec<(&'static str, String)>,
    /// What is wrong with it.
    pub(super) faults: Vec<String>,
    /// Whether somebody vouches for it: `None` when nothing could be checked.
    pub(super) authentic: Option<bool>,
    /// Whether nothing that the command could be given would prove it.
    pub(super) beyond_proof: bool,
}

pub(super) async fn run(args: InspectArgs) -> anyhow::Result<()> {
    let token = input::token(&args.token, MAX_TOKEN_LEN)?;
    let named = args.config.is_some() || args.data.is_some() || args.store.is_some();
    let folder = if named {
        let store =
            FolderArgs { config: args.config.clone(), data: args.data.clone(), store: args.store.clone() };
        Some(store.open_read_only().await?)
    } else {
        None
    };
    let clock = folder.as_ref().map_or_else(|| Clock::system().now(), Folder::now);
    let now = args.now.map_or(clock, Timestamp::from_secs);
    let report = match credential::inspect(&token, folder.as_ref(), now).await? {
        Some(report) => report,
        None => inspect_jws(&token, &args, (folder.as_ref(), now)).await?,
    };
    report.print(args.json)
}

async fn inspect_jws(
    token: &str,
    args: &InspectArgs,
    (folder, now): (Option<&Folder>, Timestamp),
) -> anyhow::Result<Report> {
    let Some(Decoded { header, payload, payload_bytes }) = decode(token) else {
        // The parser knows best what is wrong.
        match Jws::parse(token) {
            Err(error) => bail!("this is no token: {error}"),
            Ok(_) => bail!("this is a JWS, but no JWT: its payload is not a JSON object"),
        }
    };
    let typ = header.get("typ").and_then(Value::as_str).map(str::to_owned);
    let mut report = Report { kind: kind(typ.as_deref()), ..Report::default() };
    match Jws::parse(token) {
        Err(error) => {
            report.authentic = Some(false);
            report.faults.push(error.to_string());
        }
        Ok(jws) => check_signature(&jws, args, (folder, now), &mut report).await?,
    }
    match Claims::parse(&payload_bytes) {
        Ok(claims) => {
            let issuer = folder.and_then(|f| f.config.issuer.as_deref());
            let expected = Expected { now, leeway: 0, issuer, audience: None };
            report.faults.extend(claims.faults(typ.as_deref(), &expected));
            report.facts.extend(facts(&claims, now));
            if let Some(folder) = folder {
                check_records(folder, &claims, now, &mut report).await?;
            }
        }
        Err(error) => report.faults.push(error),
    }
    report.parts = Some((header, payload));
    Ok(report)
}

/// What looks like a JWS, decoded.
struct Decoded {
    header: Value,
    payload: Value,
    /// The payload as it was written: JSON says less than its text.
    payload_bytes: Vec<u8>,
}

/// Decodes a JWS, also one that we would refuse.
fn decode(token: &str) -> Option<Decoded> {
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok();
    let object = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok().filter(Value::is_object);
    let mut parts = token.split('.');
    let header = object(&bytes(parts.next()?)?)?;
    let payload_bytes = bytes(parts.next()?)?;
    Some(Decoded { header, payload: object(&payload_bytes)?, payload_bytes })
}

fn kind(typ: Option<&str>) -> String {
    match typ {
        Some(_) if claims::check_type(typ, "at+jwt").is_ok() => "access token (RFC 9068)".to_owned(),
        Some(typ) => format!("JWT of type {}", shown(typ)),
        None => "JWT without a type".to_owned(),
    }
}

async fn check_signature(
    jws: &Jws<'_>,
    args: &InspectArgs,
    (folder, now): (Option<&Folder>, Timestamp),
    report: &mut Report,
) -> anyhow::Result<()> {
    let checked = match (&args.jwks, folder) {
        (Some(file), _) => key_file::read(file)?.verify(jws).map(drop).map_err(|e| e.to_string()),
        (None, Some(folder)) => verify_as_authority(jws, folder, now).await?,
        (None, None) => return Ok(()),
    };
    report.authentic = Some(checked.is_ok());
    match checked {
        Ok(()) => report.facts.push(("signature", format!("good ({})", jws.header().alg))),
        Err(fault) => report.faults.push(fault),
    }
    Ok(())
}

async fn verify_as_authority(
    jws: &Jws<'_>,
    folder: &Folder,
    now: Timestamp,
) -> anyhow::Result<Result<(), String>> {
    let keys = folder.key_set(now).await?;
    let Some(kid) = jws.header().kid.as_deref() else { return Ok(Err("the token has no `kid`".to_owned())) };
    Ok(match keys.verifying(kid, now) {
        Some(key) => jws.verify(key).map(drop).map_err(|e| e.to_string()),
        None => Err(format!("the authority has no key {}, or has withdrawn it", shown(kid))),
    })
}

/// What the claims say, in words.
fn facts(claims: &Claims, now: Timestamp) -> Vec<(&'static str, String)> {
    let texts =
        [("issuer", "iss"), ("user", "sub"), ("client", "client_id"), ("session", "sid"), ("scope", "scope")];
    // A client that got a token for itself is its own subject (RFC 9068 §2.2), and nobody's user.
    let own = claims.text("sid").is_none() && claims.text("sub") == claims.text("client_id");
    let texts = texts.into_iter().filter(|(_, claim)| !(own && *claim == "sub"));
    let texts = texts.filter_map(|(name, claim)| Some((name, shown(claims.text(claim)?))));
    let times = [
        ("issued", "iat"),
        ("signed in", "auth_time"),
        ("not before", "nbf"),
        ("renewable", "renew_at"),
        ("expires", "exp"),
    ];
    let times = times.into_iter().filter_map(|(name, claim)| {
        let at = claims.time(claim)?.ok()?;
        Some((name, words::both(at, now)))
    });
    texts.chain(times).collect()
}

/// Compares the token with the records as they are now.
async fn check_records(
    folder: &Folder,
    claims: &Claims,
    now: Timestamp,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(sid) = claims.text("sid") else { return Ok(()) };
    let snapshot = match sid.parse() {
        Ok(id) => folder.store.session(id).await?,
        Err(_) => None,
    };
    let Some(snapshot) = snapshot else {
        report.faults.push("the authority does not know the session, or has forgotten its end".to_owned());
        return Ok(());
    };
    describe_session(folder, &snapshot.session, now, report);
    let rev = claims.0.get("rev").and_then(Value::as_u64);
    let current = snapshot.user.revision;
    if rev.is_some_and(|rev| rev < current) {
        let rev = rev.unwrap_or_default();
        report.facts.push((
            "claims",
            format!(
                "stale: revision {rev}, the user's record has {current}; the next renewal brings the new ones"
            ),
        ));
    }
    Ok(())
}

/// Says whether the session lives, and why it does not.
pub(super) fn describe_session(
    folder: &Folder,
    session: &reseal_core::Session,
    now: Timestamp,
    report: &mut Report,
) {
    let Some(policy) = folder.policies.find(&session.policy) else {
        report.faults.push(format!("the session's policy {} is not configured any more", session.policy));
        return;
    };
    match session.status(policy, now) {
        Status::Live(deadlines) => {
            let idle =
                policy.idle_ttl.map(|_| format!("if unused {}, ", words::relative(deadlines.idle, now)));
            let text = format!(
                "live; ends {}in any case {}",
                idle.unwrap_or_default(),
                words::both(deadlines.absolute, now)
            );
            report.facts.push(("state", text));
        }
        Status::Over(ended) => {
            report.faults.push(format!("the session ended {}: {}", words::both(ended.at, now), ended.reason));
        }
    }
}

impl Report {
    fn print(self, json: bool) -> anyhow::Result<()> {
        let mut out = Out::new();
        let valid = match self.authentic {
            _ if !self.faults.is_empty() => Some(false),
            authentic => authentic,
        };
        if json {
            let facts: serde_json::Map<String, Value> =
                self.facts.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
            let (header, payload) = self.parts.unzip();
            out.json(&json!({
                "kind": self.kind,
                "valid": valid,
                "authentic": self.authentic,
                "faults": self.faults,
                "facts": facts,
                "header": header,
                "payload": payload,
            }))?;
            return out.finish();
        }
        if let Some((header, payload)) = &self.parts {
            for (name, part) in [("header", header), ("payload", payload)] {
                out.line(name)?;
                // serde_json escapes control characters, all but DEL and those above ASCII.
                let text = serde_json::to_string_pretty(part)?;
                for line in text.lines() {
                    out.line(format_args!("  {}", shown(line)))?;
                }
            }
            out.line("")?;
        }
        out.line(format_args!("{:12}{}", "kind", self.kind))?;
        for (name, text) in &self.facts {
            out.line(format_args!("{name:12}{text}"))?;
        }
        let verdict = match valid {
            Some(true) => "valid".to_owned(),
            Some(false) => format!("not valid: {}", self.faults.join("; ")),
            None if self.beyond_proof => "not checked: only its use shows whether it is good".to_owned(),
            None => "not checked: nothing proves who made it. Give --jwks FILE or --data DIR".to_owned(),
        };
        out.line(format_args!("{:12}{verdict}", "verdict"))?;
        out.finish()
    }
}
