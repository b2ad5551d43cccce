//! Free ports that stay ours while their server is away.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the kernel takes the ports of outgoing connections: one of those could otherwise
/// sit on the port of a server that is being started again.
const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;

/// A free TCP port of 127.0.0.1, reserved while this lives.
///
/// The reservation is the UDP port of the same number, so it holds between processes and ends with ours.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reserved: UdpSocket,
}

impl Port {
    /// The next free one.
    ///
    /// # Panics
    /// When thousands in a row are taken.
    pub fn free() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes that start at the same time begin at different places.
        let start = std::process::id().wrapping_mul(211) % u32::from(COUNT);
        for _ in 0..COUNT {
            let next = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let number = FIRST + u16::try_from((start + next) % u32::from(COUNT)).unwrap();
            if let Ok(reserved) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number))
                && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
            {
                return Self { number, _reserved: reserved };
            }
        }
        panic!("no free port");
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its address on this machine.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

#[cfg(test)]
mod tests {
    use super::Port;
    use std::collections::HashSet;
    use std::net::TcpListener;

    #[test]
    fn ports_differ_and_can_be_listened_on() {
        let ports: Vec<Port> = (0..50).map(|_| Port::free()).collect();
        let numbers: HashSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), 50);
        let listeners: Vec<_> = ports.iter().map(|port| TcpListener::bind(port.addr()).unwrap()).collect();
        assert_eq!(listeners.len(), 50);
    }
}
