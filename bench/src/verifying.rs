//! What a resource server pays for a token: reseal-verify beside the bare signature check, the
//! `jsonwebtoken` crate and the npm package `fast-jwt`, in one run, on one thread each.

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reseal_core::event::{EndReason, Event, EventKind, LoggedEvent};
use reseal_core::{SessionId, Timestamp, UserId};
use reseal_jose::{Algorithm, JwkSet, KeyMaterial, SigningKey, VerifyingKeys};
use reseal_verify::Verifier;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "orders";
/// Entries in the feed's maps.
const ENTRIES: u32 = 1_000_000;
/// Verifications that are measured without a cache, and with it.
const TIMES: u32 = 20_000;
const CACHED_TIMES: u32 = 2_000_000;
/// Distinct tokens that a cached run goes round, so that it is not all in the processor's cache.
const TOKENS: u32 = 1000;

/// Runs it on a thread that does nothing else and prints the table.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(compare())
}

async fn compare() -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a key for this run")]
    let random = SystemRandom::new();
    let key = SigningKey::generate(Algorithm::Es256, &random)?;
    let tokens: Vec<String> = (0..TOKENS).map(|n| sign(&key, n, &random)).collect::<Result<_>>()?;
    let keys = VerifyingKeys::from_set(&JwkSet { keys: vec![key.public_jwk().clone()] });
    let KeyMaterial::Ec { x, y, .. } = &key.public_jwk().material else { bail!("not an elliptic curve") };
    let point = [&[4][..], &URL_SAFE_NO_PAD.decode(x)?, &URL_SAFE_NO_PAD.decode(y)?].concat();

    println!("verify: one token of {} characters, CPU time of its thread", tokens[0].len());
    let bare = bare(&tokens[0], &point)?;
    println!("  the bare ES256 check                     {bare:>8.2} us");

    let uncached = verifier(&keys, 0).await?;
    let first = timed(TIMES, || async { uncached.check(&tokens[0]).await.map(drop) }).await?;
    println!("  reseal-verify, first time                {first:>8.2} us  ({:.3} x bare)", first / bare);

    let cached = verifier(&keys, 2 * TOKENS as usize).await?;
    for token in &tokens {
        cached.check(token).await?;
    }
    let (one, many) = again(&cached, &tokens).await?;
    println!(
        "  reseal-verify, cached                    {one:>8.2} us  (going round {TOKENS} tokens {many:.2})"
    );
    fill(&cached);
    let (one, many) = again(&cached, &tokens).await?;
    println!(
        "  the same, 1 million entries in the maps  {one:>8.2} us  (going round {TOKENS} tokens {many:.2})"
    );

    let other = jsonwebtoken_crate(&tokens[0], (x, y)).await?;
    println!("  the crate jsonwebtoken, every time       {other:>8.2} us");
    match fast_jwt(&tokens[0], &point).await {
        Ok((first, cached)) => {
            println!("  npm fast-jwt, first time                 {first:>8.2} us");
            println!("  npm fast-jwt, cached                     {cached:>8.2} us");
        }
        Err(error) => println!("  npm fast-jwt: skipped ({error:#})"),
    }
    Ok(())
}

/// Checks tokens that are cached: one of them over and over, and all in turn.
async fn again(cached: &Verifier, tokens: &[String]) -> Result<(f64, f64)> {
    let one = timed(CACHED_TIMES, || async { cached.check(&tokens[0]).await.map(drop) }).await?;
    let mut next = tokens.iter().cycle();
    let many = timed(CACHED_TIMES, || {
        let token = next.next().map_or("", String::as_str);
        async move { cached.check(token).await.map(drop) }
    });
    Ok((one, many.await?))
}

/// A token as the authority makes them, with the claims that an application asks for.
fn sign(key: &SigningKey, n: u32, random: &SystemRandom) -> Result<String> {
    let claims = serde_json::json!({
        "iss": ISSUER,
        "sub": UserId::from_bytes(id(n, 1)),
        "aud": [ISSUER, AUDIENCE],
        "client_id": "app",
        "iat": 1_700_000_000,
        "exp": 4_000_000_000_u32,
        "jti": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "sid": SessionId::from_bytes(id(n, 2)),
        "rev": 7,
        "auth_time": 1_700_000_000,
        "acr": "aal2",
        "amr": ["pwd", "sms", "mfa"],
        "scope": "read write",
        "name": "Ada Lovelace",
        "email": "ada@example.com",
        "phone_number": "+4915112345678",
        "phone_number_verified": true,
        "roles": ["editor", "admin"],
    });
    Ok(key.sign("at+jwt", claims.to_string().as_bytes(), random)?)
}

