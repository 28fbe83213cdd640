//! Asks a process in this container over HTTP whether it is well: `healthcheck PORT [PATH]`. Exit code 0 when it is. The
//! image has no shell and no HTTP client.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);
/// Most bytes of an answer: the list of what is not ready takes a few hundred.
const MOST: u64 = 64 * 1024;

fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).replace('\r', ""))
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(Ok(port)) = arguments.next().map(|port| port.parse()) else {
        eprintln!("usage: healthcheck PORT [PATH]: 8080 ingest, 8081 worker, 8082 scheduler; /health/ready");
        return ExitCode::from(64);
    };
    let path = arguments.next().unwrap_or_else(|| "/health/ready".into());
    match ask(port, &path) {
        // What is not ready stands in the body: `docker inspect` shows it.
        Ok(answer) => {
            println!("{answer}");
            ExitCode::from(u8::from(!answer.starts_with("HTTP/1.1 200 ")))
        }
        Err(error) => {
            println!("port {port} does not answer: {error}");
            ExitCode::FAILURE
        }
    }
}
