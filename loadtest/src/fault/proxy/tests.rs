#![allow(clippy::unwrap_used, reason = "tests panic on failure")]
use std::time::Instant;

use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A server that answers every byte with `add` more than it.
async fn server(add: u8) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    if stream.write_all(&[byte[0] + add]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

async fn ask(stream: &mut TcpStream, byte: u8) -> io::Result<u8> {
    stream.write_all(&[byte]).await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await?;
    Ok(answer[0])
}

#[tokio::test]
async fn bytes_pass_are_held_and_turned_to_another_server() {
    let proxy = Proxy::start(server(1).await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
    proxy.mode(Mode::Hold);
    let held = timeout(Duration::from_millis(100), ask(&mut stream, 5)).await;
    assert!(held.is_err(), "nothing passes");
    proxy.heal();
    let mut late = [0];
    timeout(SOON, stream.read_exact(&mut late))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(late[0], 6, "what waited arrives");
    proxy.turn_to(server(10).await);
    assert!(ask(&mut stream, 1).await.is_err(), "old connections break");
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut stream, 1).await.unwrap(), 11);
}

#[tokio::test]
async fn a_black_hole_takes_everything_and_breaks_when_it_ends() {
    let proxy = Proxy::start(server(1).await).await.unwrap();
    let mut old = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut old, 1).await.unwrap(), 2);
    proxy.mode(Mode::Drop);
    let mut new = TcpStream::connect(proxy.address).await.unwrap();
    for stream in [&mut old, &mut new] {
        let lost = timeout(Duration::from_millis(100), ask(stream, 5)).await;
        assert!(lost.is_err(), "taken, and never answered");
    }
    proxy.heal();
    for stream in [&mut old, &mut new] {
        assert!(timeout(SOON, ask(stream, 1)).await.unwrap().is_err());
    }
    let mut fresh = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut fresh, 1).await.unwrap(), 2);
}

#[tokio::test]
async fn connections_are_cut_refused_and_half_closed() {
    let proxy = Proxy::start(server(1).await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
    proxy.cut();
    assert!(timeout(SOON, ask(&mut stream, 1)).await.unwrap().is_err());
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut stream, 1).await.unwrap(), 2, "new ones are served");
    proxy.half_close();
    let mut end = [0];
    assert_eq!(timeout(SOON, stream.read(&mut end)).await.unwrap().unwrap(), 0);
    stream.write_all(&[1]).await.unwrap();
    proxy.mode(Mode::Refuse);
    if let Ok(mut stream) = TcpStream::connect(proxy.address).await {
        assert!(timeout(SOON, ask(&mut stream, 1)).await.unwrap().is_err());
    }
    proxy.heal();
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
}

#[tokio::test]
async fn bytes_are_late_and_few() {
    let proxy = Proxy::start(server(1).await).await.unwrap();
    proxy.set(Link {
        delay: Duration::from_millis(20),
        bytes_per_second: Some(100),
        ..Link::default()
    });
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let begun = Instant::now();
    stream.write_all(&[1; 20]).await.unwrap();
    let mut answers = [0; 20];
    timeout(SOON, stream.read_exact(&mut answers))
        .await
        .unwrap()
        .unwrap();
    assert!(
        begun.elapsed() >= Duration::from_millis(200),
        "20 bytes of 100 a second take a fifth of a second: {:?}",
        begun.elapsed()
    );
    assert_eq!(answers, [2; 20]);
}