async fn verifier(keys: &VerifyingKeys, cache: usize) -> Result<Verifier> {
    let builder = Verifier::builder(ISSUER).audience(AUDIENCE).keys(keys.clone()).cache(cache);
    Ok(builder.build().await?)
}

/// Half a million ended sessions and as many users whose claims changed; none of the tokens' own.
fn fill(verifier: &Verifier) {
    let until = Timestamp::from_secs(4_000_000_000);
    for n in 0..ENTRIES {
        let kind = if n % 2 == 0 {
            EventKind::SessionEnded { sid: SessionId::from_bytes(id(n, 3)), reason: EndReason::SignedOut }
        } else {
            EventKind::ClaimsChanged { sub: UserId::from_bytes(id(n, 4)), rev: 2 }
        };
        verifier.freshness().apply(&LoggedEvent { seq: u64::from(n) + 1, event: Event { kind, until } });
    }
}

/// Distinct 16 bytes.
fn id(n: u32, kind: u8) -> [u8; 16] {
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[&n.to_le_bytes()[..], &[kind]].concat());
    let mut id = [0; 16];
    id.copy_from_slice(&digest.as_ref()[..16]);
    id
}

fn bare(token: &str, point: &[u8]) -> Result<f64> {
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)?;
    let (signed, signature) = token.rsplit_once('.').context("a token has three parts")?;
    let signature = URL_SAFE_NO_PAD.decode(signature)?;
    let check = || key.verify_sig(signed.as_bytes(), &signature);
    for _ in 0..TIMES / 10 {
        check()?;
    }
    let before = cpu_nanos()?;
    for _ in 0..TIMES {
        check()?;
    }
    Ok((cpu_nanos()? - before) as f64 / 1e3 / f64::from(TIMES))
}

/// CPU time of one call in microseconds, after a warm-up.
async fn timed<E, F>(times: u32, mut call: impl FnMut() -> F) -> Result<f64>
where
    E: std::error::Error + Send + Sync + 'static,
    F: Future<Output = Result<(), E>>,
{
    for _ in 0..times / 10 {
        call().await?;
    }
    let before = cpu_nanos()?;
    for _ in 0..times {
        call().await?;
    }
    Ok((cpu_nanos()? - before) as f64 / 1e3 / f64::from(times))
}

async fn jsonwebtoken_crate(token: &str, (x, y): (&str, &str)) -> Result<f64> {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
    let key = DecodingKey::from_ec_components(x, y)?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    timed(TIMES, || {
        let checked = decode::<serde_json::Value>(token, &key, &validation).map(drop);
        async move { checked }
    })
    .await
}

/// Runs the peer under `bench/peers/fast-jwt`, installed by npm if it is not there yet.
async fn fast_jwt(token: &str, point: &[u8]) -> Result<(f64, f64)> {
    let folder = peers().join("fast-jwt");
    if !folder.join("node_modules").exists() {
        let npm = ["ci", "--no-audit", "--no-fund", "--silent"];
        let status = tokio::process::Command::new("npm").args(npm).current_dir(&folder).status().await?;
        anyhow::ensure!(status.success(), "npm ci failed");
    }
    // SubjectPublicKeyInfo of a P-256 key (RFC 5480 §2): a fixed head, then the point.
    const HEAD: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let der = base64::engine::general_purpose::STANDARD.encode([&HEAD[..], point].concat());
    let input = serde_json::json!({
        "token": token,
        "key": format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", &der[..64], &der[64..]),
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "times": TIMES,
    });
    let mut child = tokio::process::Command::new("node")
        .arg("verify.mjs")
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    child.stdin.take().context("no standard input")?.write_all(input.to_string().as_bytes()).await?;
    let output =
        tokio::time::timeout(std::time::Duration::from_secs(120), child.wait_with_output()).await??;
    anyhow::ensure!(output.status.success(), "it failed");
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let figure = |name: &str| figures[name].as_f64().context("no figure");
    Ok((figure("first")?, figure("cached")?))
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Nanoseconds that this thread has run, by the kernel.
fn cpu_nanos() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().context("schedstat is empty")?.parse()?)
}
