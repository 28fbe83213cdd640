//! Why there is no connection to NATS. Its client says that there is an error, and neither with whom nor which one.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::ServerAddr;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::reader::without_password;
use crate::config::value::list;

/// Longest time of a look at one server.
const LONGEST: Duration = Duration::from_secs(5);
/// Pause between two looks: the client tries again all the time, and its reason is the same.
const PAUSE: Duration = Duration::from_secs(30);
/// Most bytes of a server's first line.
const MOST_INFO: u64 = 64 * 1024;

/// Looks at the servers whenever the client is in `trouble` and has not connected since, and logs what is wrong. Ends
/// with the client.
pub(super) async fn tell(urls: String, trouble: Arc<Notify>, mut connects: watch::Receiver<u64>) {
    let mut client = connects.clone();
    let mut ended = pin!(async { while client.changed().await.is_ok() {} });
    loop {
        tokio::select! {
            () = trouble.notified() => {}
            () = &mut ended => return,
        }
        let before = *connects.borrow_and_update();
        for url in list(&urls) {
            let shown = without_password(&url);
            match look(&url).await {
                Err(why) => tracing::warn!(url = shown, error = why, "no connection to NATS"),
                Ok(()) => tracing::warn!(
                    url = shown,
                    "NATS can be reached and does not take us: WEIR_NATS_CREDENTIALS, user and password, or it is starting"
                ),
            }
        }
        // A new connection ends the silence: trouble after it is another one.
        let pause = timeout(PAUSE, connects.wait_for(|now| *now != before));
        if let Ok(Err(_)) = pause.await {
            return;
        }
    }
}

/// Connects as the client does: TCP, the server's first line, TLS where the URL or the server wants it.
async fn look(url: &str) -> Result<(), String> {
    let server: ServerAddr = url.parse().map_err(|error: std::io::Error| error.to_string())?;
    let looked = timeout(LONGEST, async {
        let stream = TcpStream::connect((server.host(), server.port()))
            .await
            .map_err(|error| error.to_string())?;
        let mut reader = BufReader::new(stream.take(MOST_INFO));
        let mut info = String::new();
        let read = reader
            .read_line(&mut info)
            .await
            .map_err(|error| error.to_string())?;
        if read == 0 || !info.starts_with("INFO ") {
            return Err("what answers there is no NATS server, or wants TLS before it says so".to_owned());
        }
        let wants = info.contains("\"tls_required\":true");
        if server.tls_required() && !wants && !info.contains("\"tls_available\":true") {
            return Err("the server offers no TLS: its URL begins with nats://".to_owned());
        }
        if wants || server.tls_required() {
            handshake(reader.into_inner().into_inner(), server.host()).await?;
        }
        Ok(())
    });
    let late = |_| Err(format!("no answer within {LONGEST:?}"));
    looked.await.unwrap_or_else(late)
}

async fn handshake(stream: TcpStream, host: &str) -> Result<(), String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(
            "TLS: this machine has no authorities that it trusts; SSL_CERT_FILE names some".to_owned(),
        );
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("TLS: {error}"))?;
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    shaken.map(drop).map_err(|error| format!("TLS: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests panic on failure")]

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::servers::{Nats, NatsOptions};

    /// Something that says this and hangs up.
    async fn says(line: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(line).await.unwrap();
            let _ = stream.read_buf(&mut Vec::new()).await;
        });
        address.to_string()
    }

    #[tokio::test]
    async fn the_reason_is_told() {
        crate::lifecycle::install_tls();
        let dir = tempfile::tempdir().unwrap();
        let nats = Nats::start(NatsOptions::new(dir.path())).await.unwrap();
        assert_eq!(look(&nats.url()).await, Ok(()));
        let tls = look(&nats.url().replace("nats://", "tls://")).await;
        assert!(tls.unwrap_err().contains("offers no TLS"));
        let closed = look("nats://127.0.0.1:1").await.unwrap_err();
        assert!(closed.contains("refused"), "{closed}");
        let other = look(&says(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await;
        assert!(other.unwrap_err().contains("no NATS server"));
        let broken = look(&says(b"INFO {\"tls_required\":true}\r\nno TLS").await).await;
        assert!(broken.unwrap_err().starts_with("TLS: "));
    }
}
