//! What the service manager is told (`sd_notify(3)`): ready, reloading, stopping, and that we live.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

/// The way to the service manager, if one asked for it with `NOTIFY_SOCKET`.
#[derive(Debug, Default)]
pub struct Notify {
    /// The socket and its address.
    manager: Option<(UnixDatagram, Address)>,
    /// How often it wants to hear from us at least.
    watchdog: Option<Duration>,
}

#[derive(Debug)]
enum Address {
    Path(PathBuf),
    #[cfg(target_os = "linux")]
    Abstract(std::os::unix::net::SocketAddr),
}

impl Notify {
    /// As the environment says.
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        let address = match address.to_str().and_then(|text| text.strip_prefix('@')) {
            #[cfg(target_os = "linux")]
            Some(name) => {
                use std::os::linux::net::SocketAddrExt as _;
                std::os::unix::net::SocketAddr::from_abstract_name(name).map(Address::Abstract)
            }
            _ => Ok(Address::Path(address.into())),
        };
        let open = || {
            let socket = UnixDatagram::unbound()?;
            // A manager that does not read stalls nothing.
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>((socket, address?))
        };
        match open() {
            Ok(manager) => Self {
                manager: Some(manager),
                watchdog: watchdog(
                    variable("WATCHDOG_USEC").as_deref(),
                    variable("WATCHDOG_PID").as_deref(),
                    std::process::id(),
                ),
            },
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used");
                Self::default()
            }
        }
    }

    /// The authority answers requests; `status` is for people.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
    }

    /// It takes over what has changed; [`Notify::ready`] follows.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It stops.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// It lives.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// How often to say [`Notify::alive`]; `None` if nobody asked.
    pub const fn alive_every(&self) -> Option<Duration> {
        self.watchdog
    }

    fn send(&self, state: &str) {
        let Some((socket, address)) = &self.manager else { return };
        let sent = match address {
            Address::Path(path) => socket.send_to(state.as_bytes(), path),
            #[cfg(target_os = "linux")]
            Address::Abstract(address) => socket.send_to_addr(state.as_bytes(), address),
        };
        if let Err(error) = sent {
            tracing::warn!(%error, state, "the service manager could not be told");
        }
    }
}

/// Half the time after which the manager would give us up (`sd_watchdog_enabled(3)`), if it watches this
/// very process.
fn watchdog(micros: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let micros: u64 = micros?.parse().ok().filter(|micros| *micros > 0)?;
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    Some(Duration::from_micros(micros / 2).max(Duration::from_millis(10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time() {
        assert_eq!(watchdog(Some("30000000"), None, 7), Some(Duration::from_secs(15)));
        assert_eq!(watchdog(Some("30000000"), Some("7"), 7), Some(Duration::from_secs(15)));
        assert_eq!(watchdog(Some("30000000"), Some("8"), 7), None);
        for bad in [None, Some("0"), Some("-1"), Some("soon")] {
            assert_eq!(watchdog(bad, None, 7), None);
        }
    }

    #[test]
    fn states_arrive_as_datagrams() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify =
            Notify { manager: Some((UnixDatagram::unbound().unwrap(), Address::Path(path))), watchdog: None };
        notify.ready("listening\non it");
        notify.reloading();
        notify.stopping();
        let mut buffer = [0; 256];
        let mut next = || {
            let n = manager.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..n].to_vec()).unwrap()
        };
        assert_eq!(next(), "READY=1\nSTATUS=listening on it");
        let reloading = next();
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        assert_eq!(next(), "STOPPING=1");
        drop(manager);
        // Nobody is there any more, and nothing happens.
        notify.alive();
    }
}
