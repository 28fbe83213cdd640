//! Servers that send more than anybody asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use analysis::{AnalysisError, Source};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::world::World;

const HASH: &str = "0123456789012345678901234567890123456789";

/// What a server tells without end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flood {
    Announcement,
    Capabilities,
    /// References, by the protocol of before.
    Advertised,
    /// References, by the protocol of today.
    Listed,
    /// Where a fetch ends that has not begun.
    Shallow,
    /// The same, on the band of data.
    ShallowOnBand,
    Pack,
}

fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// A server that floods, and how many bytes it has sent.
async fn server(flood: Flood) -> (Source, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/octo/hello", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let sent = counted.clone();
            // A client that goes away is no failure of the server.
            tokio::spawn(async move { answer(stream, flood, &sent).await.ok() });
        }
    });
    (Source::parse(&url).unwrap(), sent)
}

async fn answer(stream: TcpStream, flood: Flood, sent: &AtomicU64) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    let mut head = String::new();
    while stream.read_line(&mut head).await? > 2 {
        let last = head.lines().last().unwrap_or_default().to_ascii_lowercase();
        if let Some(value) = last.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let body = String::from_utf8_lossy(&body);
    let band = if flood == Flood::ShallowOnBand {
        "\u{1}"
    } else {
        ""
    };
    let (kind, begins, goes_on) = if head.starts_with("GET") {
        let begins = [
            line("# service=git-upload-pack\n"),
            "0000".to_owned(),
            line("version 2\n"),
            line("ls-refs\n"),
            line(if band.is_empty() {
                "fetch=shallow\n"
            } else {
                "fetch=shallow sideband-all\n"
            }),
        ];
        let (begins, goes_on) = match flood {
            Flood::Announcement => (begins[0].clone(), line("more of it\n")),
            Flood::Capabilities => (begins.concat(), line("and=more\n")),
            Flood::Advertised => {
                let first = line(&format!("{HASH} HEAD\0multi_ack side-band-64k shallow\n"));
                (
                    begins[..2].concat() + &first,
                    line(&format!("{HASH} refs/heads/x\n")),
                )
            }
            _ => (begins.concat() + "0000", String::new()),
        };
        ("advertisement", begins, goes_on)
    } else if body.contains("command=ls-refs") {
        let reference = line(&format!("{HASH} HEAD\n"));
        let flooded = flood == Flood::Listed;
        let goes_on = if flooded {
            line(&format!("{HASH} HEADs\n"))
        } else {
            String::new()
        };
        ("result", reference + if flooded { "" } else { "0000" }, goes_on)
    } else if flood == Flood::Pack {
        let begins = line("packfile\n") + &line("\u{1}PACK\0\0\0\u{2}\0\0\0\u{1}");
        // A blob of many bytes, as zeros that are not compressed.
        ("result", begins, line(&format!("\u{2}{}", "x".repeat(1000))))
    } else {
        let shallow = line(&format!("{band}shallow {HASH}\n"));
        ("result", line(&format!("{band}shallow-info\n")), shallow)
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/x-git-upload-pack-{kind}\r\n\r\n"
    );
    let stream = stream.get_mut();
    stream.write_all((head + &begins).as_bytes()).await?;
    let goes_on = goes_on.repeat(1000);
    while !goes_on.is_empty() {
        stream.write_all(goes_on.as_bytes()).await?;
        sent.fetch_add(goes_on.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_tells_without_end_is_left() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for flood in [
        Flood::Announcement,
        Flood::Capabilities,
        Flood::Advertised,
        Flood::Listed,
        Flood::Shallow,
        Flood::ShallowOnBand,
        Flood::Pack,
    ] {
        let mut world = World::new();
        world.settings.cache = Some(world.path().join("cache"));
        world.settings.allow_private = true;
        world.settings.fetch_bytes = 200 << 20;
        let (source, sent) = server(flood).await;
        let failed = world.run(&source, None).await.unwrap_err();
        let (bound, setting) = match flood {
            Flood::Pack => (world.settings.fetch_bytes, "fetch_bytes"),
            _ => (world.settings.reference_bytes, "reference_bytes"),
        };
        assert!(
            matches!(failed, AnalysisError::TooMuch { setting: named, .. } if named == setting),
            "{flood:?}: {failed:?}"
        );
        assert!(!failed.is_transient(), "{flood:?}");
        // What was on its way counts too: the system holds some MiB of it.
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < bound + (32 << 20), "{flood:?}: {sent} bytes");
        assert_eq!(std::fs::read_dir(world.path().join("cache")).unwrap().count(), 0);
    }
}
