//! `reseal token verify`.

use super::claims::{self, Claims, Expected};
use super::key_file;
use crate::input;
use crate::output::Out;
use anyhow::bail;
use reseal_core::Timestamp;
use reseal_jose::{Algorithm, Jws, MAX_TOKEN_LEN};
use reseal_server::clock::Clock;
use std::ffi::OsString;
use std::path::PathBuf;

/// Verify a token against a key set and print its payload.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Verifies a token against a key set and prints its payload, byte for byte.\n\n\
        Checked are the signature (ES256, EdDSA, RS256; each key for its own algorithm only), that the \
        payload is a JSON object without repeated members, exp and nbf, and what the options ask for. A \
        token of type at+jwt must have exp (RFC 9068).\n\n\
        Exit codes: 0 verified; 1 refused, for the reason on standard error; 2 a wrong command line or \
        an unreadable file.",
    after_help = "\
Examples:
  reseal token verify --jwks jwks.json TOKEN
  reseal token verify --jwks jwks.json --typ at+jwt --issuer https://id.example \\
      --audience https://api.example - < token.txt | jq .sub
  reseal token verify --jwks key.json --alg ES256 --signature-only TOKEN"
)]
pub(crate) struct VerifyArgs {
    /// The token, or - for standard input
    token: OsString,
    /// File with a JSON Web Key Set or one JSON Web Key
    #[arg(long, value_name = "FILE")]
    jwks: PathBuf,
    /// Allow this algorithm; may be repeated. Without it the key's own
    #[arg(long = "alg", value_name = "ALG")]
    algorithms: Vec<String>,
    /// Require this issuer (`iss`)
    #[arg(long)]
    issuer: Option<String>,
    /// Require this audience to be among `aud`
    #[arg(long)]
    audience: Option<String>,
    /// Require this type, for example at+jwt
    #[arg(long)]
    typ: Option<String>,
    /// Seconds by which clocks may differ, 60 at most
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=60))]
    leeway: u32,
    /// Decide as of this Unix second instead of now
    #[arg(long, value_name = "SECOND", allow_negative_numbers = true)]
    now: Option<i64>,
    /// Check the signature and nothing of the content, which may be any bytes
    #[arg(long, conflicts_with_all = ["issuer", "audience", "leeway", "now"])]
    signature_only: bool,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let keys = key_file::read(&args.jwks)?;
    let token = input::token(&args.token, MAX_TOKEN_LEN)?;
    if token.is_empty() {
        bail!("the token is empty");
    }
    let jws = Jws::parse(&token)?;
    let algorithm = jws.header().alg;
    let allowed = |name: &String| name.parse::<Algorithm>().is_ok_and(|a| a == algorithm);
    if !args.algorithms.is_empty() && !args.algorithms.iter().any(allowed) {
        bail!("the token says {algorithm}, which --alg does not allow ({})", args.algorithms.join(", "));
    }
    let payload = keys.verify(&jws)?;
    let typ = jws.header().typ.as_deref();
    if let Some(wanted) = &args.typ {
        claims::check_type(typ, wanted).map_err(anyhow::Error::msg)?;
    }
    if !args.signature_only {
        let expected = Expected {
            now: args.now.map_or_else(|| Clock::system().now(), Timestamp::from_secs),
            leeway: args.leeway,
            issuer: args.issuer.as_deref(),
            audience: args.audience.as_deref(),
        };
        let faults = Claims::parse(payload).map_err(anyhow::Error::msg)?.faults(typ, &expected);
        if let Some(fault) = faults.first() {
            bail!("{fault}");
        }
    }
    let mut out = Out::new();
    out.bytes(payload)?;
    out.finish()
}
