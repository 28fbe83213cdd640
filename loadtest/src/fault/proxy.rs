//! A TCP proxy between a client and a server that misbehaves on demand, while it runs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Most bytes passed on at once.
const CHUNK: usize = 16 * 1024;
/// How often a throttled connection passes a piece on.
const SLICES_PER_SECOND: u64 = 20;

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are passed on.
    #[default]
    Pass,
    /// They wait, and go on when the mode changes, as TCP does it over a short partition.
    Hold,
    /// They are taken and dropped: a black hole. A connection that has lost bytes breaks when the mode changes, and one
    /// made meanwhile has reached nobody.
    Drop,
    /// Connections break, and new ones are closed at once.
    Refuse,
}

/// How the proxy treats its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// What becomes of the bytes.
    pub mode: Mode,
    /// Wait before each piece is passed on, in each direction.
    pub delay: Duration,
    /// Most bytes a second of each connection and direction; `None` for as fast as it goes.
    pub bytes_per_second: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    port: u16,
    link: Link,
    /// Counts the times that all connections were broken.
    breaks: u64,
    /// Counts the times that the way to the clients was closed.
    half_closes: u64,
}

/// Passes connections on to one loopback port at a time. Dropping it breaks all of them.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    state: watch::Sender<State>,
    task: AbortHandle,
}

impl Proxy {
    /// Passes connections on to this port.
    pub async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (state, seen) = watch::channel(State {
            port,
            link: Link::default(),
            breaks: 0,
            half_closes: 0,
        });
        let task = tokio::spawn(accept(listener, seen)).abort_handle();
        Ok(Self { address, state, task })
    }

    /// Breaks all connections; new ones go to this port.
    pub fn turn_to(&self, port: u16) {
        self.state.send_modify(|state| {
            state.port = port;
            state.breaks += 1;
        });
    }

    /// Breaks all connections; new ones are treated as before.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.breaks += 1);
    }

    /// Treats connections, those that are there included, like this from now on.
    pub fn set(&self, link: Link) {
        self.state.send_modify(|state| {
            state.link = link;
            state.breaks += u64::from(link.mode == Mode::Refuse);
        });
    }

    /// The same, changing the mode only.
    pub fn mode(&self, mode: Mode) {
        let link = self.state.borrow().link;
        self.set(Link { mode, ..link });
    }

    /// Closes the way from the server to the client of every connection that there is: the client reads an end, while
    /// the server still gets what the client writes.
    pub fn half_close(&self) {
        self.state.send_modify(|state| state.half_closes += 1);
    }

    /// Passes everything on again.
    pub fn heal(&self) {
        self.set(Link::default());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, mut state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    let mut breaks = state.borrow().breaks;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                if state.borrow().link.mode != Mode::Refuse {
                    connections.spawn(serve(near, state.clone()));
                }
            }
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = state.borrow_and_update().breaks;
                if now != breaks {
                    breaks = now;
                    connections.shutdown().await;
                }
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut near: TcpStream, mut state: watch::Receiver<State>) {
    let State { port, link, .. } = *state.borrow();
    if link.mode == Mode::Drop {
        let swallowed = async {
            let mut sink = vec![0; CHUNK];
            while near.read(&mut sink).await.is_ok_and(|read| read > 0) {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = swallowed => {}
            _ = state.wait_for(|state| state.link.mode != Mode::Drop) => {}
        }
        return;
    }
    let _ = near.set_nodelay(true);
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return;
    };
    let _ = far.set_nodelay(true);
    let (near, far) = (near.into_split(), far.into_split());
    let up = pump(near.0, far.1, state.clone(), false);
    let down = pump(far.0, near.1, state, true);
    // One that fails breaks both; one that ends in order leaves the other be.
    let _ = tokio::try_join!(up, down);
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    to_client: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let half_closes = state.borrow().half_closes;
    let (mut lost, mut closed) = (false, false);
    loop {
        let State {
            link,
            half_closes: now,
            ..
        } = *state.borrow_and_update();
        if to_client && now != half_closes && !closed {
            closed = true;
            to.shutdown().await?;
        }
        if lost && link.mode != Mode::Drop {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if link.mode == Mode::Hold {
            changed(&mut state).await?;
            continue;
        }
        let room = link.bytes_per_second.map_or(CHUNK, |rate| {
            usize::try_from(rate / SLICES_PER_SECOND)
                .unwrap_or(CHUNK)
                .clamp(1, CHUNK)
        });
        let read = tokio::select! {
            read = from.read(&mut buffer[..room]) => read?,
            told = changed(&mut state) => { told?; continue }
        };
        let State { link, .. } = *state.borrow();
        if link.mode == Mode::Drop || closed {
            lost |= !closed;
            if read == 0 {
                changed(&mut state).await?;
            }
            continue;
        }
        if read == 0 {
            return to.shutdown().await;
        }
        let pace = link.bytes_per_second.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(read as f64 / rate.max(1) as f64)
        });
        tokio::time::sleep(link.delay + pace).await;
        to.write_all(&buffer[..read]).await?;
    }
}

async fn changed(state: &mut watch::Receiver<State>) -> io::Result<()> {
    state
        .changed()
        .await
        .map_err(|_| io::ErrorKind::BrokenPipe.into())
}

#[cfg(test)]
mod tests;
