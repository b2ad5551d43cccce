//! `reseal policies`.

use crate::folder::{Folder, FolderArgs};
use crate::output::Out;
use crate::words;
use anyhow::bail;
use clap::Subcommand;
use reseal_core::policy::{LostResponse, Policies, ended_by_change};
use reseal_core::{Client, Policy, PolicyKind};
use reseal_server::config::Config;
use reseal_store::Store as _;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PoliciesCommand {
    // Its help is with its arguments: a comment here would hide the long one.
    Check(CheckArgs),
}

/// Check the configuration's policies and say how many live sessions they would end.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Checks the policies of a configuration file and lists those in force, in words.\n\n\
        With a data folder it also says how many live sessions the policies would end, were they put in \
        force now. It ends none: `reseal serve` does, at its next start with that file. A client whose policy is \
        not configured is named; exit code 1.",
    after_help = "\
Examples:
  reseal policies check
  reseal policies check --config next.toml --data /var/lib/reseal --json"
)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: PoliciesCommand) -> anyhow::Result<()> {
    let PoliciesCommand::Check(args) = command;
    let config = args.folder.load()?;
    let policies = config.policies()?;
    let (sessions, missing) = if config.store.url.is_some() || config.store.data.exists() {
        let folder = args.folder.open_read_only().await?;
        (Some(count(&folder).await?), folder.clients_without_policy().await?)
    } else {
        (None, Vec::new())
    };
    let mut out = Out::new();
    if args.json {
        out.json(&as_json(&policies, sessions.as_ref(), &missing))?;
    } else {
        print(&mut out, &policies, (sessions.as_ref(), &config))?;
    }
    out.finish()?;
    match missing.first() {
        None => Ok(()),
        Some(Client { id, policy, .. }) => bail!(
            "client {id} uses policy {policy}, which is not configured, so `reseal serve` would not start: \
             add [policies.{policy}] or change the client"
        ),
    }
}

fn print(
    out: &mut Out,
    policies: &Policies,
    (sessions, config): (Option<&Sessions>, &Config),
) -> anyhow::Result<()> {
    for policy in policies.iter() {
        out.line(format_args!("{:12}{}", policy.name.as_str(), in_words(policy)))?;
    }
    out.line("")?;
    match sessions {
        None => {
            out.line(format_args!(
                "there is no data folder {} to compare with",
                config.store.data.display()
            ))?;
        }
        Some(Sessions { open, ended }) if ended.is_empty() => {
            out.line(format_args!("none of {} would end", words::count(*open, "live session")))?;
        }
        Some(Sessions { open, ended }) => {
            let total: u64 = ended.values().sum();
            out.line(format_args!(
                "{} of {} would end:",
                words::grouped(total),
                words::count(*open, "live session")
            ))?;
            for ((policy, reason), count) in ended {
                out.line(format_args!("  {policy:12}{} ({reason})", words::grouped(*count)))?;
            }
        }
    }
    Ok(())
}

/// What the policies would do to the sessions that live.
struct Sessions {
    open: u64,
    /// How many would end, by policy and reason.
    ended: BTreeMap<(String, &'static str), u64>,
}

async fn count(folder: &Folder) -> anyhow::Result<Sessions> {
    let mut counts = Sessions { open: 0, ended: BTreeMap::new() };
    let mut after = None;
    loop {
        let page = folder.store.open_sessions(after, 1000).await?;
        let Some(last) = page.last() else { return Ok(counts) };
        after = Some(last.id);
        let now = folder.now();
        for session in &page {
            // What has run out already is not ended by any change.
            if now >= session.idle_expires_at || now >= session.expires_at {
                continue;
            }
            counts.open += 1;
            if let Some(end) = ended_by_change(session, &folder.policies, now) {
                *counts.ended.entry((session.policy.to_string(), end.reason.as_str())).or_default() += 1;
            }
        }
    }
}

fn in_words(policy: &Policy) -> String {
    let say = words::duration;
    let idle = policy.idle_ttl.unwrap_or(policy.max_ttl);
    let end = format!("ends after {} unused, after {} in any case", say(idle), say(policy.max_ttl));
    match policy.kind {
        PolicyKind::Sliding => format!(
            "sliding: a token of {} that renews itself after {}; {end}",
            say(policy.access_ttl),
            say(policy.half_life())
        ),
        PolicyKind::Fixed => format!("fixed: one token of {}, then a new login", say(policy.access_ttl)),
        PolicyKind::Refresh => {
            let lost = match policy.lost_response {
                LostResponse::UntilUsed => "a lost answer is mended however late",
                LostResponse::GraceOnly => "a repeat after that counts as theft",
            };
            format!(
                "refresh: access tokens of {}, refresh tokens that rotate; a repeat within {} gets the \
                 same answer, {lost}; {end}",
                say(policy.access_ttl),
                say(policy.grace)
            )
        }
        PolicyKind::Cookie => {
            format!("cookie: an opaque cookie, written anew at most every {}; {end}", say(policy.half_life()))
        }
    }
}

fn as_json(policies: &Policies, sessions: Option<&Sessions>, missing: &[Client]) -> serde_json::Value {
    let secs = |d: Duration| d.as_secs();
    let policies: Vec<_> = policies
        .iter()
        .map(|p| {
            json!({
                "name": p.name,
                "kind": p.kind,
                "access_ttl": secs(p.access_ttl),
                "renew_after": p.renew_after,
                "idle_ttl": p.idle_ttl.map(secs),
                "max_ttl": secs(p.max_ttl),
                "grace": secs(p.grace),
                "lost_response": p.lost_response,
            })
        })
        .collect();
    let sessions = sessions.map(|s| {
        let by: Vec<_> = s
            .ended
            .iter()
            .map(|((policy, reason), count)| json!({ "policy": policy, "reason": reason, "sessions": count }))
            .collect();
        json!({ "live": s.open, "would_end": s.ended.values().sum::<u64>(), "by_policy": by })
    });
    let missing: Vec<_> = missing.iter().map(|c| json!({ "client_id": c.id, "policy": c.policy })).collect();
    json!({ "policies": policies, "missing": missing, "sessions": sessions })
}
