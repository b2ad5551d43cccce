//! The certificate of `[server.tls]`: whether it can be used, for how long, and for whom.

use super::Findings;
use reseal_server::clock::Clock;
use reseal_server::config::Config;
use reseal_server::listen::tls::{Expiry, Tls};

const CHECK: &str = "certificate";
const DAY: i64 = 86_400;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let Some(files) = &config.server.tls else { return };
    let tls = match Tls::open(files) {
        Ok(tls) => tls,
        Err(error) => return findings.fail(CHECK, error.to_string()),
    };
    let shown = files.certificate.display();
    let now = Clock::system().now().secs();
    let days = tls.expires_at().map(|at| at.saturating_sub(now) / DAY);
    match (tls.expiry(now), days) {
        (Expiry::Over, _) => {
            findings.fail(CHECK, format!("{shown} has expired; clients refuse it. Renew it"));
        }
        (Expiry::Early, _) => {
            findings
                .fail(CHECK, format!("{shown} does not hold yet; clients refuse it. Is the clock right?"));
        }
        (Expiry::Soon(left), _) => {
            findings.warn(CHECK, format!("{shown} expires in {} days; renew it", left / DAY));
        }
        (Expiry::Far, Some(days)) => findings.ok(CHECK, format!("{shown} holds for {days} more days")),
        (Expiry::Far, None) => findings.warn(CHECK, format!("{shown}: how long it holds cannot be read")),
    }
    if let Some(host) = tls.refused_host(config.issuer.as_deref().unwrap_or_default()) {
        findings.warn(CHECK, format!("{shown} is not for {host}, the issuer's host; clients refuse it"));
    }
    if tls.key_is_exposed() {
        let key = files.key.display();
        findings.warn(CHECK, format!("others than its owner and group can read {key}; run `chmod o= {key}`"));
    }
}
