//! A network link that can be cut.

use crate::port::Port;
use std::net::SocketAddr;
use std::sync::OnceLock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A TCP relay to a server. It ends when dropped.
#[derive(Debug)]
pub struct Link {
    port: Port,
    state: watch::Sender<State>,
    /// What the relay has reached of what was asked.
    reached: watch::Receiver<State>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Open,
    /// Connections stay and are accepted; nothing passes.
    Hung,
    /// Connections are broken and refused.
    Cut,
    Gone,
}

impl Link {
    /// A relay to that address.
    pub fn to(target: SocketAddr) -> Self {
        let port = Port::free();
        let (state, wanted) = watch::channel(State::Open);
        let (tell, reached) = watch::channel(State::Gone);
        runtime().spawn(relay(port.addr(), target, wanted, tell));
        let link = Self { port, state, reached };
        link.wait(State::Open);
        link
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Breaks every connection and refuses new ones.
    pub fn cut(&self) {
        self.set(State::Cut);
    }

    /// Keeps connections, accepts new ones, passes nothing: a network that drops packets.
    pub fn hang(&self) {
        self.set(State::Hung);
    }

    /// Passes everything again, what was held back included.
    pub fn mend(&self) {
        self.set(State::Open);
    }

    fn set(&self, state: State) {
        self.state.send_replace(state);
        self.wait(state);
    }

    fn wait(&self, state: State) {
        crate::wait::until("the link changes", || (*self.reached.borrow() == state).then_some(()));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.send_replace(State::Gone);
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    })
}

async fn relay(
    addr: SocketAddr,
    target: SocketAddr,
    mut state: watch::Receiver<State>,
    tell: watch::Sender<State>,
) {
    loop {
        let now = *state.borrow_and_update();
        match now {
            State::Gone => return,
            State::Cut => {
                tell.send_replace(now);
                if state.changed().await.is_err() {
                    return;
                }
            }
            State::Open | State::Hung => {
                let listener = TcpListener::bind(addr).await.unwrap();
                accept(&listener, target, &mut state, &tell).await;
            }
        }
    }
}

/// Until the link is cut or gone.
async fn accept(
    listener: &TcpListener,
    target: SocketAddr,
    state: &mut watch::Receiver<State>,
    tell: &watch::Sender<State>,
) {
    loop {
        let now = *state.borrow_and_update();
        if matches!(now, State::Cut | State::Gone) {
            return;
        }
        tell.send_replace(now);
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                tokio::spawn(carry(stream, target, state.clone()));
            },
        }
    }
}

/// One connection, both ways.
async fn carry(near: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let both = async {
        let mut passing = state.clone();
        if !open(&mut passing).await {
            return;
        }
        let Ok(far) = TcpStream::connect(target).await else { return };
        drop((near.set_nodelay(true), far.set_nodelay(true)));
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::join!(pump(near_in, far_out, state.clone()), pump(far_in, near_out, state.clone()));
    };
    let mut broken = state.clone();
    tokio::select! {
        () = both => {}
        // Dropping them closes them.
        _ = broken.wait_for(|state| matches!(state, State::Cut | State::Gone)) => {}
    }
    state.mark_unchanged();
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        if !open(&mut state).await || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    // An end is news like any other.
    open(&mut state).await;
    drop(to.shutdown().await);
}

/// Waits until packets pass; false if never.
async fn open(state: &mut watch::Receiver<State>) -> bool {
    state.wait_for(|state| *state == State::Open).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::Link;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    /// A server that sends back what it gets.
    fn echo() -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let accepting = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            for stream in accepting.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        listener
    }

    fn say(stream: &mut TcpStream, word: u8) -> std::io::Result<u8> {
        stream.write_all(&[word])?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        Ok(answer[0])
    }

    #[test]
    fn it_passes_hangs_cuts_and_mends() {
        let server = echo();
        let link = Link::to(server.local_addr().unwrap());
        let mut stream = TcpStream::connect(link.addr()).unwrap();
        assert_eq!(say(&mut stream, 1).unwrap(), 1);
        link.hang();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        say(&mut stream, 2).unwrap_err();
        let mut second = TcpStream::connect(link.addr()).unwrap();
        second.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        say(&mut second, 3).unwrap_err();
        link.mend();
        for (stream, word) in [(&mut stream, 2), (&mut second, 3)] {
            stream.set_read_timeout(Some(crate::PATIENCE)).unwrap();
            let mut answer = [0];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer[0], word, "what was held back arrives");
        }
        link.cut();
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "it is broken");
        TcpStream::connect(link.addr()).unwrap_err();
        link.mend();
        let mut third = TcpStream::connect(link.addr()).unwrap();
        assert_eq!(say(&mut third, 4).unwrap(), 4);
        let addr = link.addr();
        drop(link);
        crate::until("it is gone", || TcpStream::connect(addr).is_err().then_some(()));
    }
}
