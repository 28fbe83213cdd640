//! A TCP proxy whose target can be changed, as a failover does it.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Passes connections on to one port at a time.
pub(super) struct Proxy {
    /// Where it listens.
    pub(super) address: SocketAddr,
    target: watch::Sender<u16>,
    task: AbortHandle,
}

impl Proxy {
    /// Passes connections on to this port.
    pub(super) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, port) = watch::channel(port);
        let task = tokio::spawn(pass(listener, port)).abort_handle();
        Self {
            address,
            target,
            task,
        }
    }

    /// Breaks all connections; new ones go to this port.
    pub(super) fn turn_to(&self, port: u16) {
        self.target.send_replace(port);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(listener: TcpListener, mut port: watch::Receiver<u16>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut near, _)) = accepted else { continue };
                let to = *port.borrow();
                connections.spawn(async move {
                    let _ = near.set_nodelay(true);
                    if let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await {
                        let _ = far.set_nodelay(true);
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
            changed = port.changed() => {
                if changed.is_err() {
                    return;
                }
                connections.shutdown().await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}
